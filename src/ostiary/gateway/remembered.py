"""Responses on their way to where they are kept: at hand at once, written a moment later. It must not make an answer
wait for a disk.

What is not written yet is read from memory, so that whoever has an answer can go on from it at once. A process that is
killed in that moment forgets it: its owner is told that there is no such response. What the store refuses for now is
tried again; beyond so many bytes that wait, nothing more is taken, and the answer says that it is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import TypeAlias

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault
from ostiary.core.kept import KeptResponse
from ostiary.gateway.ports import ResponseStore

MOST_WAITING = 64 * 1024 * 1024  # bytes
BATCH = 20  # responses of one call
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds between attempts to write

Place: TypeAlias = tuple[str, str, str]  # organisation, owner, id


class Remembered:
    """What is kept, and what will be.

    Args:
        store: where it goes.
        clock: tells what has expired.
        failed: told when the store refused.
    """

    def __init__(
        self, store: ResponseStore, clock: Clock, *, failed: Callable[[Fault], None] = lambda _fault: None
    ) -> None:
        self._store = store
        self._clock = clock
        self._failed = failed
        self._waiting: dict[Place, KeptResponse] = {}
        self._bytes = 0
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    def __len__(self) -> int:
        """How many wait to be written."""
        return len(self._waiting)

    def keep(self, response: KeptResponse) -> bool:
        """Take a response; False where there is no room for it now."""
        if self._bytes + len(response.body) > MOST_WAITING:
            return False
        self._waiting[_place(response)] = response
        self._bytes += len(response.body)
        self._wake.set()
        return True

    async def get(self, org_id: str, owner: str, response_id: str) -> KeptResponse | None:
        """See `ResponseStore.get`."""
        found = self._waiting.get((org_id, owner, response_id))
        if found is None:
            return await self._store.get(org_id, owner, response_id)
        return found if found.expires > self._clock.now() else None

    async def delete(self, org_id: str, owner: str, response_id: str) -> bool:
        """See `ResponseStore.delete`. What is just being written is deleted after that."""
        async with self._writing:
            had = self._drop((org_id, owner, response_id))
            return await self._store.delete(org_id, owner, response_id) or had

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
                pause = FIRST_PAUSE
            except Fault as fault:
                self._failed(fault)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                self._wake.set()

    async def flush(self) -> None:
        """Write all that waits.

        Raises:
            Fault: UNAVAILABLE; what is not written waits on.
        """
        while self._waiting:
            async with self._writing:
                some = list(islice(self._waiting.values(), BATCH))
                await self._store.put(some)
                for response in some:
                    self._drop(_place(response))

    def _drop(self, place: Place) -> bool:
        response = self._waiting.pop(place, None)
        if response is not None:
            self._bytes -= len(response.body)
        return response is not None


def _place(response: KeptResponse) -> Place:
    return response.org_id, response.owner, response.id
