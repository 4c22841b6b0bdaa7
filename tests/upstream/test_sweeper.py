"""Deadlines by one tick: never early, late by at most a tick, and nothing runs while nothing is watched."""

from __future__ import annotations

import asyncio

from ostiary.gateway.deadlines import Sweeper


class Item:
    """Remembers when it expired; `then` runs at that moment."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired: list[float] = []
        self.done = asyncio.Event()
        self.then = lambda: None

    def expire(self) -> None:
        self.expired.append(asyncio.get_running_loop().time())
        self.deadline = 0.0
        self.done.set()
        self.then()


async def test_an_object_expires_after_its_deadline_and_within_a_tick_of_it() -> None:
    loop = asyncio.get_running_loop()
    sweeper = Sweeper(loop, tick=0.02)
    due = loop.time() + 0.05
    item = Item(due)
    sweeper.register(item)
    await asyncio.wait_for(item.done.wait(), 1)
    assert due <= item.expired[0] < due + 0.02 + 0.2  # 0.2 for a busy machine
    await asyncio.sleep(0.06)
    assert len(item.expired) == 1


async def test_a_deadline_may_move_and_zero_means_none() -> None:
    loop = asyncio.get_running_loop()
    sweeper = Sweeper(loop, tick=0.01)
    moved, cleared, never = Item(loop.time() + 0.02), Item(loop.time() + 0.02), Item(0.0)
    for item in (moved, cleared, never):
        sweeper.register(item)
    due = moved.deadline = loop.time() + 0.1
    cleared.deadline = 0.0
    await asyncio.wait_for(moved.done.wait(), 1)
    assert moved.expired[0] >= due
    assert not cleared.expired
    assert not never.expired


async def test_an_expiry_may_unregister_or_clear_another_of_the_same_tick() -> None:
    loop = asyncio.get_running_loop()
    sweeper = Sweeper(loop, tick=0.01)
    one, other = Item(loop.time() + 0.01), Item(loop.time() + 0.01)

    def leave() -> None:
        sweeper.unregister(one)
        sweeper.unregister(other)

    one.then = other.then = leave
    sweeper.register(one)
    sweeper.register(other)
    await asyncio.sleep(0.08)
    assert len(one.expired) + len(other.expired) == 1


async def test_nothing_ticks_while_nothing_is_watched() -> None:
    ticks = 0
    loop = asyncio.get_running_loop()

    class Counting(Sweeper):
        def _sweep(self) -> None:
            nonlocal ticks
            ticks += 1
            super()._sweep()

    sweeper = Counting(loop, tick=0.005)
    await asyncio.sleep(0.03)
    assert ticks == 0
    item = Item(0.0)
    sweeper.register(item)
    await asyncio.sleep(0.03)
    sweeper.unregister(item)
    sweeper.unregister(item)
    await asyncio.sleep(0.02)
    seen = ticks
    assert seen > 1
    await asyncio.sleep(0.03)
    assert ticks == seen
    late = Item(loop.time())
    sweeper.register(late)
    await asyncio.wait_for(late.done.wait(), 1)
