"""A world without sockets or waiting: clocks that stand still until something takes time, and
upstreams that answer as Google, AWS, Entra and Azure do, or hang, drip, refuse or reset.

The application on it is the real one, built by `tokenvend.app` (`on_aws`, `on_azure`); only the
network and the clocks below it are the world's. Every token that a simulated upstream gives is
known by its value, so that a test can ask of any token whether it is alive, whose it is and what it
is for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.unit.issuing import NOW, PROVIDER, page, rsa_key
from tokenvend.app.aws import build_aws
from tokenvend.app.azure import build_azure
from tokenvend.app.common import Machine
from tokenvend.http import Backend
from tokenvend.transport import Answer
from tokenvend.transport.connections import READ_TIMEOUT
from tokenvend.wire.objects import rfc3339

if TYPE_CHECKING:
    from pathlib import Path

    from tokenvend.deadline import Deadline
    from tokenvend.http import Api
    from tokenvend.service import Vending
    from tokenvend.transport import Call

STS, IAM = "sts.googleapis.com", "iamcredentials.googleapis.com"
AWS_STS, ENTRA = "sts.us-east-1.amazonaws.com", "login.microsoftonline.com"
ISSUER = "issuer.example"
IDENTITY, BLOB = "127.0.0.1:4141", "acmepolicies.blob.core.windows.net"
TENANT, AUDIENCE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "5b2b7c5e-8f7b-4d53-a0a4-4d6f3c2e1b0a"
ACCOUNT, API, ALIAS = "111122223333", "a1b2c3d4e5", "live"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:vend"
FAULTS = ("hang", "drip", "refuse", "reset", "garbage", "500", "429")
# Seconds that an answer takes where nothing is wrong.
LATENCY = 0.02

COMMON = {"TOKENVEND_GOOGLE_PROVIDER": PROVIDER}
AWS = COMMON | {
    "AWS_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "vend",
    "AWS_ACCESS_KEY_ID": "ASIAEXAMPLEEXAMPLE77",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "own",
    "TOKENVEND_AWS_ACCOUNT": ACCOUNT,
    "TOKENVEND_AWS_API_IDS": API,
    "TOKENVEND_AWS_GATEWAY_ALIAS": ALIAS,
    "TOKENVEND_AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/vend",
}
AZURE = COMMON | {
    "TOKENVEND_AZURE_FEDERATION_AUDIENCE": "api://federation",
    "IDENTITY_ENDPOINT": f"http://{IDENTITY}/msi/token",
    "IDENTITY_HEADER": "header",
}
# Who may call, where a test lets others in than the platform does.
ISSUERS = {
    "ENTRA_TENANTS": TENANT,
    "ENTRA_AUDIENCES": AUDIENCE,
    "OIDC_ISSUERS": json.dumps([{"issuer": f"https://{ISSUER}", "audiences": ["tokenvend"]}]),
}


@dataclass
class Clocks:
    """Wall clock (epoch seconds) and monotonic clock (seconds); the world alone moves them."""

    wall: float = float(NOW)
    steady: float = 1_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_(self, seconds: float) -> None:
        """Time goes by, and the process lives through it."""
        self.wall += seconds
        self.steady += seconds

    def freeze(self, seconds: float) -> None:
        """The process is frozen: the world goes on, its monotonic clock does not."""
        self.wall += seconds


@dataclass(frozen=True)
class Given:
    """A token that an upstream gave. `session`: whom it names, empty for the endpoint itself."""

    kind: str
    expires_at: float
    session: str = ""
    account: str = ""


@dataclass
class Deployment:
    """A function that runs, its records and what its operator is told. `sink_fails`: no record is
    taken.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    sink_fails: bool = False
    api: Api = field(init=False)

    def write(self, line: str, _: object) -> None:
        """The sink."""
        if self.sink_fails:
            raise OSError("disk full")
        self.records.append(json.loads(line))

    @property
    def vending(self) -> Vending:
        """What stands behind its doors."""
        assert isinstance(self.api.state, Backend)
        return self.api.state.vending


@dataclass
class World:
    """Upstreams by host, and what they have given. `federated_life`: seconds. `sick`: the one
    upstream that is not well, and how. `answered_at`, `failed_at`: epoch seconds of a host's last
    answer in health, and of the latest end of its last failure. `asked`: every host that was
    called; `scopes`: those of every exchange. `before` sees each call first.
    """

    clocks: Clocks = field(default_factory=Clocks)
    policy: str = ""
    federated_life: int = 3600
    sick: tuple[str, str] | None = None
    given: dict[str, Given] = field(default_factory=dict)
    answered_at: dict[str, float] = field(default_factory=dict)
    failed_at: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    before: Callable[[str, Call, Deadline], None] = lambda *_: None

    def on_aws(self, policy: Path, environ: Mapping[str, str] = AWS, **more: str) -> Deployment:
        """The function on AWS with the policy in this file; `more` lacks its TOKENVEND_."""
        return self._deployed(build_aws, environ, str(policy), more)

    def on_azure(
        self, policy: str = f"azure-blob:https://{BLOB}/policies/policy.toml", **more: str
    ) -> Deployment:
        """The function on Azure."""
        return self._deployed(build_azure, AZURE, policy, more)

    def _deployed(
        self,
        build: Callable[..., Api],
        environ: Mapping[str, str],
        policy: str,
        more: Mapping[str, str],
    ) -> Deployment:
        made = Deployment()
        settings = {f"TOKENVEND_{name}": text for name, text in ({"POLICY": policy} | more).items()}
        machine = Machine(
            made.write,
            made.reported.append,
            now=self.clocks.now,
            monotonic=self.clocks.monotonic,
            sleep=self.clocks.pass_,
            random=lambda: 0.5,
            network=self,
        )
        made.api = build({**environ, **settings}, machine)
        return made

    # --- the seam: one try on the network --------------------------------------------------------

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """One request and its answer, or what a socket would raise."""
        host = urlsplit(call.url).netloc
        self.asked.append(host)
        self.before(host, call, deadline)
        if deadline.remaining() <= 0:
            raise TimeoutError("nothing left")
        if self.sick is not None and self.sick[0] == host:
            self.failed_at[host] = self.clocks.wall + deadline.remaining()
            return self._ill(self.sick[1], deadline)
        self._take(LATENCY, deadline)
        answer = self._upstreams[host](call)
        self.answered_at[host] = self.clocks.wall
        return answer

    def expire(self, kind: str) -> None:
        """Every token of this kind counts no more, as where its provider was made anew."""
        for value, given in self.given.items():
            if given.kind == kind:
                self.given[value] = replace(given, expires_at=0)

    def _ill(self, how: str, deadline: Deadline) -> Answer:
        match how:
            case "hang":
                self._take(READ_TIMEOUT, deadline)
                raise TimeoutError("no byte came")
            case "drip":
                # A byte now and then keeps every single read alive.
                self.clocks.pass_(deadline.remaining())
                raise TimeoutError("the deadline came first")
            case "refuse":
                raise ConnectionRefusedError
            case "reset":
                self._take(LATENCY, deadline)
                raise ConnectionResetError
            case "garbage":
                self._take(LATENCY, deadline)
                return Answer(200, {"content-type": "application/json"}, b'{"access_token": ')
            case status:
                self._take(LATENCY, deadline)
                return page({"error": {"status": "UNAVAILABLE"}}, int(status))

    def _take(self, seconds: float, deadline: Deadline) -> None:
        left = deadline.remaining()
        self.clocks.pass_(min(seconds, left))
        if left <= seconds:
            raise TimeoutError("the deadline came first")

    @property
    def _upstreams(self) -> dict[str, Callable[[Call], Answer]]:
        return {
            STS: self._google_sts,
            IAM: self._iam_credentials,
            AWS_STS: self._aws_sts,
            ENTRA: lambda _: page({"keys": [rsa_key().jwk()]}),
            ISSUER: self._issuer,
            IDENTITY: self._managed_identity,
            BLOB: self._blob,
        }

    # --- the upstreams ---------------------------------------------------------------------------

    def _new(self, given: Given, prefix: str = "ya29.") -> str:
        value = f"{prefix}{given.kind}-{len(self.given):08d}"
        self.given[value] = given
        return value

    def _google_sts(self, call: Call) -> Answer:
        form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        assert form["audience"] == PROVIDER
        session = ""
        if form["subject_token_type"].endswith("aws4_request"):
            signed = json.loads(unquote(form["subject_token"]))
            key = {each["key"].lower(): each["value"] for each in signed["headers"]}
            token = key.get("x-amz-security-token", "")
            if token in self.given:
                assert self.given[token].expires_at > self.clocks.wall
                session = self.given[token].session
        else:
            claims = form["subject_token"].split(".")[1]
            assert json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"] > self.clocks.wall
        expires_at = self.clocks.wall + self.federated_life
        self.scopes.append(form["scope"])
        kind = "federated" if form["scope"].endswith("/auth/iam") else "direct"
        token = self._new(Given(kind, expires_at, session))
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.federated_life}
        return page(answer)

    def _iam_credentials(self, call: Call) -> Answer:
        bearer = {name.lower(): value for name, value in call.headers.items()}["authorization"]
        federated = self.given[bearer.removeprefix("Bearer ")]
        assert federated.kind == "federated"
        if federated.expires_at <= self.clocks.wall:
            return page({"error": {"status": "UNAUTHENTICATED"}}, 401)
        account, _, method = urlsplit(call.url).path.rpartition("/")[2].partition(":")
        body = json.loads(call.body)
        if method == "generateIdToken":
            expires_at = self.clocks.wall + 3600
            claims = {"aud": body["audience"], "exp": int(expires_at), "n": len(self.given)}
            text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
            token = self._new(Given("id", expires_at, federated.session, account), f"e30.{text}.")
            return page({"token": token})
        expires_at = self.clocks.wall + int(body["lifetime"].removesuffix("s"))
        token = self._new(Given("access", expires_at, federated.session, account))
        return page({"accessToken": token, "expireTime": rfc3339(int(expires_at))})

    def _aws_sts(self, call: Call) -> Answer:
        form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        name = form["RoleSessionName"]
        expires_at = int(self.clocks.wall) + int(form["DurationSeconds"])
        token = self._new(Given("session", expires_at, name), "FwoGZXIvYXdz")
        account, role = form["RoleArn"].split(":")[4], form["RoleArn"].rpartition("/")[2]
        body = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<AssumeRoleResult><SourceIdentity>{name}</SourceIdentity><AssumedRoleUser>"
            f"<Arn>arn:aws:sts::{account}:assumed-role/{role}/{name}</Arn></AssumedRoleUser>"
            f"<Credentials><AccessKeyId>ASIAEXAMPLEEXAMPLE77</AccessKeyId>"
            f"<SecretAccessKey>secret</SecretAccessKey><SessionToken>{token}</SessionToken>"
            f"<Expiration>{rfc3339(expires_at)}</Expiration></Credentials>"
            "</AssumeRoleResult></AssumeRoleResponse>"
        )
        return Answer(200, {"content-type": "text/xml"}, body.encode())

    def _issuer(self, call: Call) -> Answer:
        if call.url.endswith("openid-configuration"):
            uri = f"https://{ISSUER}/keys"
            return page({"issuer": f"https://{ISSUER}", "jwks_uri": uri})
        return page({"keys": [rsa_key().jwk()]})

    def _managed_identity(self, call: Call) -> Answer:
        expires_at = int(self.clocks.wall) + 86_400
        claims = base64.urlsafe_b64encode(json.dumps({"exp": expires_at}).encode()).decode()
        token = f"e30.{claims.rstrip('=')}.s{len(self.given)}"
        return page({"access_token": token, "expires_on": str(expires_at)})

    def _blob(self, call: Call) -> Answer:
        return Answer(200, {}, self.policy.encode())
