"""What the doors to a function share: Lambda's permission to let them in, the call, the answer."""

from __future__ import annotations

import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

from localcloud.aws.authorization import DeniedError, Question, authorize_service
from localcloud.aws.events import BadResultError
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.aws.accounts import Accounts
    from localcloud.aws.functions import Functions
    from localcloud.aws.iam import Policy
    from localcloud.aws.runtime import Outcome

# Lambda's limit of a synchronous invocation's payload, in bytes.
MAX_EVENT = 6 * 1024 * 1024
INVOKE = "lambda:InvokeFunction"
_GATEWAY = "apigateway.amazonaws.com"


class LateError(Exception):
    """The integration took longer than its timeout."""


def require_permission(
    accounts: Accounts,
    functions: Functions,
    arn: str,
    source: str,
    further: Sequence[Policy] = (),
) -> None:
    """Whether API Gateway may call a function or alias for a route; raises BadResultError.

    `source`: the route's ARN; `further`: permissions that were added by hand.
    """
    function, qualifier = functions.template.target(arn)
    if qualifier and qualifier not in function.aliases:
        raise BadResultError(f"Function not found: {arn}")
    keys = {"aws:SourceArn": (source,), "aws:SourceAccount": (accounts.aws.account,)}
    policies = [*function.policies.get(qualifier, ()), *further]
    try:
        authorize_service(accounts, _GATEWAY, Question(INVOKE, arn, keys, policies))
    except DeniedError as denied:
        raise BadResultError(str(denied)) from denied


def run(functions: Functions, arn: str, event: bytes, timeout: float) -> Outcome:
    """Invoke, but wait no longer than the integration's timeout; the function runs on.

    Raises LateError, and BadResultError when nothing came of it.
    """
    function, alias = functions.template.target(arn)
    found: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: found.append(functions.invoke(function, event, qualifier=alias)), daemon=True
    )
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise LateError
    if not found:
        raise BadResultError("the invocation failed")
    return found[0]


def answered(outcome: Outcome, read: Callable[[bytes], Response]) -> Response:
    """The function's result as a response; raises BadResultError."""
    if outcome.failed:
        raise BadResultError("the function raised or was ended")
    return read(outcome.payload)


def encoded(event: dict[str, Any]) -> bytes:
    """An event as the function gets it."""
    return json.dumps(event).encode()


def identified(header: str, serve: Callable[[Request, str], Response]) -> Site:
    """Every answer bears the request's id, a refusal of the door's own too."""

    def site(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        answer = serve(request, request_id)
        return Response(answer.status, answer.body, (*answer.headers, (header, request_id)))

    return site
