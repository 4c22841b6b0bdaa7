"""What can be a virtual key, told from its text alone. It must not ask a store."""

from __future__ import annotations

import re

from ostiary.core.ids import well_formed_key

SHORTEST, LONGEST = 16, 256

_KEY = re.compile(r"sk-[A-Za-z0-9_.~+/=-]+", re.ASCII)
_TOKEN = re.compile(r"[0-9a-f]{64}", re.ASCII)


def possible_key(text: str) -> bool:
    """Whether this can be a key of ours or one brought along. A wrong checksum or a strange character: no."""
    return SHORTEST <= len(text) <= LONGEST and _KEY.fullmatch(text) is not None and well_formed_key(text) is not False


def token_digest(text: str) -> bytes | None:
    """The digest behind a `token` of the API: 64 lower-case hex digits; None for any other text."""
    return bytes.fromhex(text) if _TOKEN.fullmatch(text) else None
