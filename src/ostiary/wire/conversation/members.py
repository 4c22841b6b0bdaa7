"""Taking an object apart member by member, and putting it together again, so that nothing is lost on the way.

It must not know what any member means.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, TypeVar

import msgspec

from ostiary.wire.conversation.unknown import Extra, Rest

T = TypeVar("T")
NULL = b"null"
EMPTY_LIST = msgspec.Raw(b"[]")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Members:
    """The members of one JSON object. What nobody takes is the rest.

    A member that is null, or not of the type asked for, is not taken: it stays in the rest, and so goes back to its
    dialect as it came.
    """

    __slots__ = ("_inside", "_left")

    def __init__(self, left: dict[str, msgspec.Raw]) -> None:
        self._left = left
        self._inside: dict[str, Members] = {}

    @classmethod
    def of(cls, raw: bytes | msgspec.Raw) -> Members | None:
        """The members of an object; None for anything else."""
        try:
            return cls(_members(raw))
        except UNREADABLE:
            return None

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
        """A member's value; None where it is absent, null or of another type."""
        raw = self._left.get(name)
        if raw is None or bytes(raw) == NULL:
            return None
        try:
            value = decoder.decode(raw)
        except UNREADABLE:
            return None
        del self._left[name]
        return value

    def inside(self, name: str) -> Members:
        """The members of an object within; none where there is no such object. Ask once for each name."""
        raw = self._left.get(name)
        found = Members.of(raw) if raw is not None else None
        if found is None or not found._left:
            return Members({})
        del self._left[name]
        self._inside[name] = found
        return found

    def put_back(self, name: str, value: msgspec.Raw) -> None:
        """Leave something of a member that was taken."""
        self._left[name] = value

    def rest(self, said_by: str, binding: Set[str] = frozenset(), moot: Set[str] = frozenset()) -> Rest:
        """What nobody took, sorted by path; members named by `binding`, and all within, are content or constraints,
        and own members named by `moot` mean nothing to any other dialect."""
        found = [
            Extra(said_by, path, value, not binding.isdisjoint(path), len(path) == 1 and path[0] in moot)
            for path, value in self._remains()
        ]
        return tuple(sorted(found, key=lambda extra: extra.path))

    def _remains(self) -> list[tuple[tuple[str, ...], msgspec.Raw]]:
        own: list[tuple[tuple[str, ...], msgspec.Raw]] = [((name,), value) for name, value in self._left.items()]
        for name, inner in self._inside.items():
            own += [((name, *path), value) for path, value in inner._remains()]
        return own


def with_rest(document: dict[str, Any], rest: Rest, dialect: str) -> dict[str, Any]:
    """`document` with what `dialect` had left over put back in its place. What is written already stays."""
    for extra in rest:
        if extra.said_by != dialect:
            continue
        place: Any = document
        for name in extra.path[:-1]:
            place = place.setdefault(name, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.setdefault(extra.path[-1], extra.value)
    return document
