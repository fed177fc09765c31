"""Our SigV4 against botocore's: the same inputs must give the same signature, byte for byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tokenvend.identity.aws import sign_get_caller_identity
from tokenvend.identity.sigv4 import AwsCredentials
from tokenvend.model import Secret

VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
REGIONS = st.one_of(
    st.sampled_from(["us-east-1", "eu-central-2", "us-gov-west-1", "cn-north-1", "ap-southeast-5"]),
    st.from_regex(r"[a-z]{2}-[a-z]{3,9}-[1-9]", fullmatch=True),
)
AUDIENCES = st.one_of(
    st.from_regex(
        r"//iam\.googleapis\.com/projects/[0-9]{6,12}/locations/global/workloadIdentityPools/"
        r"[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}",
        fullmatch=True,
    ),
    st.text(VISIBLE, min_size=1, max_size=80),
)


@given(
    access_key=st.from_regex(r"A[KS]IA[A-Z2-7]{16}", fullmatch=True),
    secret_key=st.text(st.characters(codec="utf-8"), min_size=1),
    session_token=st.none() | st.text(VISIBLE, min_size=1, max_size=300),
    region=REGIONS,
    audience=AUDIENCES,
    now=st.floats(0, 4_000_000_000),
)
def test_the_signature_is_botocores(
    access_key: str,
    secret_key: str,
    session_token: str | None,
    region: str,
    audience: str,
    now: float,
) -> None:
    ours = sign_get_caller_identity(
        AwsCredentials(
            access_key, Secret(secret_key), Secret(session_token) if session_token else None
        ),
        region=region,
        provider=audience,
        now=now,
    )
    request = json.loads(unquote(ours.value.reveal()))
    headers = {field["key"].lower(): field["value"] for field in request["headers"]}
    assert len(headers) == len(request["headers"])

    stamp = datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ")
    theirs = AWSRequest(
        method=request["method"],
        url=request["url"],
        data=b"",
        headers={"x-goog-cloud-target-resource": audience, "x-amz-date": stamp},
    )
    if session_token:
        theirs.headers["x-amz-security-token"] = session_token
    theirs.context["timestamp"] = stamp
    signer = SigV4Auth(Credentials(access_key, secret_key, session_token), "sts", region)
    signature = signer.signature(
        signer.string_to_sign(theirs, signer.canonical_request(theirs)), theirs
    )
    scope, signed = signer.scope(theirs), signer.signed_headers(signer.headers_to_sign(theirs))

    assert headers.pop("authorization") == (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={signature}"
    )
    assert request["url"].startswith(f"https://{headers.pop('host')}?")
    assert headers == {name.lower(): value for name, value in theirs.headers.items()}
