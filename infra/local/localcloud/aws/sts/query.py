"""What the actions of STS share: a call, its parameters, the credentials it answers with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from localcloud.aws.errors import ServiceError, elements
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.aws.accounts import AccessKey, Accounts
    from localcloud.wire.web import Request, Site

NAME = r"[\w+=,.@-]*"
_SHORTEST = 900


@dataclass(frozen=True)
class Call:
    """One call at a region's endpoint; `key` is the signer's, None where none need be."""

    accounts: Accounts
    region: str
    key: AccessKey | None
    parameters: Mapping[str, str]
    request: Request
    fetch: Site

    def only(self, pattern: str) -> None:
        """Refuse every parameter whose name is not of this pattern."""
        for name in sorted(self.parameters.keys() - {"Action", "Version"}):
            if not re.fullmatch(pattern, name):
                text = f"{name} is not served by the embedded cloud"
                raise ServiceError(400, "ValidationError", text)

    def text(self, name: str, pattern: str, shortest: int, longest: int) -> str:
        """A parameter that must be there, of this form and length."""
        value = self.parameters.get(name)
        field = name[0].lower() + name[1:]
        if value is None:
            raise invalid(field, "null", "not be null")
        if not shortest <= len(value) <= longest:
            raise invalid(field, value, f"have length between {shortest} and {longest}")
        if not re.fullmatch(pattern, value, re.ASCII):
            raise invalid(field, value, f"satisfy regular expression pattern: {pattern}")
        return value

    def role_arn(self) -> str:
        """The parameter RoleArn."""
        return self.text("RoleArn", r"arn:aws[a-z-]*:iam::\d{12}:role/.+", 20, 2048)

    def seconds(self, longest: int, default: int) -> int:
        """The parameter DurationSeconds."""
        text = self.parameters.get("DurationSeconds", str(default))
        if not re.fullmatch("[0-9]{1,6}", text) or not _SHORTEST <= int(text) <= longest:
            raise invalid("durationSeconds", text, f"between {_SHORTEST} and {longest}")
        return int(text)


type Handler = Callable[[Call], str]


def invalid(field: str, value: str, must: str) -> ServiceError:
    """What STS says of a parameter that breaks a constraint."""
    return ServiceError(
        400,
        "ValidationError",
        f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: "
        f"Member must {must}",
    )


def credentials(key: AccessKey) -> str:
    """The element Credentials."""
    end = datetime.fromtimestamp(key.expires or 0, UTC)
    values = {
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "SessionToken": key.token,
        "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return f"<Credentials>{elements(values)}</Credentials>"


def unreachable(_: Request) -> Response:
    """What stands in the place of other hosts where there are none."""
    return Response(503)
