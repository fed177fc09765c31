"""A session of our own role: what is asked of AWS STS, and what is believed of its answer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, unquote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from localcloud.aws import Accounts, sites
from localcloud.wire.faults import Clock as CloudClock
from localcloud.wire.web import Router
from localcloud.world import World
from tests.conformance.aws_lab import own_template
from tests.unit.issuing import NOW, Clock, deadline
from tests.unit.sending import Embedded, Script, script
from tokenvend.deadline import Deadline
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    RateLimited,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.identity.aws import AwsIdentity
from tokenvend.identity.aws_session import AwsSessionIdentity, session_arn
from tokenvend.identity.aws_sts import MAX_ANSWER
from tokenvend.identity.sigv4 import AwsCredentials, signed_headers
from tokenvend.model import Secret, Session, SubjectToken
from tokenvend.transport import Answer, Call

if TYPE_CHECKING:
    from tokenvend.transport import Sender

ROLE = "arn:aws:iam::111122223333:role/tokenvend"
NAME = "caller.etl.wvxntcwhrrhozkhqiu6q"
SESSION = Session("etl", NAME)
AUDIENCE = (
    "//iam.googleapis.com/projects/111/locations/global/workloadIdentityPools/pool/providers/aws"
)
OWN = {
    "AWS_ACCESS_KEY_ID": "ASIAOWNOWNOWNOWNOWN7",
    "AWS_SECRET_ACCESS_KEY": "own-secret-canary",
    "AWS_SESSION_TOKEN": "own-canary",
}
NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def document(
    name: str = NAME,
    *,
    key: str = "ASIASESSIONSESSION77",
    secret: str = "c2Vzc2lvbi1zZWNyZXQ=",  # noqa: S107 - not one
    expires: str = when(NOW + 3600),
    role: str = "tokenvend",
    source: str | None = None,
) -> str:
    """What AWS STS answers, as its API reference shows it."""
    return (
        f'<AssumeRoleResponse xmlns="{NAMESPACE}"><AssumeRoleResult>'
        f"<SourceIdentity>{name if source is None else source}</SourceIdentity>"
        f"<AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/{role}/{name}</Arn>"
        f"<AssumedRoleId>AROAEXAMPLE:{name}</AssumedRoleId></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{key}</AccessKeyId>"
        f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>c2Vzc2lvbg==</SessionToken>"
        f"<Expiration>{expires}</Expiration></Credentials></AssumeRoleResult>"
        "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"
    )


def xml(text: str | bytes, status: int = 200, kind: str = "text/xml", **headers: str) -> Answer:
    body = text if isinstance(text, bytes) else text.encode()
    return Answer(status, {"content-type": kind} | headers, body)


def refusal(status: int, code: str, message: str = "canary") -> Answer:
    body = (
        f'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
    return xml(body, status)


def subject(sender: Sender, clock: Clock | None = None, size: int = 8) -> AwsSessionIdentity:
    own = AwsIdentity(OWN, provider=AUDIENCE, region="eu-west-1", now=clock or Clock())
    return AwsSessionIdentity(own, sender, role=ROLE, size=size)


def headers_of(token: SubjectToken) -> dict[str, str]:
    fields = json.loads(unquote(token.value.reveal()))["headers"]
    return {field["key"]: field["value"] for field in fields}


def outcome(answer: Answer) -> TokenvendError:
    with pytest.raises(TokenvendError) as caught:
        subject(script(answer)).subject_token(SESSION, deadline())
    assert "canary" not in f"{caught.value} {caught.value.cause}"
    return caught.value


# --- what is asked -------------------------------------------------------------------------------


def test_the_caller_is_session_name_and_source_identity() -> None:
    sender = script(xml(document()))
    token = subject(sender).subject_token(SESSION, deadline())
    (call,) = sender.calls
    assert (call.method, call.url) == ("POST", "https://sts.eu-west-1.amazonaws.com/")
    assert dict(parse_qsl(call.body.decode())) == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": NAME,
        "SourceIdentity": NAME,
        "DurationSeconds": "3600",
    }
    headers = headers_of(token)
    assert "Credential=ASIASESSIONSESSION77/" in headers["Authorization"]
    assert headers["x-amz-security-token"] == "c2Vzc2lvbg=="
    assert headers["x-goog-cloud-target-resource"] == AUDIENCE
    assert token.expires_at == NOW + 900


@given(
    body=st.binary(max_size=200),
    secret=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    query=st.sampled_from(["", "Action=GetCallerIdentity&Version=2011-06-15"]),
)
def test_a_signature_over_a_body_is_botocores(body: bytes, secret: str, query: str) -> None:
    credentials = AwsCredentials("ASIAEXAMPLEEXAMPLE77", Secret(secret), Secret("token"))
    kind = "application/x-www-form-urlencoded"
    ours = signed_headers(
        credentials,
        region="us-east-1",
        now=NOW,
        headers={"content-type": kind},
        query=query,
        body=body,
    )
    url = f"https://sts.us-east-1.amazonaws.com/?{query}"
    request = AWSRequest("POST", url, {"Content-Type": kind, "X-Amz-Security-Token": "token"}, body)
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    theirs = SigV4Auth(Credentials("ASIAEXAMPLEEXAMPLE77", secret, "token"), "sts", "us-east-1")
    canonical = theirs.canonical_request(request)
    signature = theirs.signature(theirs.string_to_sign(request, canonical), request)
    assert ours["Authorization"].endswith(f"Signature={signature}")


def test_a_name_that_aws_would_refuse_is_never_sent(subtests: pytest.Subtests) -> None:
    for name in ["", "a", "a" * 65, "with space", "slash/ed", "a\nb", "ümlaut"]:
        with subtests.test(name=name):
            sender = script(xml(document()))
            with pytest.raises(Misconfigured):
                subject(sender).subject_token(Session("etl", name), deadline())
            assert sender.calls == []


def test_a_roles_path_does_not_show_in_its_sessions() -> None:
    role = "arn:aws-us-gov:iam::111122223333:role/some/path/tokenvend"
    assert session_arn(role, "s1") == "arn:aws-us-gov:sts::111122223333:assumed-role/tokenvend/s1"


# --- what is kept --------------------------------------------------------------------------------


def test_a_session_is_kept_for_its_caller_alone() -> None:
    other = "caller.nightly.zspvivgfwzzouyveewjd"
    sender = script(xml(document()), xml(document(other, key="ASIAOTHEROTHEROTHER7")))
    ours = subject(sender)
    tokens = [
        ours.subject_token(Session("etl", name), deadline()) for name in (NAME, other, NAME, other)
    ]
    keys = [headers_of(token)["Authorization"].partition("/")[0] for token in tokens]
    assert keys[:2] == keys[2:]
    assert keys[0] != keys[1]
    assert len(sender.calls) == 2


def test_a_session_is_renewed_before_it_ends() -> None:
    clock = Clock()
    renewed = document(key="ASIARENEWEDRENEWED77", expires=when(NOW + 7200))
    sender = script(xml(document()), xml(renewed))
    ours = subject(sender, clock)
    ours.subject_token(SESSION, deadline())
    clock.now += 2600
    ours.subject_token(SESSION, deadline())
    assert len(sender.calls) == 1
    clock.now += 200
    assert "ASIARENEWED" in headers_of(ours.subject_token(SESSION, deadline()))["Authorization"]


def test_while_aws_throttles_a_session_that_still_holds_serves() -> None:
    clock = Clock()
    sender = script(xml(document()), refusal(400, "Throttling"))
    ours = subject(sender, clock)
    ours.subject_token(SESSION, deadline())
    clock.now += 3000
    token = ours.subject_token(SESSION, deadline())
    # The signature is worth no more than the keys that made it.
    assert token.expires_at == NOW + 3600
    assert token.bridged == "AWS STS answered 400, Throttling"
    assert len(sender.calls) == 2


class Sts:
    """Assumes whatever it is asked, or takes all the time it is given; `waited` is that clock."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hangs = False
        self.waited = Clock()

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        if self.hangs:
            self.waited.now += deadline.remaining()
            raise DeadlineExceeded
        self.asked += parse_qs(call.body.decode())["RoleSessionName"]
        return xml(document(self.asked[-1]))


def test_a_hung_aws_sts_costs_a_third_of_the_time_while_the_session_holds() -> None:
    aws, clock = Sts(), Clock()
    ours = subject(aws, clock)
    ours.subject_token(SESSION, deadline())
    aws.hangs = True
    clock.now += 3000
    request = Deadline.after(9, aws.waited)
    ours.subject_token(SESSION, request)
    assert request.remaining() == pytest.approx(6)


def test_whoever_makes_sessions_pushes_out_those_of_its_own_grant_alone() -> None:
    aws = Sts()
    ours = subject(aws, size=4)
    ours.subject_token(SESSION, deadline())
    for number in range(20):
        made_up = f"caller.branch-{number}.wvxntcwhrrhozkhqiu6q"
        ours.subject_token(Session("web", made_up), deadline())
    ours.subject_token(SESSION, deadline())
    assert aws.asked.count(NAME) == 1
    ours.subject_token(Session("web", "caller.branch-0.wvxntcwhrrhozkhqiu6q"), deadline())
    assert len(aws.asked) == 22, "more are kept than the setting says"


def test_a_restored_process_uses_no_session_of_its_snapshot() -> None:
    aws = Sts()
    ours = subject(aws)
    ours.subject_token(SESSION, deadline())
    ours.restored()
    ours.subject_token(SESSION, deadline())
    assert aws.asked == [NAME, NAME]


def test_a_session_never_counts_for_longer_than_was_asked() -> None:
    clock = Clock()
    sender = script(xml(document(expires=when(NOW + 43_200))))
    ours = subject(sender, clock)
    ours.subject_token(SESSION, deadline())
    clock.now += 3601
    sender.outcomes[:] = [refusal(403, "AccessDenied")]
    with pytest.raises(UpstreamRefused):
        ours.subject_token(SESSION, deadline())


# --- what is not believed ------------------------------------------------------------------------

BOMB = (
    '<!DOCTYPE a [<!ENTITY b "canary"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    + document().replace("tokenvend/", "&c;")
)
FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + document(NAME, key="&x;")
GOOD = document()


def test_an_answer_that_is_not_exactly_aws_sts_own_is_no_session(subtests: pytest.Subtests) -> None:
    for answer in [
        xml(BOMB),
        xml(FILE),
        xml(FILE.encode("utf-16")),
        xml(GOOD + " " * MAX_ANSWER),
        xml(GOOD, kind="application/json"),
        xml(GOOD, kind=""),
        xml(GOOD[:-10]),
        xml(""),
        xml("canary"),
        xml(b"\xff\xfe\x00"),
        xml(GOOD.replace(NAMESPACE, "https://canary.example/")),
        xml(GOOD.replace("AssumeRoleRes", "GetCallerIdentityRes")),
        xml(GOOD.replace("</AssumeRoleResult>", "</AssumeRoleResult><AssumeRoleResult/>")),
        xml(GOOD.replace("<AccessKeyId>", "<AccessKeyId>A</AccessKeyId><AccessKeyId>")),
        xml(GOOD.replace("SessionToken>", "Token>")),
        xml(GOOD.replace("c2Vzc2lvbg==", "<b>canary</b>")),
        xml(GOOD.replace("c2Vzc2lvbg==", "ca&#10;nary")),
        xml(document(key="canary")),
        xml(document(key="")),
        xml(document(secret="can ary")),
        xml(document(expires="canary")),
        xml(document(expires="2027-13-40T99:99:99Z")),
        xml(document(expires="2027-01-01T00:00:00+00:00")),
        xml(document(expires=when(NOW - 1))),
        xml(document("caller.somebody.else")),
        xml(document(role="another")),
        xml(document(source="caller.somebody.else")),
        xml(document(source="")),
        xml(GOOD.replace("111122223333", "444455556666")),
    ]:
        with subtests.test(answer=answer):
            assert isinstance(outcome(answer), UpstreamUnavailable)


@given(st.binary(max_size=400) | st.text('<>/!&;a"= \n', max_size=200).map(str.encode))
def test_any_answer_is_a_session_or_an_outcome_of_ours(body: bytes) -> None:
    assert isinstance(outcome(xml(body)), UpstreamUnavailable)


@given(st.integers(300, 599), st.binary(max_size=300))
def test_any_failure_is_an_outcome_of_ours(status: int, body: bytes) -> None:
    assert outcome(xml(body.replace(b"canary", b""), status)).cause


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "Throttling"), (400, "ThrottlingException"), (429, "whatever"), (503, "Throttling")],
)
def test_throttling_is_told_as_such(status: int, code: str) -> None:
    error = outcome(refusal(status, code))
    assert isinstance(error, RateLimited)
    later = replace(refusal(status, code), headers={"retry-after": "7"})
    assert outcome(later).retry_after == 7


@pytest.mark.parametrize(
    ("action", "code"),
    [("sts:AssumeRole", "AccessDenied"), ("sts:SetSourceIdentity", "AccessDenied"),
     ("sts:TagSession", "AccessDenied")],
)  # fmt: skip
def test_a_missing_permission_is_named_with_what_mends_it(action: str, code: str) -> None:
    message = f"User: canary is not authorized to perform: {action} on resource: canary"
    error = outcome(refusal(403, code, message))
    assert isinstance(error, UpstreamRefused)
    assert f"403 AccessDenied ({action} is refused): the role's trust policy must" in error.cause


def test_a_refusal_says_what_to_mend(subtests: pytest.Subtests) -> None:
    for status, code, mending in [
        (403, "ExpiredToken", "clock"),
        (403, "SignatureDoesNotMatch", "clock"),
        (403, "InvalidClientTokenId", "credentials"),
        (403, "RegionDisabledException", "region"),
        (400, "ValidationError", "TOKENVEND_AWS_ROLE_ARN"),
        (400, "SomethingNew", "CloudTrail"),
    ]:
        with subtests.test(status=status, code=code, mending=mending):
            error = outcome(refusal(status, code))
            assert isinstance(error, UpstreamRefused)
            assert mending in error.cause


@pytest.mark.parametrize("status", [500, 502, 503, 302])
def test_a_bad_minute_may_be_over_soon(status: int) -> None:
    assert isinstance(outcome(xml("canary", status)), UpstreamUnavailable)


def test_neither_keys_nor_tokens_show_in_a_repr() -> None:
    ours = subject(script(xml(document())))
    token = ours.subject_token(SESSION, deadline())
    assert not any(word in f"{ours!r} {token!r}" for word in ("canary", "c2Vz", "ASIA"))


# --- against the embedded AWS STS, which verifies with botocore ----------------------------------


class Aws:
    """The embedded cloud's AWS STS."""

    def __init__(self) -> None:
        clock = CloudClock()
        self.accounts = Accounts(World.load().aws, clock)
        self.accounts.deploy(own_template().roles)
        self.now = clock
        self.sender = Embedded(Router(sites(self.accounts)))

    def subject(self, role: str, session: str = "fn") -> AwsSessionIdentity:
        key = self.accounts.session(role, session)
        environ = {
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_SESSION_TOKEN": key.token,
        }
        own = AwsIdentity(environ, provider=AUDIENCE, region="us-east-1", now=self.now)
        return AwsSessionIdentity(own, self.sender, role=ROLE, size=8)


def test_a_strict_aws_sts_gives_the_session_and_confirms_who_it_is() -> None:
    aws = Aws()
    token = aws.subject("tokenvend").subject_token(SESSION, deadline())
    request = json.loads(unquote(token.value.reveal()))
    headers = {field["key"]: field["value"] for field in request["headers"]}
    url = request["url"].replace(".com?", ".com/?")
    del headers["host"]
    answer = aws.sender.send(Call("POST", url, headers), deadline(), repeatable=True)
    assert f"<Arn>arn:aws:sts::111122223333:assumed-role/tokenvend/{NAME}</Arn>" in (
        answer.body.decode()
    )
    key = aws.accounts.find(headers["Authorization"].partition("=")[2].partition("/")[0])
    assert key is not None
    assert key.principal.source_identity == NAME


def test_a_role_that_does_not_trust_itself_is_an_operators_matter() -> None:
    with pytest.raises(UpstreamRefused, match="operator") as caught:
        Aws().subject("etl").subject_token(SESSION, deadline())
    assert "AccessDenied (sts:AssumeRole is refused)" in caught.value.cause


def test_a_kept_session_signs_without_asking_aws_again() -> None:
    sender: Script = script(xml(document()))
    ours = subject(sender)
    tokens = {ours.subject_token(SESSION, deadline()).value for _ in range(5)}
    assert len(tokens) == 1
    assert parse_qs(sender.calls[0].body.decode())["RoleSessionName"] == [NAME]
    assert sender.repeatable == [True]
