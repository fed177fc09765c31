"""Judges that nobody here wrote: google-auth's own flows, and Google's discovery documents."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import googleapiclient.discovery_cache
import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509 import load_pem_x509_certificate
from google.auth import aws, downscoped, identity_pool, impersonated_credentials
from google.auth.transport.requests import Request as AuthRequest
from google.oauth2 import id_token

from localcloud.wire.web import Request, Response, Router
from tests.conformance.google_lab import (
    AUDITED,
    AWS_PROVIDER,
    AZURE_PROVIDER,
    CLOUD_PLATFORM,
    INVOKER,
    LANDING,
    ORDERS,
    POOL,
    READ_WRITE,
    Lab,
    Session,
)

ACCOUNTS = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"


@pytest.fixture
def transport(lab: Lab) -> AuthRequest:
    return AuthRequest(Session(lab.router))


def impersonation(account: str) -> str:
    return f"{ACCOUNTS}/{account}:generateAccessToken"


class _Supplier(aws.AwsSecurityCredentialsSupplier):  # type: ignore[misc]
    def __init__(self, lab: Lab) -> None:
        self._key = lab.key()

    def get_aws_security_credentials(self, _context: Any, _request: Any) -> Any:
        key = self._key
        return aws.AwsSecurityCredentials(key.id, key.secret, key.token)

    def get_aws_region(self, _context: Any, _request: Any) -> str:
        return "us-east-1"


def aws_credentials(lab: Lab, account: str | None = LANDING, scope: str = READ_WRITE) -> Any:
    return aws.Credentials(
        audience=f"//iam.googleapis.com/{AWS_PROVIDER}",
        subject_token_type="urn:ietf:params:aws:token-type:aws4_request",
        aws_security_credentials_supplier=_Supplier(lab),
        service_account_impersonation_url=impersonation(account) if account else None,
        scopes=[scope if account else CLOUD_PLATFORM],
    )


def listing(lab: Lab, token: str) -> int:
    url = "https://storage.googleapis.com/storage/v1/b/acme-landing/o"
    return lab.call("GET", url, token=token).status


def test_google_auth_on_aws_gets_an_impersonated_token(lab: Lab, transport: AuthRequest) -> None:
    credentials = aws_credentials(lab)
    credentials.refresh(transport)
    assert credentials.token.startswith("ya29.")
    assert listing(lab, credentials.token) == 200


def test_google_auth_on_aws_gets_a_federated_token(lab: Lab, transport: AuthRequest) -> None:
    credentials = aws_credentials(lab, None)
    credentials.refresh(transport)
    assert listing(lab, credentials.token) == 200


def test_google_auth_on_azure_gets_an_impersonated_token(
    lab: Lab, transport: AuthRequest, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(lab.jwt())
    credentials = identity_pool.Credentials(
        audience=f"//iam.googleapis.com/{AZURE_PROVIDER}",
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",
        credential_source={"file": str(file)},
        service_account_impersonation_url=impersonation(LANDING),
        scopes=[READ_WRITE],
    )
    credentials.refresh(transport)
    assert listing(lab, credentials.token) == 200


def test_google_auth_impersonates_through_a_delegate(lab: Lab, transport: AuthRequest) -> None:
    credentials = impersonated_credentials.Credentials(
        aws_credentials(lab, None), AUDITED, [READ_WRITE], delegates=[LANDING]
    )
    credentials._delegates = [f"projects/-/serviceAccounts/{LANDING}"]
    credentials.refresh(transport)
    chain = lab.log.entries[-1]
    assert (chain.method_name, chain.status) == ("GenerateAccessToken", 0)
    assert chain.labels["email_id"] == AUDITED


def test_google_auth_downscopes(lab: Lab, transport: AuthRequest) -> None:
    rule = downscoped.AccessBoundaryRule(
        available_resource="//storage.googleapis.com/projects/_/buckets/acme-landing",
        available_permissions=["inRole:roles/storage.objectCreator"],
    )
    credentials = downscoped.Credentials(
        source_credentials=aws_credentials(lab, scope=CLOUD_PLATFORM),
        credential_access_boundary=downscoped.CredentialAccessBoundary(rules=[rule]),
    )
    credentials.refresh(transport)
    assert listing(lab, credentials.token) == 403


def test_google_auth_verifies_the_id_token(lab: Lab, transport: AuthRequest) -> None:
    claims = id_token.verify_oauth2_token(lab.id_token(), transport, ORDERS)
    assert claims["email"] == INVOKER
    assert claims["email_verified"] is True
    assert claims["sub"] == claims["azp"] == "202020202020202020202"
    assert claims["exp"] - claims["iat"] == 3600


def test_id_token_without_email_carries_none(lab: Lab) -> None:
    claims = jwt.decode(lab.id_token(includeEmail=False), options={"verify_signature": False})
    assert not {"email", "email_verified"} & claims.keys()


def test_published_keys_verify_the_account_s_signatures(lab: Lab) -> None:
    message = {"payload": base64.b64encode(b"text").decode()}
    signed = json.loads(lab.credentials(LANDING, "signBlob", message, lab.federated()).body)
    url = "https://www.googleapis.com/service_accounts/v1/metadata"
    certificate = json.loads(lab.call("GET", f"{url}/x509/{LANDING}").body)[signed["keyId"]]
    public: Any = load_pem_x509_certificate(certificate.encode()).public_key()
    signature = base64.b64decode(signed["signedBlob"])
    assert public.verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256()) is None
    payload = json.dumps({"sub": "x", "exp": int(lab.clock()) + 60})
    answer = lab.credentials(LANDING, "signJwt", {"payload": payload}, lab.federated())
    keys = jwt.PyJWKSet.from_json(lab.call("GET", f"{url}/jwk/{LANDING}").body.decode())
    made = json.loads(answer.body)
    key = keys[made["keyId"]]
    assert jwt.decode(made["signedJwt"], key, algorithms=["RS256"])["sub"] == "x"


def test_introspection_and_token_info_know_live_tokens_only(lab: Lab) -> None:
    token = lab.access_token()
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    url = "https://sts.googleapis.com/v1/introspect"
    live = json.loads(lab.call("POST", url, f"token={token}".encode(), **form).body)
    assert live["active"] is True
    assert live["scope"] == READ_WRITE
    info = f"https://oauth2.googleapis.com/tokeninfo?access_token={token}"
    known = json.loads(lab.call("GET", info).body)
    assert (known["scope"], known["aud"]) == (READ_WRITE, "101010101010101010101")
    assert "email" not in known
    lab.clock.now += 3600
    dead = json.loads(lab.call("POST", url, f"token={token}".encode(), **form).body)
    assert dead == {"active": False}
    assert lab.call("GET", info).status == 400


def test_policy_of_an_account_is_read_and_replaced_with_the_permission_only(lab: Lab) -> None:
    url = f"https://iam.googleapis.com/v1/projects/-/serviceAccounts/{LANDING}"
    token = lab.federated()
    assert lab.call("POST", f"{url}:getIamPolicy", {}, token).status == 403
    account = lab.world.google.service_account(LANDING)
    assert account is not None
    found = lab.log.entries[-1].metadata["mapped_principal"]
    account.iam_policy.grant("roles/iam.serviceAccountAdmin", found)
    policy = json.loads(lab.call("POST", f"{url}:getIamPolicy", {}, token).body)
    assert policy["bindings"][0]["role"] == "roles/iam.workloadIdentityUser"
    assert lab.call("POST", f"{url}:setIamPolicy", {"policy": {"x": 1}}, token).status == 400
    assert (
        lab.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": []}}, token).status == 200
    )
    assert account.iam_policy.bindings == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/projects/-/serviceAccounts/{LANDING}/allowedLocations", 200),
        ("/v1/projects/-/serviceAccounts/absent@x/allowedLocations", 404),
        (f"/v1/{AWS_PROVIDER.partition('/providers/')[0]}/allowedLocations", 200),
        ("/v1/projects/1/locations/global/workloadIdentityPools/x/allowedLocations", 404),
        ("/v1/other", 405),
    ],
)
def test_allowed_locations_are_unbounded(lab: Lab, path: str, status: int) -> None:
    answer = lab.call("GET", f"https://iamcredentials.googleapis.com{path}", token=lab.federated())
    assert answer.status == status
    if status == 200:
        assert json.loads(answer.body) == {"encodedLocations": "0x0"}


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_project_is_found_by_id_and_number(lab: Lab, version: str) -> None:
    url = f"https://cloudresourcemanager.googleapis.com/{version}/projects"
    token = lab.federated()
    # The guide's "Browser role, or a role with equivalent permissions".
    assert lab.call("GET", f"{url}/acme", token=token).status == 403
    acme = lab.world.google.project("acme")
    assert acme is not None
    acme.iam_policy.grant("roles/browser", f"principalSet://iam.googleapis.com/{POOL}/*")
    for name in ("acme", "123456789012"):
        answer = lab.call("GET", f"{url}/{name}", token=token)
        assert json.loads(answer.body)["projectId"] == "acme"
    assert lab.call("GET", f"{url}/absent", token=token).status == 403
    assert lab.call("GET", f"{url}/acme").status == 401


# --- discovery documents -------------------------------------------------------------------


@cache
def discovery(name: str) -> dict[str, Any]:
    folder = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


KINDS = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}


def conforms(document: dict[str, Any], schema: str, value: dict[str, Any]) -> bool:
    """Whether every field is the schema's, with its type; null stands for absent."""
    known = document["schemas"][schema]["properties"]
    return all(
        name in known and (entry is None or type(entry) is KINDS[known[name]["type"]])
        for name, entry in value.items()
    )


def test_answers_follow_the_discovery_documents(lab: Lab) -> None:
    document = discovery("iamcredentials.v1")
    token = lab.federated()
    bodies = {
        "GenerateAccessToken": {"scope": [READ_WRITE], "lifetime": "60s", "delegates": []},
        "GenerateIdToken": {"audience": "x", "includeEmail": True, "delegates": []},
        "SignBlob": {"payload": "eA==", "delegates": []},
        "SignJwt": {"payload": "{}", "delegates": []},
    }
    for name, message in bodies.items():
        assert conforms(document, f"{name}Request", message)
        verb = name[0].lower() + name[1:]
        answer = json.loads(lab.credentials(LANDING, verb, message, token).body)
        assert conforms(document, f"{name}Response", answer)
        required = set(document["schemas"][f"{name}Response"]["properties"])
        assert answer.keys() == required


def test_every_field_of_the_discovery_document_is_taken(lab: Lab) -> None:
    document = discovery("iamcredentials.v1")
    values = {
        "delegates": [],
        "scope": [READ_WRITE],
        "lifetime": "60s",
        "audience": "x",
        "includeEmail": True,
        "organizationNumberIncluded": True,
        "payload": "e30=",
    }
    token = lab.federated()
    for verb in ("generateAccessToken", "generateIdToken", "signBlob"):
        fields = document["schemas"][f"{verb[0].upper()}{verb[1:]}Request"]["properties"]
        message = {name: values[name] for name in fields}
        assert lab.credentials(LANDING, verb, message, token).status == 200


def test_exchange_answers_follow_the_discovery_document(lab: Lab) -> None:
    body = json.loads(lab.exchange_jwt(lab.jwt()).body)
    assert conforms(discovery("sts.v1"), "GoogleIdentityStsV1ExchangeTokenResponse", body)


def test_requests_of_google_auth_follow_the_discovery_documents(lab: Lab) -> None:
    seen: list[Request] = []

    def record(request: Request) -> Response:
        seen.append(request)
        return lab.router(request)

    router = Router({"*": record})
    aws_credentials(lab).refresh(AuthRequest(Session(router)))
    exchange = next(r for r in seen if r.host == "sts.googleapis.com")
    fields = discovery("sts.v1")["schemas"]["GoogleIdentityStsV1ExchangeTokenRequest"]["properties"]
    names = {name.replace("_", "").lower() for name, _ in parse_qsl(exchange.body.decode())}
    assert names <= {name.lower() for name in fields}
    assert len(parse_qs(exchange.body.decode())["subject_token"]) == 1
    minted = next(r for r in seen if r.path.endswith(":generateAccessToken"))
    message = json.loads(minted.body)
    assert conforms(discovery("iamcredentials.v1"), "GenerateAccessTokenRequest", message)
