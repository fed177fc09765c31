"""Reads what deploys: functions, aliases, HTTP APIs and Function URLs from the SAM template.

The local gateway takes handler, environment, timeout, memory and routes from here, so that a
mistake in the template fails a test and not a deployment. Resolves the intrinsics Ref, Fn::Sub,
Fn::GetAtt, Fn::Join and Fn::If (over Fn::Equals and Fn::Not); any other one, and an unknown
parameter, is an error that names it.
Specification: AWS SAM and CloudFormation template reference.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from samtranslator.yaml_helper import yaml_parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STACK = "tokenvend"
_VARIABLE = re.compile(r"\$\{(!?)([A-Za-z0-9:.]+)\}")
_ALIAS = "AWS::Lambda::Alias"
_FUNCTION = "AWS::Serverless::Function"


class TemplateError(ValueError):
    """The template says something that this gateway does not understand; names the resource."""


@dataclass(frozen=True)
class Function:
    """One Lambda function; `timeout` in seconds, `memory` in MB.

    `url_domain` is its Function URL's hostname and `url_auth` that URL's AuthType; a function
    without a FunctionUrlConfig has one with AWS_IAM here, so that every door can be tried.
    """

    logical_id: str
    name: str
    arn: str
    handler: str
    timeout: int = 3
    memory: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    url_auth: str = "AWS_IAM"
    url_domain: str = ""


@dataclass(frozen=True)
class Route:
    """One route: `key` as in API Gateway (`POST /v1/x`, `$default`), its authorisation, its target.

    `function` is the ARN of a function or of an alias; `timeout` in seconds is the integration's.
    """

    key: str
    authorization: str
    function: str
    timeout: float


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

    @property
    def other_api_ids(self) -> tuple[str, ...]:
        """The ids of the doors that stand beside the template's HTTP APIs."""
        domains = [*(a.rest_domain for a in self.apis), *(f.url_domain for f in self.functions)]
        return tuple(domain.partition(".")[0] for domain in domains)

    def with_aliases(self, names: Sequence[str]) -> Template:
        """The same stack after somebody gave each function further aliases."""
        functions = tuple(
            replace(function, aliases=(*function.aliases, *names)) for function in self.functions
        )
        return replace(self, functions=functions)

    def function(self, arn: str) -> Function:
        """The function that an ARN, of itself or of its alias, belongs to; raises TemplateError."""
        for function in self.functions:
            if arn == function.arn or arn.startswith(function.arn + ":"):
                return function
        raise TemplateError(f"no function of the template has the ARN {arn}")


def declared(path: Path) -> frozenset[str]:
    """The names of the parameters that a template declares."""
    return frozenset(yaml_parse(path.read_text(encoding="utf-8")).get("Parameters", {}))


def load(path: Path, parameters: Mapping[str, str], *, account: str, region: str) -> Template:
    """Read a template as a stack in this account and region; raises TemplateError."""
    document = yaml_parse(path.read_text(encoding="utf-8"))
    stack = _Stack(document, dict(parameters), account, region)
    return Template(
        functions=tuple(stack.function(name) for name in stack.of_type(_FUNCTION)),
        apis=tuple(stack.api(name) for name in stack.of_type("AWS::ApiGatewayV2::Api")),
    )


class _Stack:
    def __init__(
        self, document: Mapping[str, Any], given: dict[str, str], account: str, region: str
    ) -> None:
        self._resources: Mapping[str, Any] = document["Resources"]
        self._conditions: Mapping[str, Any] = document.get("Conditions", {})
        self._account, self._region = account, region
        self._parameters = _parameters(document.get("Parameters", {}), given)
        self._defaults = document.get("Globals", {}).get("Function", {})
        self._pseudo = {
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": STACK,
        }

    def of_type(self, kind: str) -> list[str]:
        return [name for name, body in self._resources.items() if body.get("Type") == kind]

    def function(self, name: str) -> Function:
        own = {**self._defaults, **self._resources[name]["Properties"]}
        variables = {
            **self._defaults.get("Environment", {}).get("Variables", {}),
            **own.get("Environment", {}).get("Variables", {}),
        }
        return Function(
            logical_id=name,
            name=self._function_name(name),
            arn=self._arn(name),
            handler=str(self.resolve(own["Handler"])),
            timeout=int(self.resolve(own.get("Timeout", 3))),
            memory=int(self.resolve(own.get("MemorySize", 128))),
            environment={k: str(self.resolve(v)) for k, v in variables.items()},
            aliases=self._aliases(name, own),
            url_auth=str(own.get("FunctionUrlConfig", {}).get("AuthType", "AWS_IAM")),
            url_domain=f"{_id(f'url/{name}', 32)}.lambda-url.{self._region}.on.aws",
        )

    def api(self, name: str) -> HttpApi:
        api_id = _id(name, 10)
        if self._resources[name]["Properties"].get("ProtocolType") != "HTTP":
            raise TemplateError(f"{name}: only ProtocolType HTTP is served")
        if not self._attached("AWS::ApiGatewayV2::Stage", api_id, StageName="$default"):
            raise TemplateError(f"{name}: no stage $default is deployed")
        routes = self._attached("AWS::ApiGatewayV2::Route", api_id)
        return HttpApi(
            logical_id=name,
            domain=self._domain(api_id),
            rest_domain=self._domain(_id(f"rest/{name}", 10)),
            routes=tuple(self._route(route) for route in routes),
        )

    def _attached(self, kind: str, api_id: str, **also: str) -> list[dict[str, Any]]:
        """The properties of each resource of a kind that belongs to an API."""
        wanted = {"ApiId": api_id, **also}
        found = [self._resources[name]["Properties"] for name in self.of_type(kind)]
        return [p for p in found if all(self.resolve(p.get(k, "")) == wanted[k] for k in wanted)]

    def _route(self, properties: Mapping[str, Any]) -> Route:
        key = str(properties["RouteKey"])
        authorization = str(properties.get("AuthorizationType", "NONE"))
        if authorization not in {"AWS_IAM", "NONE"}:
            raise TemplateError(f"route {key}: AuthorizationType {authorization} is not served")
        prefix, _, integration = str(self.resolve(properties["Target"])).partition("/")
        if prefix != "integrations" or integration not in self._resources:
            raise TemplateError(f"route {key}: Target must be integrations/INTEGRATION")
        target = self._resources[integration]["Properties"]
        if target.get("IntegrationType") != "AWS_PROXY" or target["PayloadFormatVersion"] != "2.0":
            raise TemplateError(f"{integration}: only AWS_PROXY with payload 2.0 is served")
        uri = str(self.resolve(target["IntegrationUri"]))
        # The long form of the URI wraps the ARN: …:path/2015-03-31/functions/ARN/invocations
        wrapped = re.search(r"/functions/(arn:[^/]+)/invocations$", uri)
        timeout = float(self.resolve(target.get("TimeoutInMillis", 30000))) / 1000
        return Route(key, authorization, wrapped[1] if wrapped else uri, timeout)

    def resolve(self, value: Any) -> Any:  # noqa: PLR0911 - one return for each intrinsic
        """A value with its intrinsics replaced."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) != 1:
            return {key: self.resolve(item) for key, item in value.items()}
        name, operand = next(iter(value.items()))
        match name:
            case "Ref":
                return self._ref(operand)
            case "Fn::GetAtt":
                target, attribute = operand
                return self._attribute(target, attribute)
            case "Fn::Sub":
                return self._substitute(operand)
            case "Fn::Join":
                separator, parts = operand
                return separator.join(str(self.resolve(part)) for part in parts)
            case "Fn::If":
                condition, yes, no = operand
                return self.resolve(yes if self._holds(condition) else no)
            case _ if name.startswith("Fn::") or name == "Condition":
                raise TemplateError(f"the intrinsic {name} is not understood here")
            case _:
                return {name: self.resolve(operand)}

    def _holds(self, name: str) -> bool:
        if name not in self._conditions:
            raise TemplateError(f"Fn::If {name}: no such condition")
        return self._is_true(name, self._conditions[name])

    def _is_true(self, name: str, condition: Any) -> bool:
        match condition:
            case {"Fn::Equals": [left, right]}:
                return bool(self.resolve(left) == self.resolve(right))
            case {"Fn::Not": [inner]}:
                return not self._is_true(name, inner)
            case _:
                raise TemplateError(f"the condition {name} is not understood here")

    def _ref(self, name: str) -> str:  # noqa: PLR0911 - one return for each kind
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._parameters:
            return self._parameters[name]
        function, _, rest = name.partition(".")
        if rest == "Alias" and function in self._resources:
            alias = self._resources[function]["Properties"]["AutoPublishAlias"]
            return f"{self._arn(function)}:{self.resolve(alias)}"
        kind = self._resources.get(name, {}).get("Type")
        match kind:
            case None:
                raise TemplateError(f"Ref {name}: no such parameter or resource")
            case "AWS::Serverless::Function":
                return self._function_name(name)
            case "AWS::ApiGatewayV2::Api":
                return _id(name, 10)
            case "AWS::Lambda::Alias":
                properties = self._resources[name]["Properties"]
                function = str(self.resolve(properties["FunctionName"]))
                return f"{self._arn_of_name(function)}:{self.resolve(properties['Name'])}"
            case _:
                return name

    def _attribute(self, name: str, attribute: str) -> str:
        kind = self._resources.get(name, {}).get("Type")
        match kind, attribute:
            case "AWS::Serverless::Function", "Arn":
                return self._arn(name)
            case "AWS::ApiGatewayV2::Api", "ApiEndpoint":
                return f"https://{self._domain(_id(name, 10))}"
            case "AWS::ApiGatewayV2::Api", "ApiId":
                return _id(name, 10)
            case "AWS::Logs::LogGroup", "Arn":
                return f"arn:aws:logs:{self._region}:{self._account}:log-group:{name}:*"
            case _:
                raise TemplateError(f"GetAtt {name}.{attribute} is not understood here")

    def _substitute(self, operand: Any) -> str:
        text, own = operand if isinstance(operand, list) else (operand, {})

        def replaced(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return "${" + name + "}"
            if name in own:
                return str(self.resolve(own[name]))
            target, _, attribute = name.partition(".")
            if attribute and target in self._resources:
                return str(self._attribute(target, attribute))
            return self._ref(name)

        return _VARIABLE.sub(replaced, text)

    def _domain(self, api_id: str) -> str:
        return f"{api_id}.execute-api.{self._region}.amazonaws.com"

    def _function_name(self, logical_id: str) -> str:
        given = self._resources[logical_id]["Properties"].get("FunctionName")
        return str(self.resolve(given)) if given else f"{STACK}-{logical_id}"

    def _arn(self, logical_id: str) -> str:
        return self._arn_of_name(self._function_name(logical_id))

    def _arn_of_name(self, name: str) -> str:
        return f"arn:aws:lambda:{self._region}:{self._account}:function:{name}"

    def _aliases(self, logical_id: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
        published = properties.get("AutoPublishAlias")
        found = [str(self.resolve(published))] if published else []
        mine = {self._function_name(logical_id), self._arn(logical_id)}
        for name in self.of_type(_ALIAS):
            alias = self._resources[name]["Properties"]
            if self.resolve(alias["FunctionName"]) in mine:
                found.append(str(self.resolve(alias["Name"])))
        return tuple(found)


def _parameters(declared: Mapping[str, Any], given: dict[str, str]) -> dict[str, str]:
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
