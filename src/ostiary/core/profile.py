"""What one model accepts, as far as an encoder has to know. It must not say who serves it: that is the catalog's."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Thinks(StrEnum):
    """How a model is told to reason."""

    NEVER = "never"  # it has no such knob
    EFFORT = "effort"  # by a word
    BUDGET = "budget"  # by a number of tokens
    ADAPTIVE = "adaptive"  # by being let, and by a word


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts of one model. The defaults are those of a current model that takes everything.

    Attributes:
        version: of the wire format, where a dialect has several.
        max_output: the longest answer in tokens; asked for where the dialect demands a cap and the client names none.
        thinks: how it is told to reason.
        sampling: it takes temperature, top_p and top_k.
        schema: it takes a JSON schema for its answer.
        developer: it knows the role of a developer, besides that of the system.
        new_cap: it knows `max_completion_tokens`, and not only `max_tokens`.
        stream_usage: it takes the wish for usage at the end of a stream.
        cache_marks: it takes marks for what to keep in its prompt cache.
    """

    version: str = ""
    max_output: int | None = None
    thinks: Thinks = Thinks.EFFORT
    sampling: bool = True
    schema: bool = True
    developer: bool = True
    new_cap: bool = True
    stream_usage: bool = True
    cache_marks: bool = True


ANY = Profile()
