"""Reads a stack from the expanded template: functions, aliases, APIs, URLs, roles, permissions.

The local cloud takes handler, environment, timeout, memory, routes and every permission from here,
so that a mistake in the template fails a test and not a deployment. What it does not understand is
an error that names the resource.
Specification: AWS CloudFormation Template Reference Guide.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localcloud.aws.template import openapi, permissions, unplayed
from localcloud.aws.template.expansion import TemplateError
from localcloud.aws.template.intrinsics import Resolver
from localcloud.aws.template.resources import Function, HttpApi, Route, Template, Throttle, Url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.aws.iam import Policy
    from localcloud.world import AwsRole

STACK = "tokenvend"
_ALIAS, _FUNCTION = "AWS::Lambda::Alias", "AWS::Lambda::Function"
_PERMISSION = "AWS::Lambda::Permission"
_API, _ROLE = "AWS::ApiGatewayV2::Api", "AWS::IAM::Role"
# Resources whose Ref is an id that nobody reads anything into.
_OPAQUE = {"AWS::ApiGatewayV2::Integration", "AWS::ApiGatewayV2::Stage", "AWS::Logs::LogGroup"}


def stack(
    document: Mapping[str, Any], given: Mapping[str, str], *, account: str, region: str
) -> Template:
    """What a stack of an expanded document holds; raises TemplateError."""
    return _Stack(document, given, account, region).template()


class _Stack:
    def __init__(
        self, document: Mapping[str, Any], given: Mapping[str, str], account: str, region: str
    ) -> None:
        self._account, self._region = account, region
        names = {
            **_parameters(document.get("Parameters", {}), given),
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": STACK,
        }
        resolver = Resolver(names, document.get("Conditions", {}), self._ref, self._attribute)
        self._holds, self._resolve = resolver.holds, resolver.resolve
        self._resources: Mapping[str, Any] = {
            name: body
            for name, body in document["Resources"].items()
            if "Condition" not in body or self._holds(body["Condition"])
        }

    def template(self) -> Template:
        for name, body in self._resources.items():
            properties = self._properties(name) if unplayed.decides(body["Type"]) else {}
            unplayed.check(name, body["Type"], properties)
        for name in self._of_type(_PERMISSION):
            target = self._target(self._properties(name)["FunctionName"])[0]
            if target not in map(self._arn, self._of_type(_FUNCTION)):
                raise TemplateError(f"{name}: Function not found: {target}")
        return Template(
            functions=self._each(_FUNCTION, self._function),
            apis=self._each(_API, self._api),
            roles=self._each(_ROLE, self._role),
        )

    def _each[T](self, kind: str, make: Callable[[str], T]) -> tuple[T, ...]:
        made = []
        for name in self._of_type(kind):
            try:
                made.append(make(name))
            except KeyError as missing:
                raise TemplateError(f"{name}: {missing} is missing, here or beside it") from None
        return tuple(made)

    def _of_type(self, kind: str) -> list[str]:
        return [name for name, body in self._resources.items() if body["Type"] == kind]

    def _properties(self, name: str) -> dict[str, Any]:
        """A resource's properties, resolved."""
        found: dict[str, Any] = self._resolve(self._resources[name].get("Properties", {}))
        return found

    def _function(self, name: str) -> Function:
        own = self._properties(name)
        arn = self._arn(name)
        return Function(
            logical_id=name,
            name=self._function_name(name),
            arn=arn,
            handler=str(own["Handler"]),
            role=str(own["Role"]),
            url=self._url(name),
            timeout=int(own.get("Timeout", 3)),
            memory=int(own.get("MemorySize", 128)),
            environment={
                k: str(v) for k, v in own.get("Environment", {}).get("Variables", {}).items()
            },
            aliases=self._aliases(arn),
            policies=self._policies(arn),
        )

    def _url(self, name: str) -> Url:
        domain = f"{_id(f'url/{name}', 32)}.lambda-url.{self._region}.on.aws"
        for url in self._of_type("AWS::Lambda::Url"):
            own = self._properties(url)
            target, qualifier = self._target(own["TargetFunctionArn"])
            if target == self._arn(name):
                return Url(domain, own["AuthType"], own.get("Qualifier", qualifier))
        return Url(domain)

    def _aliases(self, arn: str) -> tuple[str, ...]:
        found = [self._properties(name) for name in self._of_type(_ALIAS)]
        return tuple(str(a["Name"]) for a in found if self._target(a["FunctionName"])[0] == arn)

    def _policies(self, arn: str) -> dict[str, tuple[Policy, ...]]:
        """A function's policies by qualifier, as its permissions make them."""
        found: dict[str, tuple[Policy, ...]] = {}
        for name in self._of_type(_PERMISSION):
            own = self._properties(name)
            target, qualifier = self._target(own["FunctionName"])
            if target == arn:
                whole = f"{arn}:{qualifier}" if qualifier else arn
                made = permissions.permission(name, whole, own)
                found[qualifier] = (*found.get(qualifier, ()), made)
        return found

    def _target(self, function: str) -> tuple[str, str]:
        """The ARN and the qualifier of what a FunctionName names, by name or by ARN."""
        if not function.startswith("arn:"):
            function = self._arn_of_name(function)
        parts = function.split(":")
        return ":".join(parts[:7]), ":".join(parts[7:])

    def _role(self, name: str) -> AwsRole:
        made = permissions.role(name, self._role_name(name), self._properties(name))
        for policy in self._of_type("AWS::IAM::Policy"):
            own = self._properties(policy)
            if made.role_name in own.get("Roles", []):
                made.policies.append(permissions.inline(policy, own))
        return made

    def _api(self, name: str) -> HttpApi:
        api_id = _id(name, 10)
        own = self._properties(name)
        if "Body" not in own and own.get("ProtocolType") != "HTTP":
            raise TemplateError(f"{name}: only ProtocolType HTTP is served")
        stages = self._attached("AWS::ApiGatewayV2::Stage", api_id, StageName="$default")
        if not stages:
            raise TemplateError(f"{name}: no stage $default is deployed")
        attached = self._attached("AWS::ApiGatewayV2::Route", api_id)
        routes = [self._route(properties) for properties in attached]
        routes += openapi.routes(name, own.get("Body", {}))
        return HttpApi(
            logical_id=name,
            domain=self._domain(api_id),
            rest_domain=self._domain(_id(f"rest/{name}", 10)),
            routes=tuple(_throttled(route, stages[0]) for route in routes),
        )

    def _attached(self, kind: str, api_id: str, **also: str) -> list[dict[str, Any]]:
        """The properties of each resource of a kind that belongs to an API."""
        wanted = {"ApiId": api_id, **also}.items()
        found = [self._properties(name) for name in self._of_type(kind)]
        return [p for p in found if wanted <= {k: str(v) for k, v in p.items()}.items()]

    def _route(self, properties: Mapping[str, Any]) -> Route:
        key = str(properties["RouteKey"])
        authorization = str(properties.get("AuthorizationType", "NONE"))
        if authorization not in {"AWS_IAM", "NONE"}:
            raise TemplateError(f"route {key}: AuthorizationType {authorization} is not served")
        prefix, _, integration = str(properties["Target"]).partition("/")
        if prefix != "integrations" or integration not in self._resources:
            raise TemplateError(f"route {key}: Target must be integrations/INTEGRATION")
        target = self._properties(integration)
        if target.get("IntegrationType") != "AWS_PROXY" or target["PayloadFormatVersion"] != "2.0":
            raise TemplateError(f"{integration}: only AWS_PROXY with payload 2.0 is served")
        timeout = float(target.get("TimeoutInMillis", 30000)) / 1000
        function = openapi.invoked(str(target["IntegrationUri"]))
        return Route(key, authorization, function, timeout)

    def _ref(self, name: str) -> str:
        kind = self._resources.get(name, {}).get("Type")
        match kind:
            case None:
                raise TemplateError(f"Ref {name}: no such parameter or resource")
            case "AWS::Lambda::Function":
                return self._function_name(name)
            case "AWS::ApiGatewayV2::Api":
                return _id(name, 10)
            case "AWS::IAM::Role":
                return self._role_name(name)
            case "AWS::Lambda::Alias":
                own = self._properties(name)
                return f"{self._target(own['FunctionName'])[0]}:{own['Name']}"
            case "AWS::Lambda::Version":
                own = self._properties(name)
                return f"{self._target(own['FunctionName'])[0]}:1"
            case _ if kind in _OPAQUE:
                return name
            case _:
                raise TemplateError(f"Ref {name}: {kind} is not understood here")

    def _attribute(self, name: str, attribute: str) -> str:
        kind = self._resources.get(name, {}).get("Type")
        match kind, attribute:
            case "AWS::Lambda::Function", "Arn":
                return self._arn(name)
            case "AWS::Lambda::Version", "Version":
                return "1"
            case "AWS::IAM::Role", "Arn":
                path = self._resolve(self._resources[name]["Properties"].get("Path", "/"))
                return f"arn:aws:iam::{self._account}:role{path}{self._role_name(name)}"
            case "AWS::ApiGatewayV2::Api", "ApiEndpoint":
                return f"https://{self._domain(_id(name, 10))}"
            case "AWS::ApiGatewayV2::Api", "ApiId":
                return _id(name, 10)
            case "AWS::Logs::LogGroup", "Arn":
                return f"arn:aws:logs:{self._region}:{self._account}:log-group:{name}:*"
            case _:
                raise TemplateError(f"GetAtt {name}.{attribute} is not understood here")

    def _domain(self, api_id: str) -> str:
        return f"{api_id}.execute-api.{self._region}.amazonaws.com"

    def _role_name(self, logical_id: str) -> str:
        given = self._resolve(self._resources[logical_id]["Properties"].get("RoleName"))
        return str(given or f"{STACK}-{logical_id}-{_id(f'role/{logical_id}', 12)}")[:64]

    def _function_name(self, logical_id: str) -> str:
        given = self._resolve(self._resources[logical_id]["Properties"].get("FunctionName"))
        return str(given or f"{STACK}-{logical_id}")

    def _arn(self, logical_id: str) -> str:
        return self._arn_of_name(self._function_name(logical_id))

    def _arn_of_name(self, name: str) -> str:
        return f"arn:aws:lambda:{self._region}:{self._account}:function:{name}"


def _throttled(route: Route, stage: Mapping[str, Any]) -> Route:
    """A route with its own limits, or the stage's for each of its routes."""
    own = stage.get("RouteSettings", {}).get(route.key, {})
    settings = {**stage.get("DefaultRouteSettings", {}), **own}
    try:
        limits = settings["ThrottlingBurstLimit"], settings["ThrottlingRateLimit"]
    except KeyError:
        return route
    return replace(route, throttle=Throttle(int(limits[0]), float(limits[1])))


def _parameters(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    if unknown := given.keys() - declared.keys():
        raise TemplateError(f"the template declares no parameter {min(unknown)}")
    values = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.get("Default"))
        if value is None:
            raise TemplateError(f"the template's parameter {name} has no value")
        if not re.fullmatch(parameter.get("AllowedPattern", "(?s:.*)"), str(value)):
            raise TemplateError(f"the template's parameter {name} does not match AllowedPattern")
        if value not in parameter.get("AllowedValues", [value]):
            raise TemplateError(f"the template's parameter {name} is not an allowed value")
        values[name] = str(value)
    return values


def _id(logical_id: str, length: int) -> str:
    """An id such as AWS makes, the same at every start."""
    number = int.from_bytes(hashlib.sha256(f"{STACK}/{logical_id}".encode()).digest())
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    text = ""
    for _ in range(length):
        number, index = divmod(number, len(letters))
        text += letters[index]
    return text
