"""The outline of a JSON object: where its members stand and how deep it nests. It must not build values.

A decoder that keeps the last of two equal keys and one that keeps the first see two different requests in the same
bytes. What is inspected must be what is sent, so governed members are found in the bytes themselves. Grammar: RFC 8259.
The cost is one step per bracket, not per byte: strings and scalars are skipped by regular expressions that cannot
backtrack (their quantifiers are possessive).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9a-zA-Z]+")
_TO_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+', re.DOTALL)
_decode_key = msgspec.json.Decoder(str).decode


class Member(NamedTuple):
    """One member of the outermost object. Offsets are byte offsets: `start` of the key's quote, the value's range."""

    key: str
    start: int
    value_start: int
    value_end: int


class Outline(NamedTuple):
    """The outermost object's members in order, the deepest nesting, and the offset of the closing brace."""

    members: list[Member]
    depth: int
    close: int


class MisshapenError(ValueError):
    """The bytes are not one JSON object."""


def outline(body: bytes, max_depth: int) -> Outline:
    """The outline of `body`.

    Raises:
        MisshapenError: not a JSON object, or nested deeper than `max_depth`.
    """
    position = _skip(_SPACE, body, 0)
    if body[position : position + 1] != b"{":
        raise MisshapenError("not an object")
    position = _skip(_SPACE, body, position + 1)
    members: list[Member] = []
    deepest = 1
    while body[position : position + 1] != b"}" or members:
        key_match = _STRING.match(body, position)
        if key_match is None:
            raise MisshapenError("a member has no name")
        key = _key(key_match.group())
        colon = _skip(_SPACE, body, key_match.end())
        if body[colon : colon + 1] != b":":
            raise MisshapenError("a member has no value")
        start = _skip(_SPACE, body, colon + 1)
        end, depth = _value(body, start, max_depth)
        deepest = max(deepest, depth + 1)
        members.append(Member(key, position, start, end))
        position = _skip(_SPACE, body, end)
        if body[position : position + 1] == b"}":
            break
        if body[position : position + 1] != b",":
            raise MisshapenError("members are not separated")
        position = _skip(_SPACE, body, position + 1)
    if _skip(_SPACE, body, position + 1) != len(body):
        raise MisshapenError("something follows the object")
    return Outline(members, deepest, position)


def _skip(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    match = pattern.match(body, position)
    return match.end() if match else position


def _key(raw: bytes) -> str:
    try:
        return _decode_key(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MisshapenError("a member's name is not a string") from None


def _value(body: bytes, start: int, max_depth: int) -> tuple[int, int]:
    """End offset and nesting depth of the value at `start`."""
    first = body[start : start + 1]
    if first not in (b"{", b"["):
        match = _STRING.match(body, start) or _SCALAR.match(body, start)
        if match is None:
            raise MisshapenError("a value is missing")
        return match.end(), 0
    depth = deepest = 0
    position = start
    while True:
        position = _skip(_TO_BRACKET, body, position)
        bracket = body[position : position + 1]
        if bracket in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
            if depth >= max_depth:
                raise MisshapenError("nested too deeply")
        elif bracket in (b"}", b"]"):
            depth -= 1
        else:
            raise MisshapenError("the object does not end")
        position += 1
        if depth == 0:
            return position, deepest
