"""AssumeRoleWithWebIdentity: a pod of EKS takes on its role by the token of its service account.

The issuer is the embedded cloud's own cluster, reached through its discovery document as AWS would.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from localcloud.aws import Accounts, sites
from localcloud.aws.instances import eks
from localcloud.keys import SigningKey
from localcloud.kubernetes import Cluster, Pod
from localcloud.wire.faults import Clock
from localcloud.wire.web import Headers, Request, Response, Router
from localcloud.world import OidcProvider, World
from tests.conformance.aws_lab import ACCOUNT, REGION, STS, code, element, signed

if TYPE_CHECKING:
    from collections.abc import Callable

AUDIENCE = "sts.amazonaws.com"
ETL = Pod("etl")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/etl"


@dataclass
class Lab:
    """STS beside a cluster that the account trusts, as the role etl does one of its pods."""

    accounts: Accounts
    clock: Clock
    cluster: Cluster
    router: Router

    @property
    def provider(self) -> str:
        return self.cluster.issuer.removeprefix("https://")

    def assume(self, token: str, **more: str) -> Response:
        values = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": ROLE,
            "RoleSessionName": "pod",
            "WebIdentityToken": token,
            **more,
        }
        fields = [("Host", STS), ("Content-Type", "application/x-www-form-urlencoded")]
        return self.router(Request("POST", STS, "/", Headers(fields), urlencode(values).encode()))


@pytest.fixture
def lab() -> Lab:
    world, clock = World.load(), Clock()
    cluster = Cluster(eks.issuer(ACCOUNT, REGION), clock)
    world.aws.open_id_connect_providers = [OidcProvider(cluster.issuer, [AUDIENCE])]
    role, name = world.aws.role("etl"), cluster.issuer.removeprefix("https://")
    assert role is not None
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{name}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {f"{name}:sub": ETL.subject, f"{name}:aud": AUDIENCE},
        },
    }
    role.assume_role_policy_document = {"Version": "2012-10-17", "Statement": [statement]}
    accounts, router = Accounts(world.aws, clock), Router(cluster.sites())
    router.add(sites(accounts, fetch=router))
    return Lab(accounts, clock, cluster, router)


def test_a_pod_takes_on_the_role_that_trusts_its_service_account(lab: Lab) -> None:
    answer = lab.assume(lab.cluster.token(ETL, AUDIENCE, 3600))
    assert answer.status == 200, answer.body
    assert element(answer, "SubjectFromWebIdentityToken") == ETL.subject
    assert element(answer, "Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/pod"
    key = lab.accounts.find(element(answer, "AccessKeyId"))
    assert key is not None
    assert element(lab.router(signed(key)), "Account") == ACCOUNT


def forged(lab: Lab, **changed: Any) -> str:
    """A token of the pod with other claims, signed by a key of its own under the cluster's kid."""
    token = lab.cluster.token(ETL, AUDIENCE, 3600)
    claims = jwt.decode(token, options={"verify_signature": False})
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    header = jwt.get_unverified_header(token)
    return jwt.encode({**claims, **changed}, own, "RS256", {"kid": header["kid"]})


def unsigned(lab: Lab) -> str:
    token = lab.cluster.token(ETL, AUDIENCE, 3600)
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, None, "none", {"kid": jwt.get_unverified_header(token)["kid"]})


REFUSED: list[tuple[str, Callable[[Lab], str], int, str]] = [
    ("another pod", lambda lab: lab.cluster.token(Pod("x"), AUDIENCE, 900), 403, "AccessDenied"),
    (
        "another audience",
        lambda lab: lab.cluster.token(ETL, "vault", 900),
        400,
        "InvalidIdentityToken",
    ),
    ("a forged signature", forged, 400, "InvalidIdentityToken"),
    ("no signature", unsigned, 400, "InvalidIdentityToken"),
    ("no token", lambda _: "a.b.c", 400, "InvalidIdentityToken"),
    (
        "another issuer",
        lambda lab: forged(lab, iss="https://elsewhere.example"),
        400,
        "InvalidIdentityToken",
    ),
    (
        "another cluster of the same name",
        lambda lab: Cluster(lab.cluster.issuer, lab.clock).token(ETL, AUDIENCE, 900),
        400,
        "InvalidIdentityToken",
    ),
    (
        "an ended token",
        lambda lab: lab.cluster.token(ETL, AUDIENCE, -1),
        400,
        "ExpiredTokenException",
    ),
]


@pytest.mark.parametrize(
    ("make", "status", "error"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_wrong_token_gets_nothing(
    lab: Lab, make: Callable[[Lab], str], status: int, error: str
) -> None:
    token = make(lab)
    answer = lab.assume(token)
    assert (answer.status, code(answer)) == (status, error)
    assert token.encode() not in answer.body


def test_a_token_issued_to_another_party_is_none_for_us(lab: Lab) -> None:
    """Of a token that names whom it was issued to, `azp` counts and not `aud`."""
    key, clock = SigningKey.generate(), int(lab.clock())
    claims = {"iss": lab.cluster.issuer, "sub": ETL.subject, "exp": clock + 900, "iat": clock}
    key_set = {"keys": [{**key.jwk(), "alg": "RS256"}]}
    published = lab.router.site(lab.cluster.issuer.split("/")[2])
    assert published is not None

    def issuer(request: Request) -> Response:
        ours = request.path.endswith("/openid/v1/jwks")
        return Response.json(200, key_set) if ours else published(request)

    lab.router.add({lab.cluster.issuer.split("/")[2]: issuer})
    for further, status in (
        ({"aud": AUDIENCE}, 200),
        ({"aud": AUDIENCE, "azp": "somebody-else"}, 400),
        ({"aud": "somebody-else", "azp": AUDIENCE}, 200),
        ({"aud": [AUDIENCE], "azp": [AUDIENCE]}, 400),
    ):
        assert lab.assume(key.sign_jwt({**claims, **further})).status == status


def test_a_role_that_does_not_trust_the_issuer_is_closed(lab: Lab) -> None:
    token = lab.cluster.token(ETL, AUDIENCE, 900)
    for role in ("stranger", "nobody"):
        answer = lab.assume(token, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}")
        assert (answer.status, code(answer)) == (403, "AccessDenied")


def test_an_issuer_that_cannot_be_reached_is_told_apart(lab: Lab) -> None:
    lab.router.add({lab.provider.partition("/")[0]: lambda _: Response(503)})
    answer = lab.assume(lab.cluster.token(ETL, AUDIENCE, 900))
    assert (answer.status, code(answer)) == (400, "IDPCommunicationError")


def test_keys_are_taken_from_the_issuers_own_document_alone(lab: Lab) -> None:
    document = {"issuer": "https://elsewhere.example", "jwks_uri": "https://elsewhere.example/keys"}
    body = json.dumps(document).encode()
    lab.router.add({lab.provider.partition("/")[0]: lambda _: Response(200, body)})
    answer = lab.assume(lab.cluster.token(ETL, AUDIENCE, 900))
    assert (answer.status, code(answer)) == (400, "InvalidIdentityToken")
