"""Reads of the store that are shared: one for all who miss at once, none from before a change."""

from __future__ import annotations

import asyncio

import pytest

from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.gateway.key_reads import SharedReads


class Store:
    """Answers each read when told to."""

    def __init__(self) -> None:
        self.reads: list[asyncio.Future[VirtualKey | None]] = []

    async def find(self, digest: bytes) -> VirtualKey | None:
        read: asyncio.Future[VirtualKey | None] = asyncio.get_running_loop().create_future()
        self.reads.append(read)
        return await read


KEY = VirtualKey(id="k1", digest=b"d")


async def _waiting(reads: SharedReads, count: int) -> list[asyncio.Task[VirtualKey | None]]:
    tasks = [asyncio.create_task(reads.find(b"d")) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_fifty_who_miss_a_key_at_once_cost_one_read() -> None:
    store = Store()
    tasks = await _waiting(SharedReads(store, lambda: 0), 50)
    assert len(store.reads) == 1
    store.reads[0].set_result(KEY)
    assert await asyncio.gather(*tasks) == [KEY] * 50


async def test_a_read_from_before_a_change_is_not_joined() -> None:
    store, changes = Store(), [0]
    reads = SharedReads(store, lambda: changes[0])
    before = await _waiting(reads, 2)
    changes[0] += 1
    after = await _waiting(reads, 2)
    assert len(store.reads) == 2
    store.reads[0].set_result(None)
    store.reads[1].set_result(KEY)
    assert await asyncio.gather(*before) == [None, None]
    assert await asyncio.gather(*after) == [KEY, KEY]


async def test_one_who_leaves_does_not_end_the_read_of_the_others() -> None:
    store = Store()
    first, second = await _waiting(SharedReads(store, lambda: 0), 2)
    first.cancel()
    await asyncio.sleep(0)
    store.reads[0].set_result(KEY)
    assert await second == KEY
    assert first.cancelled()


async def test_a_failed_read_fails_for_all_who_wait_and_is_not_kept() -> None:
    store = Store()
    reads = SharedReads(store, lambda: 0)
    tasks = await _waiting(reads, 2)
    store.reads[0].set_exception(Fault(Kind.UNAVAILABLE, "away"))
    for task in tasks:
        with pytest.raises(Fault):
            await task
    (again,) = await _waiting(reads, 1)
    store.reads[1].set_result(KEY)
    assert await again == KEY
