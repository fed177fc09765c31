"""Our AWS identity: the signed request in Google's form, and where the keys come from."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.unit.issuing import NOW, deadline
from tests.unit.upstream import answer, container_keys, upstream
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.identity import aws_sts
from tokenvend.identity.aws import AwsIdentity, sign_get_caller_identity
from tokenvend.identity.sigv4 import AwsCredentials
from tokenvend.model import Secret, SubjectToken, SubjectTokenType

AUDIENCE = (
    "//iam.googleapis.com/projects/111/locations/global/workloadIdentityPools/pool/providers/aws"
)
KEYS = {
    "AWS_ACCESS_KEY_ID": "ASIAEXAMPLEEXAMPLE77",
    "AWS_SECRET_ACCESS_KEY": "secret-canary",
    "AWS_SESSION_TOKEN": "session-canary",
}
CREDENTIALS = AwsCredentials("ASIAEXAMPLEEXAMPLE77", Secret("secret-canary"), Secret("session"))


def subject(environ: dict[str, str], region: str = "eu-west-1") -> AwsIdentity:
    return AwsIdentity(environ, provider=AUDIENCE, region=region, now=lambda: NOW + 0.9)


def opened(token: SubjectToken) -> tuple[dict[str, str], dict[str, str]]:
    """The request in a subject token: its own fields, and its headers."""
    request = json.loads(unquote(token.value.reveal()))
    headers = {field["key"]: field["value"] for field in request.pop("headers")}
    assert set(request) == {"url", "method"}
    return request, headers


# --- the form ------------------------------------------------------------------------------------


def test_the_subject_token_is_googles_form() -> None:
    token = subject(KEYS).subject_token(deadline())
    request, headers = opened(token)
    assert token.type is SubjectTokenType.AWS4_REQUEST
    assert request == {
        "url": "https://sts.eu-west-1.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
        "method": "POST",
    }
    authorization = headers.pop("Authorization")
    assert headers == {
        "host": "sts.eu-west-1.amazonaws.com",
        "x-amz-date": datetime.fromtimestamp(NOW, UTC).strftime("%Y%m%dT%H%M%SZ"),
        "x-amz-security-token": "session-canary",
        "x-goog-cloud-target-resource": AUDIENCE,
    }
    assert (
        "SignedHeaders=host;x-amz-date;x-amz-security-token;x-goog-cloud-target-resource, "
        in authorization
    )


def test_long_lived_keys_send_no_session_token() -> None:
    environ = {**KEYS, "AWS_SESSION_TOKEN": ""}
    _, headers = opened(subject(environ).subject_token(deadline()))
    assert "x-amz-security-token" not in headers
    assert (
        "SignedHeaders=host;x-amz-date;x-goog-cloud-target-resource, " in headers["Authorization"]
    )


def test_neither_secret_nor_token_shows_in_a_repr() -> None:
    token = subject(KEYS).subject_token(deadline())
    assert "canary" not in f"{token!r} {CREDENTIALS!r}"
    assert "secret-canary" not in unquote(token.value.reveal())


@pytest.mark.parametrize(
    ("credentials_expire", "expires_at"),
    [(None, NOW + 900), (NOW + 5000, NOW + 900), (NOW + 60, NOW + 60)],
)
def test_a_subject_token_ends_with_its_signature_or_its_credentials(
    credentials_expire: int | None, expires_at: int
) -> None:
    credentials = AwsCredentials("AKIAEXAMPLE", Secret("s"), None, credentials_expire)
    token = sign_get_caller_identity(
        credentials, region="us-east-1", provider=AUDIENCE, now=NOW + 0.5
    )
    assert token.expires_at == expires_at


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "sts.us-east-1.amazonaws.com"),
        ("ap-southeast-2", "sts.ap-southeast-2.amazonaws.com"),
        ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_each_partition_has_its_endpoint(region: str, host: str) -> None:
    assert aws_sts.host(region) == host


@pytest.mark.parametrize(
    "region",
    ["", "global", "us-east-1.evil.example", "US-EAST-1", "us-east-1/", "us-east-1\n", "1"],
)
def test_what_is_no_region_names_no_host(region: str) -> None:
    with pytest.raises(ValueError, match="AWS region"):
        aws_sts.host(region)


def test_what_cannot_stand_in_a_header_is_not_signed(subtests: pytest.Subtests) -> None:
    for bad in ["", "has space", "line\nend", "tab\t", "ü", "\x00"]:
        for field in ["access_key", "session_token", "audience"]:
            with subtests.test(bad=bad, field=field):
                given = {
                    "access_key": "AKIAEXAMPLE",
                    "session_token": "token",
                    "audience": AUDIENCE,
                }
                given[field] = bad
                credentials = AwsCredentials(
                    given["access_key"], Secret("s"), Secret(given["session_token"])
                )
                with pytest.raises(Misconfigured) as caught:
                    sign_get_caller_identity(
                        credentials, region="us-east-1", provider=given["audience"], now=NOW
                    )
                assert not bad.strip() or bad not in caught.value.cause


# --- where the keys come from --------------------------------------------------------------------


def test_keys_in_the_environment_need_no_botocore() -> None:
    """Botocore is heavy to import, and Lambda's cold path spares it."""
    program = (
        "import sys; from tokenvend.identity.aws import AwsIdentity;"
        "from tokenvend.deadline import Deadline;"
        f"AwsIdentity({KEYS!r}, provider={AUDIENCE!r}, region='us-east-1', now=lambda: 1.8e9)"
        ".subject_token(Deadline(5, lambda: 0));"
        "print(sorted(m for m in ('botocore', 'requests', 'boto3', 'jwt') if m in sys.modules))"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_key_pair_is_a_setting_to_mend(missing: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        subject({**KEYS, missing: ""}).subject_token(deadline())
    assert missing in caught.value.cause


def test_container_credentials_are_fetched_once_and_carry_their_token(
    bare: pytest.MonkeyPatch,
) -> None:
    with upstream(container_keys("ASIACONTAINER", 3600)) as site:
        bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{site.http}/creds")
        bare.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")
        ours = subject({})
        for _ in range(3):
            token = ours.subject_token(deadline())
    _, headers = opened(token)
    assert "Credential=ASIACONTAINER/" in headers["Authorization"]
    assert headers["x-amz-security-token"] == "session"
    # botocore promises ten minutes, not the signature's fifteen.
    assert token.expires_at == NOW + 600
    assert len(site.requests) == 1
    assert b"Authorization: pod-token" in site.requests[0]


def test_credentials_are_refreshed_before_they_expire(bare: pytest.MonkeyPatch) -> None:
    with upstream(container_keys("ASIAFIRST", 300), container_keys("ASIASECOND", 3600)) as site:
        bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{site.http}/creds")
        ours = subject({})
        keys = [opened(ours.subject_token(deadline()))[1]["Authorization"] for _ in range(2)]
    assert "Credential=ASIASECOND/" in keys[-1]


def test_a_restored_process_uses_no_credentials_of_its_snapshot(bare: pytest.MonkeyPatch) -> None:
    with upstream(
        container_keys("ASIASNAPSHOT", 3600), container_keys("ASIARESTORED", 3600)
    ) as site:
        bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{site.http}/creds")
        ours = subject({})
        ours.subject_token(deadline())
        ours.restored()
        token = ours.subject_token(deadline())
    assert "Credential=ASIARESTORED/" in opened(token)[1]["Authorization"]


def test_no_credentials_anywhere_is_a_setting_to_mend(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misconfigured) as caught:
        subject({}).subject_token(deadline())
    assert "execution role" in caught.value.cause
    assert bare is not None


def test_an_unknown_profile_is_a_setting_to_mend(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Misconfigured) as caught:
        subject({}).subject_token(deadline())
    assert "ProfileNotFound" in caught.value.cause


@pytest.mark.parametrize("body", ["[]", '{"AccessKeyId": "canary"}', '{"Expiration": "canary"}'])
def test_a_malformed_answer_of_the_credential_endpoint_may_be_better_later(
    bare: pytest.MonkeyPatch, body: str
) -> None:
    with upstream(answer(200, body.encode())) as site:
        bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{site.http}/creds")
        with pytest.raises(UpstreamUnavailable) as caught:
            subject({}).subject_token(deadline())
    assert "canary" not in f"{caught.value} {caught.value.cause}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_web_identity_that_aws_refuses_is_told_by_its_code(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("web-identity-canary")
    body = (
        b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        b"<Type>Sender</Type><Code>AccessDenied</Code><Message>canary</Message></Error>"
        b"<RequestId>1</RequestId></ErrorResponse>"
    )
    with upstream(answer(403, body, "Content-Type: text/xml")) as site:
        bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        bare.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/vend")
        bare.setenv("AWS_DEFAULT_REGION", "us-east-1")
        bare.setenv("AWS_ENDPOINT_URL_STS", site.http)
        with pytest.raises(UpstreamRefused) as caught:
            subject({}).subject_token(deadline())
    assert "AccessDenied" in caught.value.cause
    assert "canary" not in f"{caught.value} {caught.value.cause}"


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_botocores_own_retries_cannot_hold_past_the_deadline(
    bare: pytest.MonkeyPatch, seconds: float
) -> None:
    with upstream(answer(500)) as site:
        bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{site.http}/creds")
        # botocore tries three times, a second apart.
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            subject({}).subject_token(deadline(seconds))
        assert time.monotonic() - began < 1.5
