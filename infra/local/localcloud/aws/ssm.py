"""AWS Systems Manager Parameter Store: GetParameter, in AWS JSON 1.1, signed for service `ssm`.

Parameters are put in process. Names with a version, a label or as an ARN, and every other
operation, answer 405. Specification: AWS Systems Manager API Reference, version 2014-11-06.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.aws.authorization import DeniedError, Question, authorize
from localcloud.aws.errors import ServiceError, as_json, refused_signature, request_id
from localcloud.aws.sigv4 import RefusedError, verify
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.aws.accounts import AccessKey, Accounts

KIND = "application/x-amz-json-1.1"
# An advanced parameter's value; a standard one holds half of that.
MAX_VALUE = 8 * 1024
_NAME = re.compile(r"/?[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True)
class _Parameter:
    value: str
    secure: bool
    version: int
    modified: float


class Parameters:
    """The account's parameters in the function's region."""

    def __init__(self) -> None:
        self._held: dict[str, _Parameter] = {}
        self._lock = threading.Lock()

    def put(self, name: str, value: str, *, secure: bool = False, now: float = 0.0) -> None:
        """Write a parameter, as SecureString if told; raises ValueError for what AWS refuses."""
        if not _NAME.fullmatch(name) or not value or len(value.encode()) > MAX_VALUE:
            raise ValueError(f"{name}: no such name, or a value of not 1 to {MAX_VALUE} bytes")
        with self._lock:
            before = self._held.get(name)
            version = before.version + 1 if before else 1
            self._held[name] = _Parameter(value, secure, version, now)

    def delete(self, name: str) -> None:
        """Remove a parameter; KeyError when there is none."""
        with self._lock:
            del self._held[name]

    def find(self, name: str) -> _Parameter | None:
        """The parameter of this name."""
        with self._lock:
            return self._held.get(name)


def sites(accounts: Accounts, parameters: Parameters) -> dict[str, Site]:
    """The endpoint of the function's region."""

    def serve(request: Request) -> Response:
        try:
            return _serve(request, accounts, parameters)
        except RefusedError as refused:
            return as_json(refused_signature(refused, 400))
        except DeniedError as denied:
            return as_json(ServiceError(400, "AccessDeniedException", str(denied)))
        except ServiceError as error:
            return as_json(error)

    return {f"ssm.{accounts.aws.region}.amazonaws.com": serve}


def _serve(request: Request, accounts: Accounts, parameters: Parameters) -> Response:
    signed = verify(request, accounts, service="ssm", region=accounts.aws.region)
    kind = request.headers.get("Content-Type").partition(";")[0].strip()
    action = request.headers.get("X-Amz-Target").removeprefix("AmazonSSM.")
    found = SERVICE.find(request.method, request.target, action)
    if found is None or kind != KIND:
        text = f"The embedded cloud serves no {action[:64]} of Parameter Store."
        raise ServiceError(405, "UnknownOperationException", text)
    return found[0].handler(request, signed.key, accounts, parameters)


def _get_parameter(
    request: Request, key: AccessKey, accounts: Accounts, parameters: Parameters
) -> Response:
    name, decrypt = _asked(request.body)
    place = f"arn:aws:ssm:{accounts.aws.region}:{accounts.aws.account}:parameter"
    resource = f"{place}/{name.removeprefix('/')}"
    authorize(accounts, key, Question("ssm:GetParameter", resource), request)
    found = parameters.find(name)
    if found is None:
        raise ServiceError(400, "ParameterNotFound", "")
    hidden = found.secure and not decrypt
    body = {
        "Parameter": {
            "ARN": resource,
            "DataType": "text",
            "LastModifiedDate": found.modified,
            "Name": name,
            "Type": "SecureString" if found.secure else "String",
            "Value": _ciphertext() if hidden else found.value,
            "Version": found.version,
        }
    }
    return Response(200, json.dumps(body).encode(), (("Content-Type", KIND), request_id()))


SERVICE: Service[Callable[[Request, AccessKey, Accounts, Parameters], Response]] = Service(
    title="AWS Systems Manager Parameter Store",
    hosts=("ssm.REGION.amazonaws.com",),
    routes=(Route("POST", "/", _get_parameter, "ssm:GetParameter", "GetParameter"),),
    unserved=(
        Unserved(
            "kms:Decrypt", "a SecureString is under the account's own key, which asks nothing"
        ),
        Unserved("*", "the functions read one parameter and nothing else"),
    ),
)


def _asked(body: bytes) -> tuple[str, bool]:
    """The parameter's name, and whether to decrypt it."""
    try:
        asked: Any = json.loads(body)
    except ValueError:
        raise ServiceError(400, "SerializationException", "The body is not JSON.") from None
    fields = asked if isinstance(asked, dict) else {}
    name, decrypt = fields.get("Name"), fields.get("WithDecryption", False)
    if not isinstance(name, str) or not isinstance(decrypt, bool):
        raise ServiceError(400, "SerializationException", "A member has the wrong type.")
    if fields.keys() - {"Name", "WithDecryption"}:
        raise ServiceError(400, "SerializationException", "There is a member that nobody knows.")
    if ":" in name:
        text = "The embedded cloud finds parameters by plain name alone."
        raise ServiceError(405, "UnknownOperationException", text)
    if not _NAME.fullmatch(name):
        raise ServiceError(400, "ValidationException", "Parameter name: can't be that.")
    return name, decrypt


def _ciphertext() -> str:
    """What KMS's ciphertext looks like to who did not ask for decryption."""
    return base64.b64encode(b"\x01\x02\x02\x00" + secrets.token_bytes(180)).decode()
