"""What a stack of the template holds, as far as this cloud runs it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from localcloud.aws.template.expansion import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.aws.iam import Policy
    from localcloud.world import AwsRole


@dataclass(frozen=True)
class Url:
    """A Function URL: hostname, AuthType and the alias it invokes, empty for none."""

    domain: str
    auth: str = "AWS_IAM"
    qualifier: str = ""


@dataclass(frozen=True)
class Function:
    """One Lambda function; `timeout` in seconds, `memory` in MB.

    `role` is the ARN of its execution role, `policies` its resource-based policies by qualifier. A
    function for which the template asks for no Function URL has one with AWS_IAM here, so that
    every door can be tried.
    """

    logical_id: str
    name: str
    arn: str
    handler: str
    role: str
    url: Url
    timeout: int = 3
    memory: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    policies: Mapping[str, tuple[Policy, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Throttle:
    """A token bucket's size and its refill per second."""

    burst: int
    rate: float


@dataclass(frozen=True)
class Route:
    """One route: `key` as in API Gateway (`POST /v1/x`, `$default`), its authorisation, its target.

    `function` is the ARN of a function or of an alias; `timeout` in seconds is the integration's.
    """

    key: str
    authorization: str
    function: str
    timeout: float
    throttle: Throttle | None = None


@dataclass(frozen=True)
class HttpApi:
    """One API Gateway HTTP API with its routes at the stage $default.

    `rest_domain` is the hostname of a REST API with the same routes.
    """

    logical_id: str
    domain: str
    rest_domain: str
    routes: tuple[Route, ...]


@dataclass(frozen=True)
class Template:
    """What a stack of the template would hold."""

    functions: tuple[Function, ...]
    apis: tuple[HttpApi, ...]
    roles: tuple[AwsRole, ...] = ()

    @property
    def other_api_ids(self) -> tuple[str, ...]:
        """The ids of the doors that stand beside the template's HTTP APIs."""
        domains = [*(a.rest_domain for a in self.apis), *(f.url.domain for f in self.functions)]
        return tuple(domain.partition(".")[0] for domain in domains)

    def with_aliases(self, names: Sequence[str]) -> Template:
        """The same stack after somebody gave each function further aliases."""
        functions = tuple(
            replace(function, aliases=(*function.aliases, *names)) for function in self.functions
        )
        return replace(self, functions=functions)

    def target(self, arn: str) -> tuple[Function, str]:
        """The function that an ARN belongs to and the alias it names; raises TemplateError."""
        for function in self.functions:
            if arn == function.arn or arn.startswith(function.arn + ":"):
                return function, arn[len(function.arn) + 1 :]
        raise TemplateError(f"no function of the template has the ARN {arn}")
