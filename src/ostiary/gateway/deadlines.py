"""Deadlines without timers: one slow tick looks at many objects. It must not know what a deadline means."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Expiring(Protocol):
    """Something with a deadline. Setting the attribute is all that a request pays."""

    deadline: float  # loop time in seconds; 0.0 for none

    def expire(self) -> None:
        """Called on the first tick after the deadline. Moves, clears or acts on it; must not raise."""
        ...


class Sweeper:
    """Calls `expire()` on registered objects whose deadline has passed, late by at most one tick (seconds).

    Nothing runs while nothing is registered.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: float = 0.1) -> None:
        self.loop = loop
        self._tick = tick
        self._watched: set[Expiring] = set()
        self._ticking = False

    def register(self, item: Expiring) -> None:
        """Watch `item` until it is unregistered."""
        self._watched.add(item)
        if not self._ticking:
            self._ticking = True
            self.loop.call_later(self._tick, self._sweep)

    def unregister(self, item: Expiring) -> None:
        """Stop watching `item`; no error if it is not watched."""
        self._watched.discard(item)

    def _sweep(self) -> None:
        if not self._watched:
            self._ticking = False
            return
        self.loop.call_later(self._tick, self._sweep)
        now = self.loop.time()
        for item in [item for item in self._watched if 0.0 < item.deadline <= now]:
            # asked again, because an earlier expiry of this tick may have moved it
            if 0.0 < item.deadline <= now and item in self._watched:
                item.expire()
