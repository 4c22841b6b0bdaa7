"""Unknown is a value: what a codec does not understand is kept, tagged with who said it, and told when it is lost.

It must not interpret what it keeps.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ostiary.core.fault import Fault, Kind, Retry

_EMPTY = frozenset({b"null", b"[]", b"{}"})  # says nothing that could be lost


class Extra(msgspec.Struct, frozen=True):
    """A member that the pivot has no word for, as raw JSON.

    `said_by` is the dialect, the only one it may go back to. `path` are the member names that lead to it from the node
    that carries it. `binding`: it is content or a constraint, so that losing it would change what is asked. `moot`:
    elsewhere it has no meaning, so that losing it loses nothing.
    """

    said_by: str
    path: tuple[str, ...]
    value: msgspec.Raw
    binding: bool = False
    moot: bool = False


Rest = tuple[Extra, ...]


class LossKind(StrEnum):
    """What a dialect may leave out, and says so."""

    KNOB = "knob"  # a tuning parameter
    UNKNOWN = "unknown"  # a member of another dialect
    SEAL = "seal"  # a proof that only its issuer can read
    SHAPE = "shape"  # order or division of parts; nothing of what they say
    MARK = "mark"  # a mark on content, such as a file's name or a tool's failure


class Loss(msgspec.Struct, frozen=True):
    """Something that did not travel: its kind, and the place in the pivot ("messages.3.parts.0")."""

    kind: LossKind
    where: str


class Encoded(msgspec.Struct, frozen=True):
    """A body in some dialect, and what it could not say."""

    body: bytes
    losses: tuple[Loss, ...] = ()


def inexpressible(where: str) -> Fault:
    """The refusal to drop content or a constraint; another target may be able to take it."""
    public = f"{where!r} cannot be expressed in the interface it would have to pass"
    return Fault(Kind.INVALID_REQUEST, public, retry=Retry.NEXT, param=where)


def losses_of(rest: Rest, dialect: str, where: str) -> list[Loss]:
    """What is lost of `rest` when it is written in `dialect`.

    Raises:
        Fault: INVALID_REQUEST where it is content or a constraint.
    """
    lost = []
    for extra in rest:
        if extra.said_by == dialect or extra.moot or bytes(extra.value) in _EMPTY:
            continue
        place = ".".join((where, *extra.path) if where else extra.path)
        if extra.binding:
            raise inexpressible(place)
        lost.append(Loss(LossKind.UNKNOWN, place))
    return lost


def find(rest: Rest, dialect: str, *path: str) -> msgspec.Raw | None:
    """The value a dialect left at `path`; None where it left none."""
    return next((extra.value for extra in rest if extra.said_by == dialect and extra.path == path), None)
