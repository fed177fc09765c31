"""Entra and the identity endpoint against Microsoft's documented shapes, judged by PyJWT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests

from localcloud.azure import (
    Entra,
    IdentityEndpoint,
    UnknownResourceError,
    app_settings,
    sites,
)
from localcloud.azure.virtual_machine import ADDRESS, VirtualMachine
from localcloud.wire.web import Headers, Request, Response, Router
from localcloud.world import (
    AppRole,
    AppRoleAssignment,
    Azure,
    FederatedIdentityCredential,
    ManagedIdentity,
    World,
    WorldError,
)
from tests.unit.issuing import NOW, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TENANT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
V1 = f"https://sts.windows.net/{TENANT}/"
V2 = f"https://login.microsoftonline.com/{TENANT}/v2.0"
QUERY = {"api-version": "2019-08-01", "resource": "api://tokenvend"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def azure() -> Azure:
    return World.load().azure


@pytest.fixture
def entra(azure: Azure, clock: Clock) -> Entra:
    return Entra(azure, clock)


@pytest.fixture
def endpoint(entra: Entra) -> Iterator[IdentityEndpoint]:
    running = IdentityEndpoint(entra).start()
    yield running
    running.stop()


def get(entra: Entra, url: str, *headers: tuple[str, str], method: str = "GET") -> Response:
    host, _, rest = url.removeprefix("https://").removeprefix("http://").partition("/")
    router = Router({**sites(entra, _nowhere), ADDRESS: VirtualMachine(entra, "reporting").site})
    return router(Request(method, host, "/" + rest, Headers(headers)))


def document(entra: Entra, url: str) -> dict[str, Any]:
    answer = get(entra, url)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


def verified(entra: Entra, token: str, issuer: str, audience: str, now: float) -> dict[str, Any]:
    """The claims, after the walk that a verifier makes: issuer, discovery, keys, signature."""
    discovery = document(entra, issuer.rstrip("/") + "/.well-known/openid-configuration")
    assert discovery["issuer"] == issuer
    keys = jwt.PyJWKSet.from_dict(document(entra, discovery["jwks_uri"]))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    # PyJWT reads the machine's clock; the stand-in's is a test's, so time is checked here.
    unclocked = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    options = {"require": ["exp", "nbf", "iat", "iss", "aud", "oid", "tid"], **unclocked}
    claims: dict[str, Any] = jwt.decode(
        token,
        key.key,
        algorithms=["RS256"],
        issuer=issuer,
        audience=audience,
        options=options,  # type: ignore[arg-type]
    )
    assert claims["nbf"] <= now < claims["exp"]
    return claims


def ask(endpoint: IdentityEndpoint, name: str, **changed: str) -> requests.Response:
    environment = endpoint.environment_for(name)
    return requests.get(
        environment["IDENTITY_ENDPOINT"],
        params={**QUERY, **changed},
        headers={"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]},
        timeout=5,
    )


def test_v1_token_verifies_by_discovery_and_has_microsofts_claims(entra: Entra) -> None:
    identity = entra.identity("tokenvend")
    token = entra.mint(identity, "api://tokenvend-federation")
    claims = verified(entra, token, V1, "api://tokenvend-federation", NOW)
    header = jwt.get_unverified_header(token)
    assert header == {
        "alg": "RS256",
        "typ": "JWT",
        "kid": entra.signing_key.kid,
        "x5t": entra.signing_key.kid,
    }
    opaque = {claims.pop(name) for name in ("aio", "rh", "uti")}
    assert len(opaque) == 3
    assert claims == {
        "aud": "api://tokenvend-federation",
        "iss": V1,
        "iat": NOW - 300,
        "nbf": NOW - 300,
        "exp": NOW + 86400,
        "appid": identity.client_id,
        "appidacr": "2",
        "idp": V1,
        "oid": identity.principal_id,
        "sub": identity.principal_id,
        "tid": TENANT,
        "ver": "1.0",
    }


def test_v2_token_verifies_by_discovery_and_names_the_api_by_guid(entra: Entra) -> None:
    identity = entra.identity("reporting")
    token = entra.mint(identity, "api://tokenvend")
    claims = verified(entra, token, V2, "6f1b7c1e-2a34-4e0e-9a51-9f3e5d7c0a11", NOW)
    assert "x5t" not in jwt.get_unverified_header(token)
    assert set(claims) == {
        "aud",
        "iss",
        "iat",
        "nbf",
        "exp",
        "aio",
        "azp",
        "azpacr",
        "oid",
        "rh",
        "sub",
        "tid",
        "uti",
        "ver",
    }
    assert (claims["azp"], claims["azpacr"], claims["ver"]) == (identity.client_id, "2", "2.0")


def test_v1_audience_is_the_resource_as_it_was_asked_for(entra: Entra) -> None:
    guid = "0d9c5f0a-51c8-4b55-8d0e-1c0b6a7f2b22"
    token = entra.mint(entra.identity("tokenvend"), guid)
    assert verified(entra, token, V1, guid, NOW)["aud"] == guid


def test_assigned_app_roles_appear_and_others_do_not(entra: Entra, azure: Azure) -> None:
    roles = [AppRole("r-1", "Tokens.Vend"), AppRole("r-2", "Tokens.Audit")]
    azure.applications[0].app_roles = roles
    entra.identity("reporting").app_role_assignments = [
        AppRoleAssignment("tokenvend", "r-1"),
        AppRoleAssignment("tokenvend-federation", "r-2"),
    ]
    token = entra.mint(entra.identity("reporting"), "api://tokenvend")
    assert jwt.decode(token, options={"verify_signature": False})["roles"] == ["Tokens.Vend"]


def test_claims_and_header_can_be_made_wrong(entra: Entra) -> None:
    identity = entra.identity("reporting")
    token = entra.mint(identity, "api://tokenvend", header={"kid": "other"}, tid="t", oid=None)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["tid"] == "t"
    assert "oid" not in claims
    assert jwt.get_unverified_header(token)["kid"] == "other"


def test_key_set_has_microsofts_shape(entra: Entra) -> None:
    base = f"https://login.microsoftonline.com/{TENANT}/discovery"
    (v2,) = document(entra, f"{base}/v2.0/keys")["keys"]
    (v1,) = document(entra, f"{base}/keys")["keys"]
    assert set(v1) == {"kty", "use", "kid", "x5t", "n", "e", "x5c", "cloud_instance_name"}
    assert v2 == {**v1, "issuer": V2}
    assert v1["kid"] == v1["x5t"]


def test_rotation_keeps_old_tokens_verifiable_until_the_key_is_retired(entra: Entra) -> None:
    identity = entra.identity("reporting")
    audience = "6f1b7c1e-2a34-4e0e-9a51-9f3e5d7c0a11"
    old = entra.mint(identity, "api://tokenvend")
    entra.rotate()
    new = entra.mint(identity, "api://tokenvend")
    assert verified(entra, old, V2, audience, NOW)["oid"] == identity.principal_id
    assert verified(entra, new, V2, audience, NOW)["oid"] == identity.principal_id
    entra.rotate(retire=True)
    with pytest.raises(KeyError):
        verified(entra, old, V2, audience, NOW)


@pytest.mark.parametrize("host", ["login.microsoftonline.com", "sts.windows.net"])
def test_unknown_tenant_gets_entras_own_error(entra: Entra, host: str) -> None:
    answer = get(entra, f"https://{host}/{TENANT[:-1]}2/.well-known/openid-configuration")
    error = json.loads(answer.body)
    assert (answer.status, error["error"], error["error_codes"]) == (400, "invalid_tenant", [90002])
    assert error["error_description"].startswith(f"AADSTS90002: Tenant '{TENANT[:-1]}2' not found.")


def test_multi_tenant_discovery_leaves_the_tenant_open(entra: Entra) -> None:
    url = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration"
    assert document(entra, url)["issuer"] == "https://login.microsoftonline.com/{tenantid}/v2.0"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{TENANT}/oauth2/token"),
        ("GET", f"{TENANT}/oauth2/v2.0/authorize"),
        ("POST", f"{TENANT}/discovery/keys"),
    ],
)
def test_doors_that_are_not_served_answer_404(entra: Entra, method: str, path: str) -> None:
    # Not 501: clients retry that.
    assert get(entra, f"https://login.microsoftonline.com/{path}", method=method).status == 404


def test_identity_endpoint_answers_as_app_service_does(
    entra: Entra, endpoint: IdentityEndpoint
) -> None:
    answer = ask(endpoint, "reporting")
    body = answer.json()
    assert answer.status_code == 200
    token = body.pop("access_token")
    assert body == {
        "expires_on": str(NOW + 86400),
        "resource": "api://tokenvend",
        "token_type": "Bearer",
        "client_id": entra.identity("reporting").client_id,
    }
    claims = verified(entra, token, V2, "6f1b7c1e-2a34-4e0e-9a51-9f3e5d7c0a11", NOW)
    assert claims["exp"] == NOW + 86400


def test_platform_repeats_its_token_until_shortly_before_the_end(
    endpoint: IdentityEndpoint, clock: Clock
) -> None:
    first = ask(endpoint, "reporting").json()
    clock.now += 86400 - 301
    assert ask(endpoint, "reporting").json() == first
    clock.now += 1
    assert ask(endpoint, "reporting").json()["access_token"] != first["access_token"]


REFUSED_PARAMETERS = {
    "no api-version": ({"api-version": ""}, "The api-version must be 2019-08-01."),
    "the older api-version": ({"api-version": "2017-09-01"}, "The api-version must be 2019-08-01."),
    "no resource": ({"resource": ""}, "The resource parameter is missing."),
    "unknown resource": (
        {"resource": "api://nowhere"},
        "AADSTS500011: The resource principal named api://nowhere was not found in the tenant",
    ),
    "a scope for a resource": ({"resource": "api://tokenvend/.default"}, "AADSTS500011"),
    "somebody else's client id": (
        {"client_id": "1b1d3f60-7c2e-4c52-bb63-6e2f8a5d9c01"},
        "Unable to load the proper Managed Identity.",
    ),
    "two selectors": (
        {
            "client_id": "1b1d3f60-7c2e-4c52-bb63-6e2f8a5d9c02",
            "object_id": "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02",
        },
        "Unable to load the proper Managed Identity.",
    ),
}


@pytest.mark.parametrize("case", REFUSED_PARAMETERS)
def test_identity_endpoint_refuses_parameters(endpoint: IdentityEndpoint, case: str) -> None:
    changed, message = REFUSED_PARAMETERS[case]
    answer = ask(endpoint, "reporting", **changed)
    assert (answer.status_code, answer.json()["statusCode"]) == (400, 400)
    assert answer.json()["message"].startswith(message)


REFUSED_HEADERS: dict[str, tuple[dict[str, str], int]] = {
    "no header": ({"X-IDENTITY-HEADER": ""}, 401),
    "a wrong header": ({"X-IDENTITY-HEADER": "0" * 32}, 403),
    "a request that passed a proxy": ({"X-Forwarded-For": "10.0.0.1"}, 400),
}


@pytest.mark.parametrize("case", REFUSED_HEADERS)
def test_identity_endpoint_refuses_headers(endpoint: IdentityEndpoint, case: str) -> None:
    changed, status = REFUSED_HEADERS[case]
    environment = endpoint.environment_for("reporting")
    headers = {"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"], **changed}
    answer = requests.get(endpoint.url, params=QUERY, headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["statusCode"]) == (status, status)
    assert "access_token" not in answer.json()


def test_header_rotates_and_the_old_one_is_refused(endpoint: IdentityEndpoint) -> None:
    old = endpoint.environment_for("reporting")["IDENTITY_HEADER"]
    endpoint.rotate("reporting")
    stale = requests.get(endpoint.url, params=QUERY, headers={"X-IDENTITY-HEADER": old}, timeout=5)
    assert stale.status_code == 403
    assert ask(endpoint, "reporting").status_code == 200


def test_each_workload_has_its_own_header(entra: Entra, endpoint: IdentityEndpoint) -> None:
    tokens = {name: ask(endpoint, name).json() for name in ("reporting", "outsider")}
    for name, body in tokens.items():
        claims = jwt.decode(body["access_token"], options={"verify_signature": False})
        assert claims["oid"] == entra.identity(name).principal_id


SELECTORS = {
    "client_id": "client_id",
    "object_id": "principal_id",
    "principal_id": "principal_id",
    "mi_res_id": "resource_id",
    "msi_res_id": "resource_id",
}


@pytest.mark.parametrize("selector", SELECTORS)
def test_selector_picks_a_user_assigned_identity(
    entra: Entra, endpoint: IdentityEndpoint, selector: str
) -> None:
    entra.identity("reporting").user_assigned_identities = ["outsider"]
    wanted = entra.identity("outsider")
    value = getattr(wanted, SELECTORS[selector])
    chosen = ask(endpoint, "reporting", **{selector: value.upper()}).json()
    assert chosen["client_id"] == wanted.client_id
    # Of several user-assigned identities none is the default one; beside them a system-assigned is.
    assert ask(endpoint, "reporting").status_code == 400
    entra.identity("reporting").resource_id = ""
    own = ask(endpoint, "reporting").json()
    assert own["client_id"] == entra.identity("reporting").client_id


def test_a_machine_of_several_identities_is_told_to_name_one(entra: Entra) -> None:
    entra.identity("reporting").user_assigned_identities = ["outsider"]
    url = f"{VM}?api-version=2018-02-01&resource=api://tokenvend"
    refused = get(entra, url, ("Metadata", "true"))
    assert refused.status == 400
    assert (
        "Multiple user assigned identities exist" in json.loads(refused.body)["error_description"]
    )


def test_a_token_from_the_future_is_not_handed_out_when_the_clock_is_set_back(
    endpoint: IdentityEndpoint, clock: Clock
) -> None:
    clock.now += 3600
    ahead = ask(endpoint, "reporting").json()["access_token"]
    clock.now -= 3600
    assert ask(endpoint, "reporting").json()["access_token"] != ahead


@pytest.mark.parametrize("selector", ["mi_res_id", "msi_res_id"])
def test_a_resource_id_that_the_workload_does_not_carry_is_refused_not_ignored(
    entra: Entra, endpoint: IdentityEndpoint, selector: str
) -> None:
    foreign = entra.identity("outsider").resource_id
    answer = ask(endpoint, "reporting", **{selector: foreign})
    assert answer.status_code == 400
    assert "access_token" not in answer.text
    query = f"api-version=2018-02-01&resource=api://tokenvend&{selector}="
    refused = get(entra, f"{VM}?{query}{foreign}", ("Metadata", "true"))
    assert (refused.status, json.loads(refused.body)["error"]) == (400, "invalid_request")
    own = get(entra, f"{VM}?{query}{entra.identity('reporting').resource_id}", ("Metadata", "true"))
    assert json.loads(own.body)["client_id"] == entra.identity("reporting").client_id


def test_mint_refuses_an_unknown_resource(entra: Entra) -> None:
    with pytest.raises(UnknownResourceError, match="AADSTS500011"):
        entra.mint(entra.identity("reporting"), "https://vault.azure.net")


VM = "http://169.254.169.254/metadata/identity/oauth2/token"


def test_vm_metadata_answers_with_strings(entra: Entra) -> None:
    url = f"{VM}?api-version=2018-02-01&resource=api://tokenvend-federation"
    answer = get(entra, url, ("Metadata", "true"))
    body = json.loads(answer.body)
    assert answer.status == 200
    assert (body["expires_in"], body["expires_on"]) == ("86400", str(NOW + 86400))
    claims = verified(entra, body["access_token"], V1, "api://tokenvend-federation", NOW)
    assert claims["oid"] == entra.identity("reporting").principal_id


VM_REFUSED: dict[str, tuple[str, tuple[tuple[str, str], ...], str]] = {
    "no Metadata header": (
        "api-version=2018-02-01&resource=api://tokenvend",
        (),
        "invalid_request",
    ),
    "a request that passed a proxy": (
        "api-version=2018-02-01&resource=api://tokenvend",
        (("Metadata", "true"), ("X-Forwarded-For", "10.0.0.1")),
        "invalid_request",
    ),
    "no api-version": ("resource=api://tokenvend", (("Metadata", "true"),), "bad_request_102"),
    "no resource": ("api-version=2018-02-01", (("Metadata", "true"),), "invalid_request"),
    "unknown resource": (
        "api-version=2018-02-01&resource=api://nowhere",
        (("Metadata", "true"),),
        "invalid_resource",
    ),
    "unknown identity": (
        "api-version=2018-02-01&resource=api://tokenvend&client_id=nobody",
        (("Metadata", "true"),),
        "invalid_request",
    ),
}


@pytest.mark.parametrize("case", VM_REFUSED)
def test_vm_metadata_refuses(entra: Entra, case: str) -> None:
    query, headers, error = VM_REFUSED[case]
    answer = get(entra, f"{VM}?{query}", *headers)
    assert (answer.status, json.loads(answer.body)["error"]) == (400, error)


def test_app_settings_keep_the_two_audiences_apart() -> None:
    settings = app_settings(World.load(), "policy.toml")
    assert settings["TOKENVEND_ENTRA_AUDIENCES"] == "6f1b7c1e-2a34-4e0e-9a51-9f3e5d7c0a11"
    assert settings["TOKENVEND_AZURE_FEDERATION_AUDIENCE"] == "api://tokenvend-federation"
    assert settings["TOKENVEND_GOOGLE_PROVIDER"].endswith("/providers/azure-prod")


def test_app_settings_refuse_one_application_for_both_audiences() -> None:
    world = World.load()
    world.azure.applications = [world.azure.applications[1]]
    world.azure.applications[0].display_name = world.azure.function_app
    with pytest.raises(LookupError, match="no application is called tokenvend"):
        app_settings(world, "policy.toml")


def _nowhere(request: Request) -> Response:
    raise AssertionError(request.host)


def _credential(**changed: Any) -> FederatedIdentityCredential:
    given = {"name": "aks", "issuer": "https://oidc.example/", "subject": "s", "audiences": ["a"]}
    return FederatedIdentityCredential(**{**given, **changed})


def _credentials(*held: FederatedIdentityCredential) -> Callable[[Azure], None]:
    def give(azure: Azure) -> None:
        named(azure, "reporting").federated_identity_credentials = list(held)

    return give


def named(azure: Azure, name: str) -> ManagedIdentity:
    found = azure.managed_identity(name)
    assert found is not None
    return found


TENANTS: dict[str, tuple[Callable[[Azure], None], str]] = {
    "a pod as a system-assigned identity": (
        lambda azure: setattr(
            named(azure, "tokenvend"), "federated_identity_credentials", [_credential()]
        ),
        "a system-assigned identity has no federated credentials",
    ),
    "two audiences": (_credentials(_credential(audiences=["a", "b"])), "one audience"),
    "no audience": (_credentials(_credential(audiences=[])), "one audience"),
    "an issuer without TLS": (_credentials(_credential(issuer="http://oidc.example/")), "https"),
    "a subject for two": (
        _credentials(_credential(), _credential(name="another")),
        "two have the issuer and subject",
    ),
    "too many": (
        _credentials(*(_credential(name=f"c{n:02}", subject=f"{n}") for n in range(21))),
        "more than 20",
    ),
    "a subject too long": (_credentials(_credential(subject="s" * 601)), "another length"),
    "another's client id": (
        lambda azure: setattr(
            named(azure, "outsider"), "client_id", named(azure, "reporting").client_id.upper()
        ),
        "two have the clientId",
    ),
    "another's identifier URI": (
        lambda azure: azure.applications[1].identifier_uris.append("api://tokenvend"),
        "two have the identifier URI",
    ),
    "a role that nobody defined": (
        lambda azure: named(azure, "outsider").app_role_assignments.append(
            AppRoleAssignment("tokenvend", "c0a1e2b3-4d5f-4a6b-9c7d-8e9f0a1b2c3d")
        ),
        "has no such app role",
    ),
    "an identity that cannot be assigned": (
        lambda azure: named(azure, "reporting").user_assigned_identities.append("tokenvend"),
        "is no user-assigned identity",
    ),
    "tokens of version 3": (
        lambda azure: setattr(azure.applications[0], "requested_access_token_version", 3),
        "is null, 1 or 2",
    ),
}


@pytest.mark.parametrize("case", TENANTS)
def test_a_tenant_that_could_not_be_is_refused(azure: Azure, clock: Clock, case: str) -> None:
    change, said = TENANTS[case]
    change(azure)
    with pytest.raises(WorldError, match=said):
        Entra(azure, clock)
