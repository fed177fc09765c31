"""A caller's own signed GetCallerIdentity request: rebuilt, sent to AWS STS alone, believed then.

The table tests use a recording sender, so that "refused" means "and nobody was called". The last
ones use the embedded cloud's AWS STS, with requests that google-auth and botocore signed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import botocore.loaders
import google.auth.aws
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from localcloud.aws import sts
from localcloud.aws.accounts import AccessKey, Accounts
from localcloud.world import World
from tests.unit.issuing import NOW, Recorder, deadline
from tests.unit.sending import Embedded
from tokenvend.caller.aws_request import MAX_TOKEN, verify_aws_request
from tokenvend.errors import (
    InvalidRequest,
    RateLimited,
    TokenvendError,
    Unauthenticated,
    UpstreamUnavailable,
)
from tokenvend.identity import aws_sts
from tokenvend.identity.aws_sts import MAX_ANSWER
from tokenvend.model import AwsCaller, Secret
from tokenvend.transport import Answer

if TYPE_CHECKING:
    from tokenvend.transport import Sender

ACCOUNT = "111122223333"
AUDIENCE = "https://tokens.acme.example"
PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/aws"
HOST = "sts.us-east-1.amazonaws.com"
QUERY = "Action=GetCallerIdentity&Version=2011-06-15"
URL = f"https://{HOST}?{QUERY}"
REBUILT = f"https://{HOST}/?{QUERY}"
TARGET = "x-goog-cloud-target-resource"
STAMP = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW))
SIGNED = f"host;x-amz-date;x-amz-security-token;{TARGET}"
REGIONS = {aws_sts.host(region): region for region in ("us-east-1", "eu-west-1")}
ETL = AwsCaller(f"arn:aws:iam::{ACCOUNT}:role/etl", ACCOUNT, "etl", "session-1")


def authorization(
    signed: str = SIGNED, *, region: str = "us-east-1", service: str = "sts", day: str = STAMP[:8]
) -> str:
    """An Authorization header that is well-formed; only AWS could tell that nobody made it."""
    return (
        f"AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE00/{day}/{region}/{service}/aws4_request, "
        f"SignedHeaders={signed}, Signature={'0' * 64}"
    )


def headers(**changes: str | None) -> list[dict[str, str]]:
    """The headers of a good request; a change of None leaves one out, `_` stands for `-`."""
    fields: dict[str, str | None] = {
        "Authorization": authorization(),
        "host": HOST,
        "x-amz-date": STAMP,
        TARGET: AUDIENCE,
        "x-amz-security-token": "session/token+==",
    }
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [{"key": name, "value": value} for name, value in fields.items() if value is not None]


def encode(document: Any) -> str:
    """The subject token that holds this JSON."""
    return quote(document if isinstance(document, str) else json.dumps(document), safe="")


def subject_token(**changes: Any) -> str:
    """A good subject token with some members changed."""
    return encode({"url": URL, "method": "POST", "headers": headers(), **changes})


def identity(
    arn: str = f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/session-1", account: str = ACCOUNT
) -> str:
    """AWS STS's answer, as its API Reference shows it."""
    return (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n'
        f"  <GetCallerIdentityResult>\n  <Arn>{arn}</Arn>\n  <UserId>AROA:session-1</UserId>\n"
        f"  <Account>{account}</Account>\n  </GetCallerIdentityResult>\n"
        "  <ResponseMetadata><RequestId>id</RequestId></ResponseMetadata>\n"
        "</GetCallerIdentityResponse>"
    )


def answer(body: str, status: int = 200, kind: str = "text/xml") -> Answer:
    """What AWS STS sends."""
    return Answer(status, {"content-type": kind}, body.encode())


def error(code: str, status: int) -> Answer:
    """AWS STS's error."""
    text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code></Error></ErrorResponse>"
    return answer(text, status)


def who(
    token: str,
    sender: Sender | None = None,
    now: float = NOW,
    *,
    audience: str = AUDIENCE,
    require_signed_audience: bool = True,
) -> AwsCaller:
    """The caller behind a subject token; AWS STS knows it unless a sender says otherwise."""
    sender = sender or Recorder({REBUILT: answer(identity())})
    return verify_aws_request(
        Secret(token),
        audience,
        now,
        deadline(),
        regions=REGIONS,
        require_signed_audience=require_signed_audience,
        sender=sender,
    )


def assert_refused_unheard(
    token: str,
    error_type: type[TokenvendError] = InvalidRequest,
    *,
    require_signed_audience: bool = True,
) -> None:
    """Refused with this error, and no network call was made."""
    sender = Recorder({REBUILT: answer(identity())})
    with pytest.raises(error_type) as refusal:
        who(token, sender, require_signed_audience=require_signed_audience)
    assert sender.calls == []
    assert "ASIAEXAMPLE" not in f"{refusal.value} {refusal.value.cause}"


# --- what is accepted, and what AWS then sees ----------------------------------------------------


def test_a_signed_request_makes_its_role_the_caller() -> None:
    assert who(subject_token()) == ETL


def test_aws_sees_a_request_rebuilt_from_signed_headers_alone() -> None:
    sender = Recorder({REBUILT: answer(identity())})
    who(subject_token(), sender)
    (call,) = sender.calls
    assert (call.method, call.url, call.body) == ("POST", REBUILT, b"")
    assert call.headers == {
        "authorization": authorization(),
        "x-amz-date": STAMP,
        "x-amz-security-token": "session/token+==",
        TARGET: AUDIENCE,
    }


SPELLINGS: dict[str, dict[str, Any]] = {
    "path /": {"url": REBUILT},
    "parameters the other way round": {
        "url": f"https://{HOST}/?Version=2011-06-15&Action=GetCallerIdentity"
    },
    "header names in another case": {
        "headers": [{"value": h["value"], "key": h["key"].title()} for h in headers()]
    },
    "target listed twice, as by Java": {
        "headers": [*headers(), {"key": TARGET, "value": AUDIENCE}]
    },
    "payload hash": {
        "headers": headers(
            Authorization=authorization(
                f"host;x-amz-content-sha256;x-amz-date;x-amz-security-token;{TARGET}"
            ),
            x_amz_content_sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        )
    },
    "long-lived keys": {
        "headers": headers(
            Authorization=authorization(f"host;x-amz-date;{TARGET}"), x_amz_security_token=None
        )
    },
}


def test_what_google_s_sdks_vary_is_accepted(subtests: pytest.Subtests) -> None:
    for changes in SPELLINGS.values():
        with subtests.test(changes=changes):
            assert who(subject_token(**changes)) == ETL


def test_go_s_escaped_ampersand_and_a_plus_for_a_blank_are_accepted() -> None:
    text = json.dumps({"url": URL, "method": "POST", "headers": headers()})
    assert who(quote(text.replace("&", "\\u0026"), safe="").replace("%20", "+")) == ETL


@pytest.mark.parametrize("age", [-60, 0, 299, 300])
def test_a_request_counts_for_five_minutes(age: int) -> None:
    assert who(subject_token(), now=NOW + age) == ETL


# --- rows 1 to 7 and 11 of the threats: refused without a call -----------------------------------

HOSTS = [
    "sts.amazonaws.com.evil",
    f"{HOST}.evil.example",
    f"evil.example/{HOST}",
    f"user@{HOST}",
    f"{HOST}@evil.example",
    f"{HOST}:443",
    f"{HOST}:8443",
    HOST.upper(),
    f"{HOST}.",
    "sts。us-east-1.amazonaws.com",
    "sts.us-e\u0430st-1.amazonaws.com",
    "sts.us-east-1%2eamazonaws.com",
    "iam.amazonaws.com",
    "ec2.us-east-1.amazonaws.com",
    "169.254.169.254",
    "localhost",
    "",
    f"{HOST}\\@evil.example",
    f"{HOST}\t",
    f" {HOST}",
]


def test_row_1_a_host_outside_the_table_is_refused(subtests: pytest.Subtests) -> None:
    for host in HOSTS:
        with subtests.test(host=host):
            assert_refused_unheard(
                subject_token(url=f"https://{host}/?{QUERY}", headers=headers(host=host))
            )
            assert_refused_unheard(subject_token(url=f"https://{host}/?{QUERY}"))


def test_row_1_another_scheme_path_or_a_fragment_is_refused(subtests: pytest.Subtests) -> None:
    for url in [
        f"http://{HOST}/?{QUERY}",
        f"HTTPS://{HOST}/?{QUERY}",
        f"//{HOST}/?{QUERY}",
        f"https://{HOST}/path?{QUERY}",
        f"https://{HOST}//?{QUERY}",
        f"https://{HOST}/%2e?{QUERY}",
        f"https://{HOST}/?{QUERY}#",
        f"https://{HOST}/#?{QUERY}",
        f"https://{HOST}/",
        f"\nhttps://{HOST}/?{QUERY}",
        f"https://{HOST}/?{QUERY}\r\nX: y",
        "",
        None,
        [URL],
    ]:
        with subtests.test(url=url):
            assert_refused_unheard(subject_token(url=url))


@pytest.mark.parametrize("region", ["eu-central-1", "cn-north-1", "us-gov-west-1", "aws-global"])
def test_row_2_a_region_that_is_not_configured_is_refused(region: str) -> None:
    host = f"sts.{region}.amazonaws.com"
    fields = headers(Authorization=authorization(region=region), host=host)
    assert_refused_unheard(subject_token(url=f"https://{host}?{QUERY}", headers=fields))


def test_row_2_a_scope_for_another_region_than_the_host_s_is_refused() -> None:
    fields = headers(Authorization=authorization(region="eu-west-1"))
    assert_refused_unheard(subject_token(headers=fields))


def test_row_3_a_method_other_than_post_is_refused(subtests: pytest.Subtests) -> None:
    for method in ["GET", "post", "PUT", "POST ", "", None, ["POST"]]:
        with subtests.test(method=method):
            assert_refused_unheard(subject_token(method=method))


def test_row_4_another_action_or_any_other_spelling_of_the_parameters_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for query in [
        "Action=AssumeRole&Version=2011-06-15",
        "Action=GetCallerIdentity",
        "Action=GetCallerIdentity&Version=2010-05-08",
        f"{QUERY}&Action=GetCallerIdentity",
        f"{QUERY}&Action=AssumeRole",
        f"{QUERY}&X=1",
        f"{QUERY}&",
        f"&{QUERY}",
        f"{QUERY};Action=AssumeRole",
        "action=GetCallerIdentity&Version=2011-06-15",
        "Action=getcalleridentity&Version=2011-06-15",
        "%41ction=GetCallerIdentity&Version=2011-06-15",
        "Action=GetCallerIdentit%79&Version=2011-06-15",
        f"{QUERY}&X-Amz-Signature=00",
        "",
    ]:
        with subtests.test(query=query):
            assert_refused_unheard(subject_token(url=f"https://{HOST}/?{query}"))


@pytest.mark.parametrize("extra", [{"body": "Action=AssumeRole"}, {"data": ""}, {"URL": URL}])
def test_row_4_an_action_split_over_url_and_body_is_refused(extra: dict[str, str]) -> None:
    assert_refused_unheard(subject_token(**extra))


def test_row_4_a_member_named_twice_is_refused() -> None:
    document = json.dumps({"url": URL, "method": "POST", "headers": headers()})
    # The good one last too: that is the one a lenient reader takes.
    assert_refused_unheard(encode('{"url": "https://evil.example/", ' + document[1:]))
    assert_refused_unheard(encode(document[:-1] + ', "url": "https://evil.example/"}'))


def test_row_5_a_request_for_another_audience_is_refused(subtests: pytest.Subtests) -> None:
    for audience in [
        "https://other.example",
        AUDIENCE + "/",
        AUDIENCE.upper(),
        f"{AUDIENCE},{AUDIENCE}",
        f"{AUDIENCE},https://other.example",
        PROVIDER,
        f"https:{PROVIDER}",
    ]:
        with subtests.test(audience=audience):
            fields = headers(**{TARGET: audience})
            assert_refused_unheard(subject_token(headers=fields), Unauthenticated)
            assert_refused_unheard(
                subject_token(headers=fields), Unauthenticated, require_signed_audience=False
            )


def test_row_5_a_request_for_googles_provider_is_refused_though_it_were_our_name() -> None:
    for name in (PROVIDER, f"https:{PROVIDER}"):
        token = subject_token(headers=headers(**{TARGET: name}))
        with pytest.raises(Unauthenticated, match="Google provider"):
            who(token, audience=name)


def test_row_5_a_request_without_audience_or_with_two_is_refused() -> None:
    assert_refused_unheard(subject_token(headers=headers(**{TARGET: None})))
    assert_refused_unheard(subject_token(headers=headers(**{TARGET: f"{AUDIENCE}, {AUDIENCE}"})))
    for other in ("https://other.example", PROVIDER):
        second = {"key": TARGET.upper(), "value": other}
        assert_refused_unheard(subject_token(headers=[*headers(), second]))
        assert_refused_unheard(subject_token(headers=[second, *headers()]))


def test_row_5_an_unsigned_audience_is_refused_unless_the_operator_opted_in() -> None:
    unsigned = authorization("host;x-amz-date;x-amz-security-token")
    token = subject_token(headers=headers(Authorization=unsigned))
    assert_refused_unheard(token, Unauthenticated)
    sender = Recorder({REBUILT: answer(identity())})
    assert who(token, sender, require_signed_audience=False) == ETL
    assert TARGET not in sender.calls[0].headers


def test_row_6_a_header_we_do_not_know_is_refused(subtests: pytest.Subtests) -> None:
    for name in [
        "X-Amz-Target",
        "X-Amz-Algorithm",
        "Accept",
        "Content-Type",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-Host",
        ":authority",
        "host ",
        "x-amz-date\r\nx-evil: y",
        "",
    ]:
        with subtests.test(name=name):
            fields = [*headers(), {"key": name, "value": "x"}]
            assert_refused_unheard(subject_token(headers=fields))


def test_row_6_a_line_break_in_a_value_is_refused(subtests: pytest.Subtests) -> None:
    for name in [h["key"] for h in headers()]:
        with subtests.test(name=name):
            for tail in ("\r\nX-Evil: y", "\n", "\r", "\0", "é"):
                fields = [
                    {**h, "value": h["value"] + tail} if h["key"] == name else h for h in headers()
                ]
                assert_refused_unheard(subject_token(headers=fields))


def test_row_6_a_header_given_twice_is_refused(subtests: pytest.Subtests) -> None:
    for name in [h["key"] for h in headers() if h["key"] != TARGET]:
        with subtests.test(name=name):
            twice = [*headers(), next(h for h in headers() if h["key"] == name)]
            assert_refused_unheard(subject_token(headers=twice))


SHAPES: dict[str, Any] = {
    "no list": {"host": HOST},
    "null": None,
    "texts": ["host"],
    "value is a number": [{"key": "host", "value": 1}],
    "value is a list": [{"key": "host", "value": [HOST]}],
    "key missing": [{"value": HOST}],
    "key and more": [{"key": "host", "value": HOST, "x": 1}],
    "none": [],
    "no host": headers(host=None),
    "no date": headers(x_amz_date=None),
    "no authorization": headers(Authorization=None),
    "host of another region": headers(host="sts.eu-west-1.amazonaws.com"),
    "payload hash of something": headers(x_amz_content_sha256="0" * 64),
}


def test_row_6_headers_of_another_shape_are_refused(subtests: pytest.Subtests) -> None:
    for fields in SHAPES.values():
        with subtests.test(fields=fields):
            assert_refused_unheard(subject_token(headers=fields))


def test_row_6_a_signature_that_covers_too_little_or_what_is_not_there_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for signed in [
        f"x-amz-date;x-amz-security-token;{TARGET}",
        f"host;x-amz-security-token;{TARGET}",
        f"host;x-amz-date;{TARGET}",
        f"host;host;x-amz-date;x-amz-security-token;{TARGET}",
        f"accept;host;x-amz-date;x-amz-security-token;{TARGET}",
        f"host;x-amz-date;x-amz-security-token;{TARGET};",
        "",
    ]:
        with subtests.test(signed=signed):
            assert_refused_unheard(
                subject_token(headers=headers(Authorization=authorization(signed)))
            )


AUTHORIZATIONS = [
    authorization(service="iam"),
    authorization(service="s3"),
    authorization().replace("aws4_request", "aws5_request"),
    authorization().replace("HMAC", "ECDSA-P256"),
    authorization().replace("0" * 64, "0" * 63),
    authorization().replace("0" * 64, "0" * 64 + ", Signature=" + "1" * 64),
    authorization() + "," + authorization(),
    "Bearer token",
    " ",
]


def test_row_7_a_scope_for_another_service_or_a_malformed_signature_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for value in AUTHORIZATIONS:
        with subtests.test(value=value):
            assert_refused_unheard(subject_token(headers=headers(Authorization=value)))


def test_row_7_a_date_too_old_or_in_the_future_is_refused(subtests: pytest.Subtests) -> None:
    for age in [-61, 301, 86_400, -86_400]:
        with subtests.test(age=age):
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW - age))
            fields = headers(Authorization=authorization(day=stamp[:8]), x_amz_date=stamp)
            assert_refused_unheard(subject_token(headers=fields), Unauthenticated)


def test_row_7_a_scope_of_another_day_than_the_date_is_refused() -> None:
    fields = headers(Authorization=authorization(day="20270101"))
    assert_refused_unheard(subject_token(headers=fields), Unauthenticated)


def test_row_7_a_malformed_date_is_refused(subtests: pytest.Subtests) -> None:
    for date in ["20270199T000000Z", "20270115T250000Z", "2027-01-15T08:00:00Z", "1800000000", ""]:
        with subtests.test(date=date):
            assert_refused_unheard(subject_token(headers=headers(x_amz_date=date)))


def test_row_8_the_same_request_may_come_again_within_its_five_minutes() -> None:
    """Google's Node client repeats it on a 5xx; the documentation says so."""
    sender = Recorder({REBUILT: answer(identity())})
    assert who(subject_token(), sender) == who(subject_token(), sender) == ETL
    assert len(sender.calls) == 2


def test_row_11_an_oversized_subject_token_is_refused_before_decoding() -> None:
    assert_refused_unheard("%" * (MAX_TOKEN + 1))
    assert_refused_unheard(subject_token() + "+" * MAX_TOKEN)


def test_what_is_not_url_encoded_json_is_refused(subtests: pytest.Subtests) -> None:
    for token in [
        "",
        "%",
        "%ff%fe",
        "\ud800",
        json.dumps([1]),
        encode("[" * 4000),
        encode("null"),
        encode('{"url": NaN}'),
        "eyJhbGciOiJub25lIn0.e30.",
        encode(subject_token()),
    ]:
        with subtests.test(token=token):
            assert_refused_unheard(token)


# --- row 9: what AWS STS answers -----------------------------------------------------------------

GOOD = identity()
RESULT = GOOD[GOOD.index("<GetCallerIdentityResult>") : GOOD.index("  <ResponseMetadata>")]
UNUSABLE: dict[str, Answer] = {
    "redirect": Answer(302, {"location": "https://evil.example/"}, b""),
    "created": answer(GOOD, 201),
    "json": answer('{"GetCallerIdentityResponse": {}}', kind="application/json"),
    "html": answer(GOOD, kind="text/html"),
    "no type": Answer(200, {}, GOOD.encode()),
    "leading junk": answer("junk" + GOOD),
    "trailing junk": answer(GOOD + "junk"),
    "two documents": answer(GOOD + GOOD),
    "two results": answer(GOOD.replace(RESULT, RESULT + RESULT)),
    "no result": answer(GOOD.replace(RESULT, "")),
    "result deeper": answer(GOOD.replace(RESULT, f"<X>{RESULT}</X>")),
    "two ARNs": answer(GOOD.replace("<Arn>", "<Arn>arn:aws:iam::1:root</Arn><Arn>")),
    "an element in the ARN": answer(GOOD.replace("</Arn>", "<x/></Arn>")),
    "empty ARN": answer(identity(arn="")),
    "empty account": answer(identity(account="")),
    "no account": answer(re.sub("<Account>.*</Account>", "", GOOD)),
    "another namespace": answer(GOOD.replace("2011-06-15", "2010-05-08")),
    "another answer": answer(GOOD.replace("GetCallerIdentityResponse", "GetUserResponse")),
    "DTD": answer("<!DOCTYPE x>" + GOOD),
    "entity": answer('<!DOCTYPE x [<!ENTITY e "arn">]>' + GOOD.replace("arn:", "&e;:")),
    "unknown entity": answer(GOOD.replace("arn:", "&e;:")),
    "too large": answer(GOOD + " " * MAX_ANSWER),
    "not UTF-8": Answer(200, {"content-type": "text/xml"}, GOOD.encode("utf-16")),
    "empty": answer(""),
    "another partition": answer(identity(f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/etl/s-1")),
    "internal failure": error("InternalFailure", 500),
    "unavailable": error("ServiceUnavailable", 503),
}


def test_row_9_an_answer_that_is_not_exactly_one_identity_is_no_caller(
    subtests: pytest.Subtests,
) -> None:
    for page in UNUSABLE.values():
        with subtests.test(page=page):
            sender = Recorder({REBUILT: page})
            with pytest.raises(UpstreamUnavailable) as refusal:
                who(subject_token(), sender)
            assert sender.urls == [REBUILT]
            assert "arn:" not in f"{refusal.value} {refusal.value.cause}"


def test_row_9_throttling_at_aws_is_429_and_not_401(
    subtests: pytest.Subtests,
) -> None:
    for page in [
        error("Throttling", 400),
        error("ThrottlingException", 400),
        error("RequestLimitExceeded", 503),
        answer("", 429),
    ]:
        with subtests.test(page=page), pytest.raises(RateLimited):
            who(subject_token(), Recorder({REBUILT: page}))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SignatureDoesNotMatch", 403),
        ("InvalidClientTokenId", 403),
        ("ExpiredToken", 403),
        ("IncompleteSignature", 400),
    ],
)
def test_a_signature_aws_does_not_accept_is_nobody_s(code: str, status: int) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        who(subject_token(), Recorder({REBUILT: error(code, status)}))
    assert refusal.value.cause == f"AWS STS answered {status}, {code}"


# --- row 10: whom AWS STS names ------------------------------------------------------------------


def test_row_10_a_user_whose_path_imitates_an_assumed_role_stays_a_user() -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:user/assumed-role/etl/session-1"
    caller = who(subject_token(), Recorder({REBUILT: answer(identity(arn))}))
    assert caller == AwsCaller(arn, ACCOUNT)


@pytest.mark.parametrize(
    ("arn", "account"),
    [
        (f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT),
        (f"arn:aws:sts::{ACCOUNT}:federated-user/etl", ACCOUNT),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/session-1", "444455556666"),
    ],
)
def test_row_10_root_a_federated_user_and_another_account_are_refused(
    arn: str, account: str
) -> None:
    with pytest.raises(Unauthenticated):
        who(subject_token(), Recorder({REBUILT: answer(identity(arn, account))}))


# --- settings ------------------------------------------------------------------------------------


def test_every_region_s_host_is_the_one_botocore_calls() -> None:
    partitions = botocore.loaders.Loader().load_data("endpoints")["partitions"]
    expected = {
        f"sts.{region}.{partition['dnsSuffix']}": region
        for partition in partitions
        if partition["partition"] in {"aws", "aws-cn", "aws-us-gov"}
        for region in partition["regions"]
    }
    assert {aws_sts.host(region): region for region in expected.values()} == expected
    assert len(expected) > 30


# --- any input -----------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
ENTRY = st.fixed_dictionaries(
    {"key": st.sampled_from([h["key"] for h in headers()]) | st.text(), "value": st.text()}
)


@given(st.text())
def test_any_text_is_refused_and_never_crashes(text: str) -> None:
    assert_refused_unheard(text)


@given(
    st.fixed_dictionaries(
        {
            "url": st.just(URL) | JSON,
            "method": st.just("POST") | JSON,
            "headers": JSON | st.lists(ENTRY) | st.lists(ENTRY).map(lambda more: headers() + more),
        }
    )
)
def test_any_document_either_is_the_request_or_is_refused(document: dict[str, Any]) -> None:
    sender = Recorder({REBUILT: answer(identity())})
    try:
        who(encode(document), sender)
    except (InvalidRequest, Unauthenticated):
        assert sender.calls == []
    else:
        assert sender.urls == [REBUILT]


# --- judged by the embedded AWS STS, with what google-auth and botocore sign ---------------------


def embedded(accounts: Accounts) -> Embedded:
    return Embedded(sts.site(accounts, "us-east-1"))


class Supplier(google.auth.aws.AwsSecurityCredentialsSupplier):
    """google-auth's own way to be given AWS keys."""

    def __init__(self, key: AccessKey) -> None:
        self.key = key

    def get_aws_security_credentials(self, context: Any, request: Any) -> Any:
        return google.auth.aws.AwsSecurityCredentials(self.key.id, self.key.secret, self.key.token)

    def get_aws_region(self, context: Any, request: Any) -> str:
        return "us-east-1"


def by_google_auth(key: AccessKey) -> str:
    """The subject token google-auth makes; it leaves the target resource unsigned."""
    make: Any = google.auth.aws.Credentials
    credentials = make(
        audience=AUDIENCE,
        subject_token_type="urn:ietf:params:aws:token-type:aws4_request",
        token_url="https://tokens.acme.example/v1/token",
        aws_security_credentials_supplier=Supplier(key),
    )
    token: str = credentials.retrieve_subject_token(None)
    return token


def by_botocore(key: AccessKey) -> str:
    """The same request signed by botocore, the target resource among the signed headers."""
    request = AWSRequest("POST", URL, headers={TARGET: AUDIENCE, "Host": HOST})
    SigV4Auth(Credentials(key.id, key.secret, key.token), "sts", "us-east-1").add_auth(request)
    fields = [{"key": name, "value": value} for name, value in request.headers.items()]
    return encode({"url": URL, "method": "POST", "headers": fields})


@pytest.mark.parametrize(
    ("sign", "signed"), [(by_google_auth, False), (by_botocore, True), (by_botocore, False)]
)
def test_the_embedded_aws_sts_confirms_what_google_auth_and_botocore_sign(
    sign: Callable[[AccessKey], str], signed: bool
) -> None:
    accounts = Accounts(World.load().aws, time.time)
    key = accounts.session("etl", "session-1")
    now = time.time()
    cloud = embedded(accounts)
    caller = who(sign(key), cloud, now, require_signed_audience=signed)
    assert caller == ETL


def test_the_embedded_aws_sts_refuses_a_changed_signature() -> None:
    accounts = Accounts(World.load().aws, time.time)
    token = by_botocore(accounts.session("etl", "session-1"))
    wrong = re.sub("Signature%3D[0-9a-f]{4}", "Signature%3D0000", token)
    assert wrong != token
    with pytest.raises(Unauthenticated) as refusal:
        who(wrong, embedded(accounts), now=time.time())
    assert "SignatureDoesNotMatch" in refusal.value.cause


def test_google_auth_s_unsigned_audience_is_refused_unless_the_operator_opted_in() -> None:
    accounts = Accounts(World.load().aws, time.time)
    token = by_google_auth(accounts.session("etl", "session-1"))
    with pytest.raises(Unauthenticated, match="signed headers"):
        who(token, embedded(accounts), now=time.time())
