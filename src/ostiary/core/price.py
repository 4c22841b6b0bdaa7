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

    def cost_of_tokens(self, into: int, out: int) -> Nano:
        """Nanodollars for plain tokens in and out, rounded up."""
        return -(-(into * self.input + out * self.output) // MILLION) + self.request

    def cost(self, usage: Usage) -> Nano:
        """Nanodollars for this usage, rounded up once at the end. Never negative."""
        if not usage.special:
            return self.cost_of_tokens(usage.input, usage.output)
        plain_in, plain_out, total = usage.input, usage.output, 0
        for count, rate in (
            (usage.cache_read, self.cache_read),
            (usage.cache_creation, self.cache_creation),
            (usage.audio_input, self.audio_input),
        ):
            if rate is not None:
                plain_in -= count
                total += count * rate
        for count, rate in ((usage.reasoning, self.reasoning), (usage.audio_output, self.audio_output)):
            if rate is not None:
                plain_out -= count
                total += count * rate
        total += max(plain_in, 0) * self.input + max(plain_out, 0) * self.output
        total += usage.images * self.image
        total += -(-usage.milliseconds * (self.second_in + self.second_out) // 1000)
        total += usage.characters * (self.character_in + self.character_out)
        return -(-total // MILLION) + self.request


FREE = Price()
