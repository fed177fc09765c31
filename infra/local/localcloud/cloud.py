"""The embedded cloud as one object: everything that `make up` runs, wired together.

Real hostnames are reached through a CONNECT proxy and a certificate authority of its own, so the
functions and their callers run unmodified and without any endpoint override. It listens on loopback
only, on ports that were free. What other processes need stands in the directory it is given:
`endpoints.json` (only while everything answers), `admin.json`, the authority's certificate and the
functions' logs. The directory is private to the user.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from localcloud import aws, azure, google, network, outages
from localcloud.wire import admin
from localcloud.wire.faults import Clock, Faults
from localcloud.wire.net import Authority, Proxy
from localcloud.wire.web import Request, Response, Router, Server, Site
from localcloud.workloads import ADDRESSES, Machine, Machines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from types import TracebackType

    from localcloud.world import World

ROOT = Path(__file__).resolve().parents[3]
# Relative to the root, as the functions' setting is. The second is added to the first on AWS.
POLICY = "infra/local/localcloud/policy.toml"
POLICY_ON_AWS = "infra/local/localcloud/policy.aws.toml"
POD_TOKENS = "tokens"
# What is only true while a cloud runs. One that was killed leaves it to the next.
LEFT_BY_THE_KILLED = ("endpoints.json", "admin.json", "*.new", POD_TOKENS, "objects")
# The template's parameter for the ids of a REST API and Function URL beside its HTTP API.
OTHER_DOORS = "OtherApiIds"
# The endpoint's own name in token exchanges.
AUDIENCE = "//tokenvend.acme.example"
READY_SECONDS = 30
# What each part says when it cannot start; a CloudError carries the same words.
_REFUSALS = (
    aws.RuntimeMissingError,
    aws.TemplateError,
    aws.WorkerError,
    azure.FunctionsHostError,
)


class CloudError(RuntimeError):
    """The embedded cloud did not start; the text names what failed and its log."""


class Cloud:
    """The three clouds and the functions in them; also a context manager.

    Args:
        world: what exists; may be changed while it runs.
        directory: where its files go; made, private to the user.
        functions: which clouds' functions run.
        root: the repository, with template.yaml, host.json and the functions.
        policy: the functions' policy file, absolute or relative to the root; without it each
            function has the default world's.
        parameters: values of the template's parameters beside those the world gives.
        settings: app settings of the Azure function beside those the world gives.
        forget: patterns of files of earlier runs that go at the start, such as ``*.log``.
        propagation: seconds until a changed policy of Google's acts; there it takes some 70.

    """

    def __init__(  # noqa: PLR0913 -- keywords, of which each caller gives a few
        self,
        world: World,
        directory: Path,
        *,
        functions: Collection[str] = ("aws", "azure"),
        root: Path = ROOT,
        policy: str = "",
        parameters: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        forget: Collection[str] = (),
        propagation: float = 0,
    ) -> None:
        self.world = world
        self.directory = directory.resolve()
        self.clock = Clock()
        self.router = Router()
        self.faults = Faults(
            self.router, lambda request, status: outages.answer(request, status, self.clock())
        )
        self.accounts = aws.Accounts(world.aws, self.clock)
        self.entra = azure.Entra(world.azure, self.clock)
        self.audit = google.AuditLog()
        self.google = google.GoogleCloud(
            world,
            self.clock,
            self._internet,
            self.audit,
            self.directory / "objects",
            propagation=propagation,
        )
        self.parameters, self.profiles = aws.Parameters(), aws.Profiles()
        self.key_values, self.blobs = azure.KeyValues(self.entra), azure.Blobs(self.entra)
        self.identity: azure.IdentityEndpoint
        self.lambdas: aws.Functions | None = None
        self.function_app: azure.FunctionsHost | None = None
        self.endpoints: dict[str, str | bool] = {}
        self._wanted = frozenset(functions)
        self._root = root
        self._policy = policy
        self._parameters = dict(parameters or {})
        self._settings = dict(settings or {})
        self._forgotten = (*LEFT_BY_THE_KILLED, *forget)
        self.machines: Machines
        self._bundle: Path
        self._proxy: Proxy
        self._ports: dict[str, int] = {}
        self._ports_lock = threading.Lock()
        self._running = ExitStack()

    def start(self) -> Cloud:
        """Start everything, then write `endpoints.json`; raises CloudError and leaves nothing."""
        try:
            self._claim_directory()
            self._start_wire()
            self._start_clouds()
            self._start_functions()
            self._start_admin()
            self._publish()
        except _REFUSALS as failure:
            self.stop()
            raise CloudError(str(failure)) from failure
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything; the logs and the certificate stay."""
        self._running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def environment_for(
        self, name: str, on: str = "", *, link_local: bool = False
    ) -> dict[str, str]:
        """The variables that make a process the caller `name`, on a machine of the kind `on`.

        Who may be named, and where each runs, is told by `Machines.find`, as are the errors. On
        Lambda a role has a new session each time, a person a new token. `link_local`: the process
        honours HTTP_PROXY, so that it can be given the platform's own addresses.
        """
        machine = self.machines.find(name, on)
        environment = network.environment(self._port_of(f"{name}/{on}", machine), self._bundle)
        variables = machine.variables(link_local=link_local)
        return {**environment, **variables, **self._url(machine.cloud)}

    @property
    def network_environment(self) -> dict[str, str]:
        """The variables by which any program reaches the embedded cloud and trusts it."""
        return network.environment(self._proxy.port, self._bundle)

    def _port_of(self, caller: str, machine: Machine) -> int:
        with self._ports_lock:
            if caller not in self._ports:
                self._ports[caller] = self._proxy.listen(machine.plain)
            return self._ports[caller]

    def _url(self, cloud: str) -> dict[str, str]:
        return {"TOKENVEND_URL": str(self.endpoints[cloud])} if cloud in self.endpoints else {}

    def _addressed(self, site: Site, address: str) -> Site:
        """A site by its port as by its address: its faults are set for the address."""
        behind = self.faults.before(site)

        def serve(request: Request) -> Response:
            # No web page reads it by DNS rebinding.
            if request.host not in (address, "127.0.0.1"):
                return Response(404)
            return behind(replace(request, host=address))

        return serve

    def _internet(self, request: Request) -> Response:
        """How one cloud reaches another: by way of the faults; 502 when no answer comes."""
        try:
            return self.faults(request)
        except ConnectionError:
            return Response(502)

    def _claim_directory(self) -> None:
        """Make the directory, and hold it until we stop."""
        lock = self.directory / "lock"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not lock.exists() and self._holds_somebody_elses():
                # Files of ours are removed by their names, and the directory is closed to others.
                raise CloudError(f"{self.directory} holds other files: choose an empty directory")
            self.directory.chmod(0o700)
            held = self._running.enter_context(lock.open("w", encoding="utf-8"))
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._clear(self._forgotten)
        except BlockingIOError as taken:
            # A second cloud would overwrite the CA that the first one's callers trust.
            raise CloudError(
                f"a local cloud already runs in {self.directory}; stop it, or choose another "
                "directory"
            ) from taken
        except OSError as failure:
            raise CloudError(f"cannot keep files in {self.directory}: {failure}") from failure
        self._running.callback(self._clear, LEFT_BY_THE_KILLED)

    def _holds_somebody_elses(self) -> bool:
        """Whether there is anything but logs, and the demonstration's directory, in ours."""
        return any(
            each.suffix != ".log" and each.name != "demo" for each in self.directory.iterdir()
        )

    def _clear(self, patterns: Iterable[str]) -> None:
        for path in [path for pattern in patterns for path in self.directory.glob(pattern)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _start_wire(self) -> None:
        authority = Authority()
        self._bundle = network.write_trust(authority, self.directory)
        server = self._serve(self.faults, authority)
        self.identity = azure.IdentityEndpoint(self.entra, front=self.faults.before).start()
        self._running.callback(self.identity.stop)
        self.machines = Machines(
            self.world,
            self.accounts,
            self.entra,
            self.identity,
            person=lambda name: google.environment_of(self.google, name),
            serve=lambda site, address: self._serve(self._addressed(site, address)).port,
            directory=self.directory / POD_TOKENS,
        )
        self._running.callback(self.machines.stop)
        relayed = {f"127.0.0.1:{self.identity.port}": self.identity.port}
        self._proxy = Proxy(self.router.knows, server.port, relayed, self.faults.refuses).start()
        self._running.callback(self._proxy.stop)
        self.endpoints |= {"proxy": self._proxy.url, "ca_bundle": str(self._bundle)}

    def _start_clouds(self) -> None:
        self.router.add(google.sites(self.google))
        self.router.add(aws.sites(self.accounts, fetch=self._internet))
        self.router.add(azure.sites(self.entra, self._internet))
        self.router.add(self.machines.sites())
        self.router.add(aws.configuration_sites(self.accounts, self.parameters, self.profiles))
        self.router.add(azure.configuration_sites(self.entra, self.key_values, self.blobs))

    def _start_functions(self) -> None:
        """Start the wanted clouds' functions at once: each spends its time in another process."""
        known = {"aws": self._start_lambda, "azure": self._start_function_app}

        def start(cloud: str) -> None:
            known[cloud]()
            self._require_health(cloud)

        with ThreadPoolExecutor(len(known)) as pool:
            for started in [pool.submit(start, cloud) for cloud in known if cloud in self._wanted]:
                started.result()

    def _start_lambda(self) -> None:
        template = self._template()
        self.accounts.deploy(template.roles)
        self.lambdas = aws.Functions(
            template,
            self.accounts,
            root=self._root,
            log_directory=self.directory,
            environment=self.network_environment,
        )
        self._running.callback(self.lambdas.stop)
        self.lambdas.start()
        self.router.add(aws.sites(self.accounts, self.lambdas, fetch=self._internet))
        self._open_doors("aws", template.apis[0].domain)

    def _template(self) -> aws.Template:
        policy = self._policy or self._policy_on_aws()
        entra = azure.app_settings(self.world, policy)
        known = {
            "GoogleProvider": _aws_provider(self.world),
            "Policy": policy,
            "RoleName": aws.FUNCTION_ROLE,
            "Audience": AUDIENCE,
            "CallerRegions": self.world.aws.region,
            # google-auth for Python and Node do not sign the audience; here they may come too.
            "UnsignedAudience": "true",
            "EntraTenants": entra["TOKENVEND_ENTRA_TENANTS"],
            "EntraAudiences": entra["TOKENVEND_ENTRA_AUDIENCES"],
        }
        path, aws_world = self._root / "template.yaml", self.world.aws
        names = aws.declared(path)
        # A template takes of this what it declares; what a caller of ours gives, it must declare.
        given = {k: v for k, v in known.items() if k in names} | self._parameters
        read = partial(
            aws.load,
            account=aws_world.account,
            region=aws_world.region,
            kept=self.directory / "expanded.json",
        )
        template = read(path, given)
        if OTHER_DOORS in names - given.keys():
            # The function believes events of the doors it is told of, and no others.
            given[OTHER_DOORS] = ",".join(template.other_api_ids)
            template = read(path, given)
        return template.with_aliases(aws_world.function_aliases)

    def _policy_on_aws(self) -> str:
        """A file with the default policy and what no managed identity can serve."""
        path = self.directory / "policy.toml"
        texts = [(ROOT / name).read_text("utf-8") for name in (POLICY, POLICY_ON_AWS)]
        path.write_text("\n".join(texts), "utf-8")
        return str(path)

    def _start_function_app(self) -> None:
        app = self.world.azure.function_app
        settings = {
            **azure.app_settings(self.world, self._policy or POLICY),
            "TOKENVEND_AUDIENCE": AUDIENCE,
            "TOKENVEND_AWS_REGIONS": self.world.aws.region,
            "TOKENVEND_AWS_UNSIGNED_AUDIENCE": "true",
            **self.identity.environment_for(app),
            **self.network_environment,
            **self._settings,
        }
        host = azure.FunctionsHost(
            self._root, app=app, log_directory=self.directory, settings=settings
        )
        self._running.callback(host.stop)
        self.function_app = host.start()
        self.router.add(azure.sites(self.entra, self._internet, host))
        self._open_doors("azure", host.host)

    def _open_doors(self, cloud: str, host: str) -> None:
        """Name the address of a function, and open the same door without TLS."""

        def door(request: Request) -> Response:
            return self.faults(replace(request, host=host))

        plain = self._serve(door)
        self.endpoints |= {
            cloud: f"https://{host}",
            f"{cloud}_http": f"http://127.0.0.1:{plain.port}",
        }

    def _serve(self, site: Site, authority: Authority | None = None) -> Server:
        tls = None
        if authority:
            tls = authority.server_context(self.router.knows, self.faults.spoils_tls)
        server = Server(site, tls).start()
        self._running.callback(server.stop)
        return server

    def _start_admin(self) -> None:
        token = secrets.token_urlsafe(32)
        site = admin.site(
            token,
            self.environment_for,
            self.faults,
            self.clock,
            lambda: [*self.router.hosts, *ADDRESSES],
            self.world,
        )
        server = self._serve(site)
        self._write("admin.json", {"url": f"http://127.0.0.1:{server.port}", "token": token})

    def _publish(self) -> None:
        self.endpoints["ready"] = True
        self._write("endpoints.json", self.endpoints)

    def _require_health(self, cloud: str) -> None:
        address = str(self.endpoints[f"{cloud}_http"]).removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=READY_SECONDS)
        try:
            connection.request("GET", "/readyz")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as failure:
            raise CloudError(f"the {cloud} function does not answer ({failure})") from failure
        finally:
            connection.close()
        if status != http.HTTPStatus.OK:
            logs = ", ".join(str(path) for path in sorted(self.directory.glob("*.log")))
            raise CloudError(f"the {cloud} function is not ready (status {status}); see {logs}")

    def _write(self, name: str, document: Mapping[str, object]) -> None:
        """Write a file that only the user reads, whole or not at all; it goes first at the stop."""
        path = self.directory / name
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(document, file, indent=2)
        fresh.replace(path)
        self._running.callback(path.unlink, missing_ok=True)


def _aws_provider(world: World) -> str:
    """The provider that trusts the world's AWS account, as the function's setting names it."""
    for provider in world.google.workload_identity_pool_providers:
        if provider.aws is not None and provider.aws.account_id == world.aws.account:
            return f"//iam.googleapis.com/{provider.name}"
    raise CloudError("no workload identity pool provider trusts the AWS account")
