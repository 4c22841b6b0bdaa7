"""The fields of a multipart/form-data body, found without copying its files. It must not write anything to disk.

Source: RFC 7578 and RFC 2046, 5.1. Only the parts' heads are read; a file's bytes are ranges of the body.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ostiary.core.fault import Fault, Kind

_BOUNDARY = re.compile(rb'(?:^|;)\s*boundary=(?:"([^"\r\n]{1,70})"|([^;\s"]{1,70}))\s*(?:;|$)', re.IGNORECASE)
_NAME = re.compile(rb'(?:^|;)\s*name="([^"\r\n]*)"|(?:^|;)\s*name=([^;\s"]+)', re.IGNORECASE)
_FILENAME = re.compile(rb";\s*filename\*?=", re.IGNORECASE)
MAX_PARTS = 256
MAX_PART_HEAD = 8 * 1024


class Part(NamedTuple):
    """One part: its field name, whether it is a file, the range of its content, and the range to cut to remove it."""

    name: str
    is_file: bool
    start: int
    end: int
    head: int  # the part's boundary line begins here
    after: int  # the next boundary line begins here


def boundary_of(content_type: bytes) -> bytes:
    """The boundary a Content-Type names.

    Raises:
        Fault: UNSUPPORTED_MEDIA where it is not multipart/form-data with a plain boundary of at most 70 characters.
    """
    kind, _, rest = content_type.partition(b";")
    match = _BOUNDARY.search(rest)
    if kind.strip().lower() != b"multipart/form-data" or match is None:
        raise Fault(Kind.UNSUPPORTED_MEDIA, "the request must be multipart/form-data with a boundary")
    return match.group(1) or match.group(2)


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """The parts of a body, in order.

    Raises:
        Fault: MALFORMED where the body does not follow the grammar, has over 256 parts or a part head over 8 KiB.
    """
    dash = b"--" + boundary
    position = body.find(dash)
    if position != 0 and (position < 0 or body[position - 2 : position] != b"\r\n"):
        raise _malformed()
    parts: list[Part] = []
    while True:
        line = position
        position += len(dash)
        if body[position : position + 2] == b"--":
            return parts
        if body[position : position + 2] != b"\r\n" or len(parts) == MAX_PARTS:
            raise _malformed()
        head_end = body.find(b"\r\n\r\n", position, position + 2 + MAX_PART_HEAD)
        end = body.find(b"\r\n" + dash, head_end)
        if head_end < 0 or end < 0:
            raise _malformed()
        name, is_file = _named(body[position + 2 : head_end])
        parts.append(Part(name, is_file, head_end + 4, max(end, head_end + 4), line, end + 2))
        position = end + 2


def _named(head: bytes) -> tuple[str, bool]:
    """The name of a part and whether it is a file."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            match = _NAME.search(value)
            if match is None:
                break
            raw = match.group(1) if match.group(1) is not None else match.group(2)
            try:
                return raw.decode(), _FILENAME.search(value) is not None
            except UnicodeDecodeError:
                break
    raise _malformed()


def _malformed() -> Fault:
    return Fault(Kind.MALFORMED, "the multipart body is not acceptable")
