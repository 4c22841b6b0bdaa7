"""The lines of a batch's input file: each is a request of its own and is read like one. It must not skip a line.

Source: OpenAI API reference, Batch: one JSON object per line with `custom_id`, `method`, `url` and `body`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.governed import Ask, read

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def rewritten_line(line: bytes, number: int, max_depth: int, rewrite: Callable[[Ask], bytes]) -> bytes:
    """One line with its `body` rewritten; an empty line stays.

    Args:
        number: of the line, from 1, for the error.
        rewrite: authorises the request of the line and gives the body to send.

    Raises:
        Fault: MALFORMED for what is no request; whatever `rewrite` raises.
    """
    if not line.strip():
        return line
    try:
        members = _members(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault(Kind.MALFORMED, f"line {number} of the file is not a JSON object", param="file") from None
    if line.count(b'"body"') > 1 and "body" in members and line.count(bytes(members["body"])) != 1:
        raise Fault(Kind.MALFORMED, f"line {number} of the file is ambiguous", param="file")
    if "body" in members:
        members["body"] = msgspec.Raw(rewrite(read(bytes(members["body"]), max_depth=max_depth)))
    return _encode(members)
