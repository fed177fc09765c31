"""Who a program can be, and on which kind of machine: its environment, and what lies around it.

A role of AWS runs on Lambda, an EC2 instance, in an ECS task or an EKS pod; a managed identity of
Azure in a function app, on a virtual machine or in a pod of AKS. Each machine has a port of its own
at the proxy, where the platform's link-local addresses answer for it. Whoever fits no such machine
(an IAM user, a person) gets keys or a token alone.

AWS's SDKs go to container addresses without any proxy, and on a developer's own cloud machine such
a request would reach the real ones. So AWS_CONTAINER_CREDENTIALS_FULL_URI names the agent's port on
loopback, which every SDK accepts, and AWS_EC2_METADATA_SERVICE_ENDPOINT that of EC2's metadata.
Under their real addresses all of them answer through the proxy; who honours it may be given those.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from localcloud.aws import service_roles
from localcloud.aws.instances import ec2, ecs, eks
from localcloud.aws.instances.credentials import Assumption, is_trusted
from localcloud.azure import virtual_machine
from localcloud.azure.refusals import LOGIN
from localcloud.kubernetes import Cluster, Pod, Projected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from localcloud.aws import Accounts
    from localcloud.azure import Entra, IdentityEndpoint
    from localcloud.wire.web import Site
    from localcloud.world import World

LAMBDA_SESSION = "local"
EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
# azure-workload-identity's default; the kubelet renews the file before.
AKS_TOKEN_SECONDS = 3600


# On these machines nobody has left a profile, which the SDKs would prefer to the machine's role.
NO_FILES = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
ADDRESSES = ("127.0.0.1", virtual_machine.ADDRESS, ecs.ADDRESS, eks.ADDRESS)
"""Where machines find their identity: App Service's endpoint on loopback, and link-local ones."""


class Place(StrEnum):
    """What a workload runs on; ValueError for anything else."""

    LAMBDA = "lambda"
    EC2 = "ec2"
    ECS = "ecs"
    EKS = "eks"
    FUNCTIONS = "functions"
    VM = "vm"
    AKS = "aks"


# By place: how AWS takes on a role there.
ON_AWS: Final[dict[Place, Callable[[Accounts, str], Assumption]]] = {
    Place.LAMBDA: lambda _, role: Assumption(service_roles.LAMBDA, role),
    Place.EC2: ec2.assumption,
    Place.ECS: ecs.assumption,
    Place.EKS: eks.assumption,
}
ON_AZURE = (Place.FUNCTIONS, Place.VM, Place.AKS)


class UnknownCallerError(LookupError):
    """The world has no caller of this name."""


class UnfitPlaceError(ValueError):
    """The caller never runs there; the text says where it does."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is around a program.

    Args:
        cloud: whose it is: `aws`, `azure` or `google`.
        environment: the variables that its platform sets.
        plain: the authorities that plain http reaches from it, and the loopback port of each.
        link_local: those of the platform's variables that name link-local addresses.
        loopback: what stands in their place for programs that go there without a proxy.

    """

    cloud: str
    environment: Mapping[str, str] = field(repr=False)
    plain: Mapping[str, int] = field(default_factory=dict)
    link_local: Mapping[str, str] = field(default_factory=dict, repr=False)
    loopback: Mapping[str, str] = field(default_factory=dict, repr=False)

    def variables(self, *, link_local: bool) -> dict[str, str]:
        """Its environment, by the platform's own addresses or by loopback ports."""
        return {**self.environment, **(self.link_local if link_local else self.loopback)}


class Machines:
    """Every machine that was asked for; each is made once.

    Args:
        world: who there is.
        accounts: AWS's identities.
        entra: Azure's.
        identity: App Service's identity endpoint.
        person: the variables of a person's shell, by name.
        serve: starts a server for the site of an address and returns its loopback port.
        directory: where the pods' token files lie.

    """

    def __init__(
        self,
        world: World,
        accounts: Accounts,
        entra: Entra,
        identity: IdentityEndpoint,
        *,
        person: Callable[[str], Mapping[str, str]],
        serve: Callable[[Site, str], int],
        directory: Path,
    ) -> None:
        self._world = world
        self._accounts = accounts
        self._entra = entra
        self._identity = identity
        self._person = person
        self._serve = serve
        aws = world.aws
        self.eks = Cluster(eks.issuer(aws.account, aws.region), accounts.clock)
        self.aks = Cluster(world.azure.aks_oidc_issuer, entra.clock)
        self._projected = Projected(directory, accounts.clock)
        self._made: dict[tuple[str, Place], Machine] = {}
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Renew the pods' tokens no more."""
        self._projected.stop()

    def sites(self) -> dict[str, Site]:
        """Hostnames to sites: the issuers of the clusters that there are."""
        return {**self.eks.sites(), **(self.aks.sites() if self.aks.issuer else {})}

    def find(self, name: str, on: str = "") -> Machine:
        """The machine of a kind on which a caller runs, or a role's and an identity's usual one.

        `name`: a role or user of AWS, a person whom Google knows, or a managed identity; `aws:`,
        `google:` or `azure:` before it tells apart who share one, else the first of these is meant.

        Raises:
            UnknownCallerError: the world has no such caller.
            UnfitPlaceError: the caller never runs there.

        """
        cloud, _, bare = name.rpartition(":")
        world = self._world
        if cloud in {"", "aws"} and self._accounts.role(bare) is not None:
            return self._of_role(bare, Place(on or Place.LAMBDA))
        if cloud in {"", "aws"} and world.aws.user(bare) is not None:
            key = self._accounts.user(bare)
            return _nowhere(bare, on, Machine("aws", {**key.environment(), **self._regions()}))
        if cloud in {"", "google"} and world.google.user(bare) is not None:
            return _nowhere(bare, on, Machine("google", self._person(bare)))
        if cloud in {"", "azure"} and world.azure.has_identity(bare):
            return self._of_identity(bare, Place(on or Place.FUNCTIONS))
        raise UnknownCallerError(f"the world has no caller {name!r}")

    def _of_role(self, name: str, place: Place) -> Machine:
        if place not in ON_AWS:
            raise _unfit(f"the AWS role {name}", ON_AWS, place)
        role, how = self._accounts.role(name), ON_AWS[place](self._accounts, name)
        if role and not is_trusted(self._accounts, self._accounts.role_arn(role), how):
            raise UnfitPlaceError(f"the AWS role {name} does not trust {how.service}")
        if place is Place.LAMBDA:
            # Lambda hands out keys, not an address: a new session each time.
            key = self._accounts.session(name, LAMBDA_SESSION)
            return Machine("aws", {**key.environment(), **self._regions()})
        return self._once(f"aws:{name}", place, lambda: self._aws(name, place))

    def _of_identity(self, name: str, place: Place) -> Machine:
        if place not in ON_AZURE:
            raise _unfit(f"the managed identity {name}", ON_AZURE, place)
        if place is Place.FUNCTIONS:
            port = self._identity.port
            environment = self._identity.environment_for(name)
            return Machine("azure", environment, {f"127.0.0.1:{port}": port})
        return self._once(f"azure:{name}", place, lambda: self._azure(name, place))

    def _once(self, caller: str, place: Place, make: Callable[[], Machine]) -> Machine:
        with self._lock:
            found = self._made.get((caller, place))
            if found is None:
                found = self._made[caller, place] = make()
            return found

    def _aws(self, role: str, place: Place) -> Machine:
        if place is Place.EC2:
            port = self._serve(ec2.Instance(self._accounts, role).site, ec2.ADDRESS)
            # An instance's environment names no region; the metadata does.
            return Machine(
                "aws",
                NO_FILES,
                _plain(ec2.ADDRESS, port),
                loopback={"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}"},
            )
        variables = {**NO_FILES, **self._regions()}
        if place is Place.ECS:
            task = ecs.Task(self._accounts, role)
            port = self._serve(task.site, ecs.ADDRESS)
            return Machine(
                "aws",
                {**variables, "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"},
                _plain(ecs.ADDRESS, port),
                link_local={"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": task.path},
                loopback=_full_uri(f"127.0.0.1:{port}", task.path),
            )
        pod = eks.PodIdentity(self._accounts, role, self.eks)
        port = self._serve(pod.site, eks.ADDRESS)
        file = self._projected.file(f"eks-{role}", eks.TOKEN_SECONDS, pod.token)
        variables |= {
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file),
            "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        }
        return Machine(
            "aws",
            variables,
            _plain(eks.ADDRESS, port),
            link_local=_full_uri(eks.ADDRESS, eks.PATH),
            loopback=_full_uri(f"127.0.0.1:{port}", eks.PATH),
        )

    def _azure(self, name: str, place: Place) -> Machine:
        identity = self._entra.identity(name)
        if place is Place.VM:
            port = self._serve(
                virtual_machine.VirtualMachine(self._entra, name).site, virtual_machine.ADDRESS
            )
            return Machine("azure", {}, _plain(virtual_machine.ADDRESS, port))
        pod = Pod(name)
        if not any(
            (each.issuer, each.subject) == (self.aks.issuer, pod.subject)
            for each in identity.federated_identity_credentials
        ):
            raise UnfitPlaceError(
                f"{name} has no federated identity credential for {pod.subject} of the cluster, "
                "so no pod of AKS is it"
            )

        def token() -> str:
            return self.aks.token(pod, EXCHANGE_AUDIENCE, AKS_TOKEN_SECONDS)

        variables = {
            "AZURE_AUTHORITY_HOST": f"https://{LOGIN}/",
            "AZURE_CLIENT_ID": identity.client_id,
            "AZURE_FEDERATED_TOKEN_FILE": str(
                self._projected.file(f"aks-{name}", AKS_TOKEN_SECONDS, token)
            ),
            "AZURE_TENANT_ID": self._entra.azure.tenant,
        }
        return Machine("azure", variables)

    def _regions(self) -> dict[str, str]:
        region = self._accounts.aws.region
        return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}


def _nowhere(name: str, on: str, machine: Machine) -> Machine:
    if on:
        raise UnfitPlaceError(f"{name} is somebody with keys, not a workload: leave --on out")
    return machine


def _full_uri(authority: str, path: str) -> dict[str, str]:
    return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{authority}{path}"}


def _plain(address: str, port: int) -> dict[str, int]:
    # The loopback port too, for programs that send everything through a proxy once they have one.
    return {f"{address}:80": port, f"127.0.0.1:{port}": port}


def _unfit(who: str, places: Iterable[Place], place: Place) -> UnfitPlaceError:
    *first, last = places
    return UnfitPlaceError(f"{who} runs on {', '.join(first)} or {last}, never on {place}")
