"""The management API behind the data plane, built when it is first needed. It must not decide anything.

FastAPI and its circle take longer to import than everything else together, so they are loaded after the listener is
open: by a thread, at once, so that the first administrator does not wait and no request's loop does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostiary.cli.bootstrap import House


class LazyControl:
    """An ASGI application that becomes the management API."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._app: Any = None
        self._building: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if self._app is None:
            self._app = await self.build()
        await self._app(scope, receive, send)

    async def build(self) -> Any:
        """The application, imported in a thread."""
        if self._building is None:
            self._building = asyncio.get_running_loop().run_in_executor(None, _application, self._house)
        return await asyncio.shield(self._building)


def _application(house: House) -> Any:
    async def absent(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    return absent
