"""An access token kept until shortly before its end. It must not keep one longer, nor show it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from ostiary.core.secret import Secret
from ostiary.vault.kms.client import Answer
from ostiary.vault.kms.faults import KeyServiceUnreachable

_EARLY = 60.0
_LONGEST = 3600.0
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


class Bearer:
    """A token of an OAuth 2 token endpoint.

    Args:
        fetch: asks the endpoint; its answer is one of status 200.
        where: host and port of the endpoint, for messages.
        now: seconds from any point, never going back.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Answer]], where: str, now: Callable[[], float]) -> None:
        self._fetch = fetch
        self._where = where
        self._now = now
        self._token: Secret | None = None
        self._until = 0.0

    async def header(self) -> dict[str, str]:
        """The `authorization` header.

        Raises:
            KeyServiceUnreachable: the endpoint's answer holds no token.
        """
        if self._token is None or self._now() >= self._until:
            answer = await self._fetch()
            text, lasts = answer.text("access_token"), answer.document.get("expires_in")
            if not _TOKEN.fullmatch(text):
                raise KeyServiceUnreachable(self._where, "its answer holds no token")
            seconds = float(lasts) if isinstance(lasts, int | float) else 0.0
            self._token, self._until = Secret(text), self._now() + min(seconds, _LONGEST) - _EARLY
        return {"authorization": f"Bearer {self._token.reveal()}"}

    def forget(self) -> None:
        """The token was refused: the next call asks for another."""
        self._token = None
