"""What an answer consumed. Token counts follow one convention: input includes cached tokens."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Consumption of one exchange.

    `input` includes `cache_read`, `cache_creation` and `audio_input`; `output` includes `reasoning` and
    `audio_output`. All are counts of tokens except `images` (pictures made), `milliseconds` (of audio heard or made)
    and `characters` (of text spoken).
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    images: int = 0
    milliseconds: int = 0
    characters: int = 0

    @property
    def special(self) -> bool:
        """Whether anything but plain tokens was used."""
        return bool(
            self.cache_read
            or self.reasoning
            or self.cache_creation
            or self.audio_input
            or self.audio_output
            or self.images
            or self.milliseconds
            or self.characters
        )

    @property
    def total(self) -> int:
        """Tokens in and out."""
        return self.input + self.output


NOTHING = Usage()
