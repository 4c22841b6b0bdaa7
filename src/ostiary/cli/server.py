"""uvicorn's server with our start and stop: says where it listens, drains, then closes what `bootstrap` opened.

It must not know what it serves.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable

import uvicorn


class Server(uvicorn.Server):
    """One listener.

    Args:
        ready: called with the base URL once connections are accepted.
        stopping: called at the first sign of the end, before connections are drained.
        closed: awaited after all exchanges have ended or were cut.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        ready: Callable[[str], None],
        stopping: Callable[[], None],
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping
        self._closed = closed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            # What lives as long as the process need not be looked at by each collection of garbage: a full collection
            # over everything that was imported stops the loop for tens of milliseconds.
            gc.collect()
            gc.freeze()
            self._ready(f"http://{shown}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`. Streams go on for the drain time; then what is left is cut, and settled."""
        self._stopping()
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cut by the drain deadline: let them settle
            await asyncio.wait(self.server_state.tasks, timeout=2.0)
        await self._closed()
