"""An answer as the pivot says it. It must not hold what a gateway invents for the client, such as ids and times."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.parts import Part
from ostiary.wire.conversation.unknown import Rest


class Reason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


class Finish(msgspec.Struct, frozen=True):
    """Why the model stopped, and the word `said_by` has for it where that says more than `reason`.

    `stop` is the stop sequence that was met, where it is told.
    """

    reason: Reason
    word: str = ""
    said_by: str = ""
    stop: str | None = None


class Chance(msgspec.Struct, frozen=True):
    """A token and the natural logarithm of its probability. `data` are its bytes where they are told."""

    token: str
    logprob: float
    data: tuple[int, ...] | None = None


class Score(msgspec.Struct, frozen=True):
    """A token that was chosen, and those that were likely in its place."""

    chosen: Chance
    top: tuple[Chance, ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """One of the answers. `finish` is OTHER where the provider did not say why it stopped; `scores` are its words'."""

    index: int
    parts: tuple[Part, ...]
    finish: Finish = Finish(Reason.OTHER)
    rest: Rest = ()
    scores: tuple[Score, ...] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: one choice, or as many as were asked for, by index. `id`, `model` and `tier` (of service) are the
    provider's own words."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None
    id: str = ""
    model: str = ""
    rest: Rest = ()
    tier: str = ""
