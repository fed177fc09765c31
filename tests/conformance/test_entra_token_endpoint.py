"""Entra's token endpoint for pods of AKS, judged by azure-identity and Entra's own numbers."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CredentialUnavailableError,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from localcloud.cloud import Cloud
from localcloud.kubernetes import Cluster, Pod
from localcloud.wire.faults import Fault, Kind
from localcloud.wire.web import Headers, Request, Response
from localcloud.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCOPE = "api://tokenvend/.default"
AUDIENCE = "api://AzureADTokenExchange"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(World.load(), tmp_path_factory.mktemp("entra"), functions=()) as running:
        yield running


@pytest.fixture(autouse=True)
def restored(ground: Cloud) -> Iterator[None]:
    yield
    ground.clock.skew = 0.0
    ground.faults.clear()


@pytest.fixture
def pod(ground: Cloud) -> dict[str, str]:
    return ground.environment_for("reporting", "aks")


def become(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def test_azure_identity_in_a_pod_gets_the_identitys_token(
    ground: Cloud, pod: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, pod)
    with WorkloadIdentityCredential() as credential:
        token = credential.get_token(SCOPE).token
    assert claims(token)["oid"] == ground.entra.identity("reporting").principal_id
    assert claims(token)["aud"] == "6f1b7c1e-2a34-4e0e-9a51-9f3e5d7c0a11"


@pytest.mark.parametrize("place", ["vm", "functions"])
def test_azure_identity_finds_a_managed_identity(
    ground: Cloud, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    become(monkeypatch, ground.environment_for("reporting", place))
    with ManagedIdentityCredential() as credential:
        token = credential.get_token("api://tokenvend").token
    assert claims(token)["oid"] == ground.entra.identity("reporting").principal_id


def test_azure_identity_finds_no_machine_where_there_is_none(
    ground: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, ground.environment_for("etl"))
    with ManagedIdentityCredential() as credential, pytest.raises(CredentialUnavailableError):
        credential.get_token("api://tokenvend")


def test_azure_identity_as_somebody_elses_client_id_is_refused(
    ground: Cloud, pod: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, pod)
    monkeypatch.setenv("AZURE_CLIENT_ID", ground.entra.identity("outsider").client_id)
    with (
        WorkloadIdentityCredential() as credential,
        pytest.raises(ClientAuthenticationError, match="AADSTS700213"),
    ):
        credential.get_token(SCOPE)


def test_a_pods_token_is_renewed_in_its_file_before_it_ends(
    ground: Cloud, pod: dict[str, str]
) -> None:
    file = Path(pod["AZURE_FEDERATED_TOKEN_FILE"])
    first = file.read_text()
    assert claims(first)["exp"] - claims(first)["iat"] == 3600
    assert file.stat().st_mode & 0o077 == 0
    ground.clock.skew = 2900
    end = time.monotonic() + 10
    while file.read_text() == first and time.monotonic() < end:
        time.sleep(0.05)
    assert claims(file.read_text())["exp"] >= claims(first)["exp"] + 2800


def ask(ground: Cloud, form: Mapping[str, str], path: str = "oauth2/v2.0/token") -> Response:
    host = "login.microsoftonline.com"
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    target = f"/{ground.world.azure.tenant}/{path}"
    body = urlencode(form).encode()
    return ground.faults(Request("POST", host, target, Headers([kind]), body))


def form(ground: Cloud, assertion: str | None = None, **changed: str) -> dict[str, str]:
    pod = Pod("reporting")
    return {
        "client_id": ground.entra.identity("reporting").client_id,
        "scope": SCOPE,
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion or ground.machines.aks.token(pod, AUDIENCE, 3600),
        **changed,
    }


def refusal(answer: Response) -> tuple[int, str, int]:
    body = json.loads(answer.body)
    assert "access_token" not in body
    assert body["error_description"].startswith(f"AADSTS{body['error_codes'][0]}: ")
    return answer.status, body["error"], body["error_codes"][0]


REFUSED_PARAMETERS: dict[str, tuple[dict[str, str], tuple[int, str, int]]] = {
    "no grant type": ({"grant_type": ""}, (400, "invalid_request", 900144)),
    "a password": ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
    "no scope": ({"scope": ""}, (400, "invalid_request", 900144)),
    "a resource for a scope": ({"scope": "api://tokenvend"}, (400, "invalid_scope", 1002012)),
    "two scopes": ({"scope": f"{SCOPE} {SCOPE}"}, (400, "invalid_scope", 1002012)),
    "an unknown resource": ({"scope": "api://no/.default"}, (400, "invalid_resource", 500011)),
    "an unknown client": ({"client_id": "0"}, (400, "unauthorized_client", 700016)),
    "no assertion": ({"client_assertion": ""}, (401, "invalid_client", 7000218)),
    "a secret": ({"client_secret": "guessed"}, (401, "invalid_client", 7000215)),
    "an assertion of no kind": ({"client_assertion_type": ""}, (400, "invalid_request", 900144)),
    "no JWT": ({"client_assertion": "a.b.c"}, (400, "invalid_request", 50027)),
}


@pytest.mark.parametrize("case", REFUSED_PARAMETERS)
def test_a_request_is_refused_with_entras_number(ground: Cloud, case: str) -> None:
    changed, expected = REFUSED_PARAMETERS[case]
    assert refusal(ask(ground, {**form(ground), **changed})) == expected


def test_another_clusters_token_is_refused_even_if_it_claims_the_right_issuer(
    ground: Cloud,
) -> None:
    forged = Cluster(ground.machines.aks.issuer, ground.clock)
    token = forged.token(Pod("reporting"), AUDIENCE, 3600)
    assert refusal(ask(ground, form(ground, token))) == (401, "invalid_client", 50013)
    elsewhere = Cluster("https://oidc.example.com", ground.clock)
    token = elsewhere.token(Pod("reporting"), AUDIENCE, 3600)
    assert refusal(ask(ground, form(ground, token))) == (400, "invalid_request", 700211)


def test_subject_and_audience_match_exactly(ground: Cloud) -> None:
    aks = ground.machines.aks
    for service_account in ("outsider", "Reporting", "reporting2"):
        token = aks.token(Pod(service_account), AUDIENCE, 3600)
        assert refusal(ask(ground, form(ground, token))) == (400, "invalid_request", 700213)
    token = aks.token(Pod("reporting"), "pods.eks.amazonaws.com", 3600)
    assert refusal(ask(ground, form(ground, token))) == (400, "invalid_request", 700212)


def test_an_unsigned_assertion_is_refused(ground: Cloud) -> None:
    given = claims(ground.machines.aks.token(Pod("reporting"), AUDIENCE, 3600))
    header = {"kid": ground.machines.aks.published()["kid"]}
    for algorithm, key in (("none", None), ("HS256", "k" * 32)):
        token = jwt.encode(given, key, algorithm, header)  # type: ignore[arg-type]
        assert refusal(ask(ground, form(ground, token))) == (401, "invalid_client", 50013)


def test_an_assertion_counts_while_it_lasts(ground: Cloud) -> None:
    given = form(ground)
    ground.clock.skew = 3600 + 299
    assert ask(ground, given).status == 200
    ground.clock.skew = 3600 + 302
    assert refusal(ask(ground, given)) == (401, "invalid_client", 700024)
    ground.clock.skew = -302
    assert refusal(ask(ground, given)) == (401, "invalid_client", 700024)


def test_an_issuer_that_does_not_answer_is_named(ground: Cloud) -> None:
    ground.faults.add(Fault("*.oic.prod-aks.azure.com", Kind.STATUS, times=1))
    assert refusal(ask(ground, form(ground))) == (400, "invalid_request", 50166)
    assert ask(ground, form(ground)).status == 200


def test_an_issuer_whose_document_names_another_is_not_believed(ground: Cloud) -> None:
    aks = ground.machines.aks
    imposter = Cluster("https://oidc.example.com", ground.clock)
    host = urlsplit(aks.issuer).netloc
    (elsewhere,) = imposter.sites().values()

    def lying(request: Request) -> Response:
        """The imposter's documents, at the address of the cluster."""
        target = request.target.removeprefix(urlsplit(aks.issuer).path.rstrip("/"))
        answer = elsewhere(replace(request, target=target))
        there = aks.issuer.rstrip("/").encode()
        return replace(
            answer, body=answer.body.replace(b"https://oidc.example.com/openid", there + b"/openid")
        )

    token = Cluster.token(imposter, Pod("reporting"), AUDIENCE, 3600)
    imposter.issuer = aks.issuer
    forged = imposter.token(Pod("reporting"), AUDIENCE, 3600)
    ground.router.add({host: lying})
    try:
        assert refusal(ask(ground, form(ground, token))) == (400, "invalid_request", 700211)
        assert refusal(ask(ground, form(ground, forged))) == (400, "invalid_request", 50166)
    finally:
        ground.router.add(aks.sites())
    assert ask(ground, form(ground)).status == 200


def test_the_older_endpoint_and_other_tenants_give_no_token(ground: Cloud) -> None:
    assert ask(ground, form(ground), "oauth2/token").status == 404
    elsewhere = Request("POST", "login.microsoftonline.com", "/common/oauth2/v2.0/token")
    assert ground.faults(elsewhere).status == 404
