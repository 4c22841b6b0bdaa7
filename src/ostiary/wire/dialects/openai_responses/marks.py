"""How this dialect keeps apart what says the same, so that a request comes back as it came. It must not hold meaning.

A mark is an `Extra` with an empty value at a path that ends in "is" and a name: it says nothing that could be lost, and
no member of a body can stand there. What belongs to an item of several parts stands with its first part, under "item".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.unknown import Extra, Rest

DIALECT = "openai_responses"
ITEM = "item"
_NOTHING = msgspec.Raw(b"{}")


def mark(name: str) -> Extra:
    """A mark on a node."""
    return Extra(DIALECT, ("is", name), _NOTHING)


def item_mark(name: str) -> Extra:
    """A mark on the item that a part begins or goes on."""
    return Extra(DIALECT, (ITEM, "is", name), _NOTHING)


def marked(rest: Rest, name: str) -> bool:
    """Whether a node has the mark."""
    return any(extra.path == ("is", name) and extra.said_by == DIALECT for extra in rest)


def item_marked(rest: Rest, name: str) -> bool:
    """Whether the item that a part stands in has the mark."""
    return any(extra.path == (ITEM, "is", name) and extra.said_by == DIALECT for extra in rest)


def ordered(*rests: Iterable[Extra]) -> Rest:
    """One rest of several."""
    return tuple(sorted((extra for rest in rests for extra in rest), key=lambda extra: extra.path))


def of_item(rest: Rest) -> Rest:
    """What a part's rest says of its item, as the item's own rest."""
    return tuple(
        msgspec.structs.replace(extra, path=extra.path[1:])
        for extra in rest
        if extra.said_by == DIALECT and len(extra.path) > 1 and extra.path[0] == ITEM
    )


def with_item(rest: Rest) -> Rest:
    """An item's own rest as its first part has it."""
    return tuple(msgspec.structs.replace(extra, path=(ITEM, *extra.path)) for extra in rest)


def put(document: dict[str, Any], rest: Rest) -> dict[str, Any]:
    """`document` with what was left over of it put back; marks, and what belongs to the item, are not written."""
    if not rest:
        return document
    said = tuple(extra for extra in rest if not _aside(extra.path))
    return with_rest(document, said, DIALECT)


def ours(rest: Rest) -> bool:
    """Whether this dialect left anything."""
    return any(extra.said_by == DIALECT for extra in rest)


def _aside(path: tuple[str, ...]) -> bool:
    return len(path) > 1 and (path[-2] == "is" or path[0] == ITEM)
