"""Whether a request's head can be read in one way only; what two readers could take differently is
refused with 400.

Python's own parser lets a line that is no header field hide every one behind it, and takes the
first of two lengths: a header such as X-Forwarded-For could be carried past its reader, and a
second request inside the first.
Specification: RFC 9112 sections 2.2, 3.2, 5 and 6.3.
"""

from __future__ import annotations

import re
from http.client import HTTPMessage
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import Message

_TARGET = re.compile("[!-~]+")
_LENGTH = re.compile("[0-9]{1,19}")
_ABSOLUTE = re.compile("https?://([^/?]*)", re.IGNORECASE)


class Head(HTTPMessage):
    """A request's header fields, for Python's parser, which takes them for a whole message.

    It would look for the parts of a multipart one, which are yet to come, and find the head faulty.
    """

    def get_content_type(self) -> str:
        """Of the head itself, whatever its Content-Type says of the body."""
        return "text/plain"


def is_sound(version: str, target: str, fields: Message) -> bool:
    """Whether a head has one meaning: its lines, its Host and the length of its body."""
    if not version.startswith("HTTP/1.") or not _TARGET.fullmatch(target):
        return False
    # What the parser could make nothing of is left as a payload, with everything behind it.
    if fields.defects or fields.get_payload() or fields.get_unixfrom():
        return False
    if any("\r" in value or "\n" in value for value in fields.values()):
        return False
    hosts, lengths = fields.get_all("Host", []), fields.get_all("Content-Length", [])
    codings = [each.strip().lower() for each in fields.get_all("Transfer-Encoding", [])]
    if len(hosts) > 1 or (not hosts and version != "HTTP/1.0"):
        return False
    if codings:
        return codings == ["chunked"] and not lengths
    return not lengths or (len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) is not None)


def located(target: str, fields: Message) -> tuple[str, str, list[tuple[str, str]]]:
    """The authority that a request is for, the target there, and its header fields.

    RFC 9112 section 3.2.2: a client that was told to use us as its proxy for plain http sends the
    target in absolute form. Its authority counts, and is what Host says from then on.
    """
    match = _ABSOLUTE.match(target)
    if match is None:
        return fields.get("Host", ""), target, fields.items()
    kept = [(name, value) for name, value in fields.items() if name.lower() != "host"]
    rest = target[match.end() :]
    return match[1], rest if rest.startswith("/") else f"/{rest}", [("Host", match[1]), *kept]
