"""Routes of an HTTP API that SAM defines by an OpenAPI document, as it does for `HttpApi` events.

Understood are Lambda integrations with AWS_IAM or no authorisation; anything else is an error.
Specification: "x-amazon-apigateway extensions to OpenAPI", API Gateway Developer Guide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.aws.template.expansion import TemplateError
from localcloud.aws.template.resources import Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ANY = "x-amazon-apigateway-any-method"
_DEFAULT = "/$default"


def routes(name: str, body: Mapping[str, Any]) -> list[Route]:
    """The routes of an API's Body; raises TemplateError that names the API."""
    return list(_routes(name, body))


def invoked(uri: str) -> str:
    """The ARN in an integration's URI, whose long form ends in /functions/ARN/invocations."""
    wrapped = re.search(r"/functions/(arn:[^/]+)/invocations$", uri)
    return wrapped[1] if wrapped else uri


def _routes(name: str, body: Mapping[str, Any]) -> Iterator[Route]:
    for path, methods in body.get("paths", {}).items():
        for method, operation in methods.items():
            where = f"{name}, {method} {path}"
            target = operation.get("x-amazon-apigateway-integration", {})
            if target.get("type") != "aws_proxy" or target.get("payloadFormatVersion") != "2.0":
                raise TemplateError(f"{where}: only aws_proxy with payload 2.0 is served")
            verb = "ANY" if method == _ANY else method.upper()
            key = "$default" if path == _DEFAULT else f"{verb} {path}"
            timeout = float(target.get("timeoutInMillis", 30000)) / 1000
            security = operation.get("security", [])
            yield Route(key, _authorization(where, security), invoked(str(target["uri"])), timeout)


def _authorization(where: str, security: list[Mapping[str, Any]]) -> str:
    match [name for each in security for name in each]:
        case [] | ["NONE"]:
            return "NONE"
        case ["AWS_IAM"]:
            return "AWS_IAM"
        case others:
            raise TemplateError(f"{where}: the authorizer {', '.join(others)} is not served")
