"""One read of the store for all who miss the same key at once. It must not hand out a row read before a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ostiary.core.key import VirtualKey
from ostiary.gateway.ports import KeySource


class SharedReads:
    """A `KeySource` before the store's: fifty connections that show a new key at once cost one look-up.

    A read is joined only where nothing changed since it began. It belongs to nobody: that one of those who wait for it
    goes away does not end it.

    Args:
        source: the store.
        changes: how many changes of keys were noted so far; it counts while a read is under way.
    """

    def __init__(self, source: KeySource, changes: Callable[[], int]) -> None:
        self._source = source
        self._changes = changes
        self._running: dict[bytes, tuple[int, asyncio.Task[VirtualKey | None]]] = {}

    async def find(self, digest: bytes) -> VirtualKey | None:
        """See `KeySource.find`."""
        changes = self._changes()
        began, task = self._running.get(digest, (-1, None))
        if task is None or began != changes:
            task = asyncio.create_task(self._source.find(digest))
            self._running[digest] = (changes, task)
            task.add_done_callback(lambda done: self._ended(digest, done))
        return await asyncio.shield(task)

    def _ended(self, digest: bytes, task: asyncio.Task[VirtualKey | None]) -> None:
        if self._running.get(digest, (0, None))[1] is task:
            del self._running[digest]
        if not task.cancelled():
            task.exception()  # whoever waits has it; if nobody does any more, it is nobody's
