"""What every token service has in common: reading its answer, and files of this machine. It must not ask anybody."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec

from ostiary.core.secret import Secret
from ostiary.gateway.signing.client import Answer
from ostiary.gateway.signing.tokens import NoToken, Token

MOST_BYTES = 64 * 1024
LONGEST_LIFE = 24 * 3600.0

_TOKEN = re.compile(r"[\x21-\x7e]+")
_CODE = re.compile(r"[A-Za-z_.]{1,60}")


def token_of(answer: Answer, now: float, name: str = "access_token") -> Token[Secret]:
    """The token of an answer after RFC 6749, section 5.1; `expires_in` may be text, as some services write it.

    Raises:
        NoToken: it refuses, or holds none. What is said of a refusal is its code alone (`invalid_client`).
    """
    if answer.status != 200:
        raise refusal(answer)
    text = answer.text(name)
    if not _TOKEN.fullmatch(text):
        raise NoToken(f"the answer of {answer.where} holds no token")
    lasts = answer.document.get("expires_in")
    seconds = float(lasts) if isinstance(lasts, int | float) or (isinstance(lasts, str) and lasts.isdigit()) else 0.0
    return Token(Secret(text), now + min(seconds, LONGEST_LIFE))


def refusal(answer: Answer) -> NoToken:
    """The fault for an answer that is not one of success."""
    code = answer.text("error")
    shown = f" {code}" if _CODE.fullmatch(code) else ""
    return NoToken(f"{answer.where} gives no token: it answers {answer.status}{shown}; check the credentials")


async def text_of(path: str) -> str:
    """The text of a file, at most 64 KiB, without blanks around it. Read anew each time: others renew such files.

    Raises:
        NoToken: it cannot be read.
    """
    return await asyncio.to_thread(_read, path)


def _read(path: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            return file.read(MOST_BYTES).decode().strip()
    except (OSError, RuntimeError, ValueError) as error:  # no home to expand, a null in the name, no text
        raise NoToken(f"the file {path} cannot be read ({getattr(error, 'strerror', None) or 'not text'})") from None


def instant(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 where it is none."""
    try:
        from datetime import datetime  # with the answers of two services only

        return msgspec.convert(text, datetime).timestamp()
    except msgspec.ValidationError:
        return 0.0
