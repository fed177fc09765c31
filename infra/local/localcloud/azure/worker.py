"""Drives Microsoft's own worker library, azure-functions-runtime, as the Functions host does.

On Azure a .NET host talks gRPC to the worker process, and the worker hands each message to this
library, which indexes the app, decodes the trigger, runs the handler (a sync one on its thread
pool) and encodes the answer. The library takes the message classes from its caller, so plain
classes stand for the protobuf ones. An app without functions is refused: the library calls that
a success, and every request would then answer 404.
"""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure_functions_runtime as library

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class WorkerError(Exception):
    """The library reported a failure; the text is the one that the host would log."""


@dataclass(frozen=True, slots=True)
class HttpInvocation:
    """One HTTP trigger as the host hands it over; header names are lower-case."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    params: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What the handler returned."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Function:
    """One indexed function."""

    name: str
    function_id: str
    bindings: tuple[dict[str, Any], ...]

    def trigger(self, kind: str) -> dict[str, Any] | None:
        """The binding of this type, such as `httpTrigger`."""
        return next((b for b in self.bindings if b["type"] == kind), None)


async def load(root: Path) -> tuple[Function, ...]:
    """Index the function app in `root`; raises WorkerError when it fails or holds no function."""
    # The app's folder goes first: a function_app.py elsewhere on the path must not be taken for it.
    sys.path.insert(0, str(root))
    library.start_threadpool_executor()
    start = SimpleNamespace(capabilities={}, function_app_directory=str(root))
    _checked(await library.worker_init_request(_message(worker_init_request=start)))
    answer = _checked(await library.functions_metadata_request(_message()))
    found = answer.function_metadata_results or ()
    if not found:
        raise WorkerError(f"0 functions found in {root}: function_app.py is missing or empty")
    for entry in found:
        request = SimpleNamespace(function_id=entry.function_id, metadata=entry)
        _checked(await library.function_load_request(_message(function_load_request=request)))
    return tuple(
        Function(f.name, f.function_id, tuple(json.loads(raw) for raw in f.raw_bindings))
        for f in found
    )


async def invoke_http(function: Function, parameter: str, call: HttpInvocation) -> HttpAnswer:
    """Run an HTTP function; raises WorkerError with the text that goes to the host's log."""
    request = SimpleNamespace(
        method=call.method,
        url=call.url,
        headers=call.headers,
        query=call.query,
        params=call.params,
        body=_TypedData(bytes=call.body),
    )
    returned = await _invoke(function, parameter, _TypedData(http=request))
    if returned is None:
        raise WorkerError(f"Function {function.name!r} returned no HTTP response")
    if returned.WhichOneof("data") == "string":
        # A handler may return a plain string; the host answers 200 with it.
        plain = (("Content-Type", "text/plain; charset=utf-8"),)
        return HttpAnswer(200, plain, returned.string.encode())
    http = returned.http
    if http.cookies:
        raise WorkerError("this stand-in does not write cookies")
    return HttpAnswer(int(http.status_code), tuple(http.headers.items()), http.body.bytes)


async def _invoke(function: Function, parameter: str, data: Any) -> Any:
    answer = await library.invocation_request(
        _message(
            invocation_request=SimpleNamespace(
                invocation_id=str(uuid.uuid4()),
                function_id=function.function_id,
                input_data=[_Input(parameter, data)],
                trigger_metadata={},
                trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
                retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
            )
        )
    )
    return _checked(answer).return_value


class _Message:
    """A protobuf message as the library sees one: fields, and which of a oneof is set."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's name
        """The one field that was given."""
        return next(iter(self.__dict__), None)


class _TypedData(_Message):
    """The worker protocol's value of any type."""


@dataclass(frozen=True, slots=True)
class _Input:
    """A trigger's value under the name of the handler's argument."""

    name: str
    data: Any

    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - protobuf's name
        """The value came inline, not in shared memory."""
        return "data"


def _kind(name: str, **constants: int) -> type[_Message]:
    return type(name, (_Message,), constants)


# Enumeration values are those of Microsoft's FunctionRpc.proto.
_PROTOS = SimpleNamespace(
    TypedData=_TypedData,
    StatusResult=_kind("StatusResult", Failure=0, Success=1, Cancelled=2),
    BindingInfo=_kind("BindingInfo", undefined=0, out=1, inout=2, string=1, binary=2, stream=3),
    **{
        name: _kind(name)
        for name in (
            "FunctionLoadResponse",
            "FunctionMetadataResponse",
            "InvocationResponse",
            "ParameterBinding",
            "RpcException",
            "RpcFunctionMetadata",
            "RpcHttp",
            "RpcRetryOptions",
            "WorkerInitResponse",
            "WorkerMetadata",
        )
    },
)


def _message(**request: Any) -> SimpleNamespace:
    properties = {"protos": _PROTOS, "host": "127.0.0.1"}
    return SimpleNamespace(request=SimpleNamespace(**request), properties=properties)


def _checked(answer: Any) -> Any:
    if answer.result.status != _PROTOS.StatusResult.Success:
        failure = answer.result.exception
        raise WorkerError(f"{failure.message}\n{failure.stack_trace}")
    return answer
