"""What a unit of usage costs, and the arithmetic from usage to money. It must not guess: an absent price is None."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ostiary.core.money import Nano
from ostiary.core.usage import Usage

MILLION = 1_000_000


class PriceState(StrEnum):
    """Where a price comes from. `UNKNOWN` is visible in the record and refused for keys with a budget."""

    LISTED = "listed"  # from the table that ships with the package
    DECLARED = "declared"  # from the deployment's configuration
    FREE = "free"  # declared as costing nothing
    UNKNOWN = "unknown"


class Price(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rates as integer nanodollars per million units, so that a price of 1e-15 dollars per token is still exact.

    Units: tokens, except `image` (per million pictures), `second_in`/`second_out` (per million seconds) and
    `character_in`/`character_out`. `request` is a flat fee in nanodollars per request. An optional rate that is None
    falls back to the plain input or output rate; `None` is not zero.
    """

    input: int = 0
    output: int = 0
    cache_read: int | None = None
    cache_creation: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image: int = 0
    second_in: int = 0
    second_out: int = 0
    character_in: int = 0
    character_out: int = 0
    request: Nano = 0

    def cost(self, usage: Usage) -> Nano:
        """Nanodollars for this usage, rounded up once at the end. Never negative."""
        cached, written, heard = usage.cache_read, usage.cache_creation, usage.audio_input
        thought, spoken = usage.reasoning, usage.audio_output
        total = 0
        plain_in = usage.input
        if cached or written or heard:
            if self.cache_read is not None:
                plain_in -= cached
                total += cached * self.cache_read
            if self.cache_creation is not None:
                plain_in -= written
                total += written * self.cache_creation
            if self.audio_input is not None:
                plain_in -= heard
                total += heard * self.audio_input
        plain_out = usage.output
        if thought or spoken:
            if self.reasoning is not None:
                plain_out -= thought
                total += thought * self.reasoning
            if self.audio_output is not None:
                plain_out -= spoken
                total += spoken * self.audio_output
        total += max(plain_in, 0) * self.input + max(plain_out, 0) * self.output
        if usage.images or usage.milliseconds or usage.characters:
            total += usage.images * self.image
            total += -(-usage.milliseconds * (self.second_in + self.second_out) // 1000)
            total += usage.characters * (self.character_in + self.character_out)
        return -(-total // MILLION) + self.request


FREE = Price()
