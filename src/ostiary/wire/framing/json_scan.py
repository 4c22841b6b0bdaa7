"""The shape of a JSON object: how deep it nests, and where its members stand. It must not build values.

A decoder that keeps the last of two equal keys and one that keeps the first see two different requests in the same
bytes. What is inspected must be what is sent, so governed members are found in the bytes themselves. Grammar: RFC 8259.
Two questions of different price. `check_shape` asks how deep and how many: it runs over the bytes in C a few times,
whatever they hold. `outline` asks where the members stand: one step in Python per bracket and member, which is why it
gives up after `MOST_STEPS`; strings and scalars are skipped by expressions that cannot backtrack (their quantifiers are
possessive).
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


MOST_BRACKETS = 200_000  # objects and arrays
MOST_STRINGS = 200_000  # names and strings
MOST_STEPS = 50_000  # of `outline`
_ONE_KIND = bytes.maketrans(b"[]", b"{}")  # whether they match is the decoder's to judge
_ALL_BUT_BRACKETS = bytes(code for code in range(256) if code not in b"{}[]")


class Member(NamedTuple):
    """One member of the outermost object. Offsets are byte offsets: `start` of the key's quote, the value's range."""

    key: str
    start: int
    value_start: int
    value_end: int


class Outline(NamedTuple):
    """The outermost object's members in order, and the offset of the closing brace."""

    members: list[Member]
    close: int


class MisshapenError(ValueError):
    """The bytes are not one JSON object."""


def check_shape(body: bytes, max_depth: int) -> None:
    """Refuse what nests deeper than `max_depth`, or has more brackets or strings than any request needs.

    Raises:
        MisshapenError: with what is too much.
    """
    quotes = body.count(b'"')
    brackets = body.count(b"{") + body.count(b"[")
    if brackets <= max_depth and quotes <= 2 * MOST_STRINGS:
        return
    if quotes > 2 * MOST_STRINGS or b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # pairs, from the left, as an escape is read
        if body.count(b'"') > 2 * MOST_STRINGS:
            raise MisshapenError("too many strings")
    outside = b"".join(body.split(b'"')[::2])
    shape = outside.translate(_ONE_KIND, _ALL_BUT_BRACKETS)
    if len(shape) > 2 * MOST_BRACKETS:
        raise MisshapenError("too many objects and arrays")
    for _ in range(max_depth):
        if not shape:
            return
        shape = shape.replace(b"{}", b"")  # one level at a time, from the inside
    if shape:
        raise MisshapenError("nested too deeply")


def outline(body: bytes) -> Outline:
    """The outline of `body`.

    Raises:
        MisshapenError: not a JSON object, or one of too many parts to be judged.
    """
    steps = _Steps()
    position = _skip(_SPACE, body, 0)
    if body[position : position + 1] != b"{":
        raise MisshapenError("not an object")
    position = _skip(_SPACE, body, position + 1)
    members: list[Member] = []
    while body[position : position + 1] != b"}" or members:
        key_match = _STRING.match(body, position)
        if key_match is None:
            raise MisshapenError("a member has no name")
        key = _key(key_match.group())
        colon = _skip(_SPACE, body, key_match.end())
        if body[colon : colon + 1] != b":":
            raise MisshapenError("a member has no value")
        start = _skip(_SPACE, body, colon + 1)
        end = _value(body, start, steps)
        members.append(Member(key, position, start, end))
        position = _skip(_SPACE, body, end)
        if body[position : position + 1] == b"}":
            break
        if body[position : position + 1] != b",":
            raise MisshapenError("members are not separated")
        position = _skip(_SPACE, body, position + 1)
    if _skip(_SPACE, body, position + 1) != len(body):
        raise MisshapenError("something follows the object")
    return Outline(members, position)


def _skip(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    match = pattern.match(body, position)
    return match.end() if match else position


def _key(raw: bytes) -> str:
    try:
        return _decode_key(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MisshapenError("a member's name is not a string") from None


class _Steps:
    """Counts the steps of one outline."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise MisshapenError("too many parts")


def _value(body: bytes, start: int, steps: _Steps) -> int:
    """The end offset of the value at `start`."""
    steps.take()
    first = body[start : start + 1]
    if first not in (b"{", b"["):
        match = _STRING.match(body, start) or _SCALAR.match(body, start)
        if match is None:
            raise MisshapenError("a value is missing")
        return match.end()
    depth = 0
    position = start
    while True:
        position = _skip(_TO_BRACKET, body, position)
        bracket = body[position : position + 1]
        if bracket in (b"{", b"["):
            depth += 1
        elif bracket in (b"}", b"]"):
            depth -= 1
        else:
            raise MisshapenError("the object does not end")
        steps.take()
        position += 1
        if depth == 0:
            return position
