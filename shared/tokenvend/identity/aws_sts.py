"""AWS STS's endpoints and answers, for whoever asks it: about a caller, or for a session of ours.

Refused: a region that would name another host or partition, and an answer that is not one result in
a small well-formed document without DTD. AWS's own texts go no further than their error code.
AWS STS API Reference 2011-06-15.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from tokenvend.errors import RateLimited, UpstreamUnavailable
from tokenvend.identifiers import AWS_REGION
from tokenvend.transport import retry_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree.ElementTree import Element

    from tokenvend.errors import TokenvendError
    from tokenvend.transport import Answer

MAX_ANSWER = 64 * 1024
_PARTITIONS = {"us-gov": "aws-us-gov", "cn": "aws-cn"}
_NAMESPACE = "{https://sts.amazonaws.com/doc/2011-06-15/}"
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z.]{1,64})</Code>")
_THROTTLED = frozenset(
    {"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"}
)


def partition(region: str) -> str:
    """`aws`, `aws-cn` or `aws-us-gov`. Raises ValueError for a region of none of them."""
    match = AWS_REGION.fullmatch(region)
    if match is None:
        raise ValueError("must be an AWS region such as eu-west-1")
    return _PARTITIONS.get(match["area"], "aws")


def host(region: str) -> str:
    """The hostname of the region's AWS STS. Raises ValueError as `partition`."""
    # China has a domain of its own; GovCloud uses the common one.
    suffix = "amazonaws.com.cn" if partition(region) == "aws-cn" else "amazonaws.com"
    return f"sts.{region}.{suffix}"


def result(
    answer: Answer, action: str, now: float, refused: Callable[[int, str], TokenvendError]
) -> Element:
    """The one result of `action` in an answer. `now`: epoch seconds.

    `refused`: what to raise where AWS says no, by its status and code. Raises RateLimited where it
    throttles, which it says with a 400 too, otherwise UpstreamUnavailable.
    """
    from xml.etree import ElementTree as ET  # noqa: PLC0415 - heavy, and most requests never need it

    if answer.status != HTTPStatus.OK:
        raise _failure(answer, now, refused)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"text/xml", "application/xml"} or len(answer.body) > MAX_ANSWER:
        raise UpstreamUnavailable(cause="AWS STS did not answer XML of a sensible size")
    # Entities and external documents need a DTD, and a DTD needs `<!`; AWS's answers have none.
    if b"<!" in answer.body:
        raise UpstreamUnavailable(cause="AWS STS answered with a DTD")
    try:
        # Decoded here: in UTF-16, which the parser would follow, `<!` has other bytes.
        root = ET.fromstring(answer.body.decode("utf-8"))  # noqa: S314 - no DTD, so no entities
    except (ET.ParseError, ValueError):
        raise UpstreamUnavailable(cause="AWS STS did not answer well-formed XML") from None
    results = root.findall(f"{_NAMESPACE}{action}Result")
    if root.tag != f"{_NAMESPACE}{action}Response" or len(results) != 1:
        raise UpstreamUnavailable(cause=f"AWS STS did not answer one {action} result")
    return results[0]


def text(element: Element, path: str) -> str:
    """The text of the one element at `path`, such as `Credentials/AccessKeyId`.

    Raises UpstreamUnavailable.
    """
    found = element.findall("/".join(f"{_NAMESPACE}{name}" for name in path.split("/")))
    if len(found) != 1 or len(found[0]) or not found[0].text:
        raise UpstreamUnavailable(cause=f"AWS STS's answer does not hold one {path}")
    return found[0].text


def _failure(
    answer: Answer, now: float, refused: Callable[[int, str], TokenvendError]
) -> TokenvendError:
    match = _ERROR_CODE.search(answer.body[:MAX_ANSWER])
    code = match[1].decode() if match else "no code"
    cause = f"AWS STS answered {answer.status}, {code}"
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or code in _THROTTLED:
        return RateLimited(cause=cause, retry_after=retry_after(answer.headers, now))
    if answer.status in {400, 401, 403}:
        return refused(answer.status, code)
    return UpstreamUnavailable(cause=cause)
