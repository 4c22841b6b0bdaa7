"""An answer in the order it arrives. It must not know how events are framed.

A part starts, grows by deltas of text (a tool call: of its arguments) and ends; parts of one choice may overlap. The
`index` of a part gives its place among the parts of its choice, not its position: indices have gaps. After `Failed`
nothing follows.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.parts import Citation, Part, Seal
from ostiary.wire.conversation.reply import Finish, Score
from ostiary.wire.conversation.unknown import Extra


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The provider's name for the answer, for the model, and for the tier of service."""

    id: str
    model: str
    tier: str = ""


class PartStart(msgspec.Struct, frozen=True, tag=True):
    """A part begins, with what is known of it; parts that cannot grow are whole."""

    choice: int
    index: int
    part: Part


class PartDelta(msgspec.Struct, frozen=True, tag=True):
    """More text of a part, or more arguments of a tool call."""

    choice: int
    index: int
    text: str


class PartEnd(msgspec.Struct, frozen=True, tag=True):
    """A part is whole. It may be sealed only now."""

    choice: int
    index: int
    seal: Seal | None = None


class Cited(msgspec.Struct, frozen=True, tag=True):
    """Where words of a text part come from."""

    choice: int
    index: int
    citation: Citation


class Scored(msgspec.Struct, frozen=True, tag=True):
    """The chances of words of a choice; more may follow."""

    choice: int
    scores: tuple[Score, ...]


class Aside(msgspec.Struct, frozen=True, tag=True):
    """A member only its dialect understands: of the answer (`choice` None, the last word counts), or a piece of one
    that belongs to a choice (pieces are joined)."""

    choice: int | None
    extra: Extra


class Metered(msgspec.Struct, frozen=True, tag=True):
    """What was used so far; the last one counts."""

    usage: Usage


class Finished(msgspec.Struct, frozen=True, tag=True):
    """A choice has come to its end."""

    choice: int
    finish: Finish


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The answer will not be whole."""

    kind: Kind
    public: str
    status: int
    retry: Retry = Retry.NEVER

    @classmethod
    def of(cls, fault: Fault) -> Failed:
        """The event for a fault of the provider's."""
        return cls(fault.kind, fault.public, fault.status, fault.retry)

    def to_fault(self) -> Fault:
        """The fault for this event."""
        return Fault(self.kind, self.public, origin=Origin.UPSTREAM, retry=self.retry, status=self.status)


Event: TypeAlias = Opened | PartStart | PartDelta | PartEnd | Cited | Scored | Aside | Metered | Finished | Failed
