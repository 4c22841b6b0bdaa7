"""Between an answer and the store: at hand at once, bounded, deleted for good, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from kit import LoopClock, run
from kit_responses import Shelf, away

from ostiary.core.fault import Fault
from ostiary.core.kept import KeptResponse
from ostiary.gateway import remembered as module
from ostiary.gateway.remembered import Remembered

PLACE = ("org-a", "key:k1")


def one(number: int = 1, body: bytes = b"{}", seconds: float = 3600.0) -> KeptResponse:
    now = LoopClock().now()
    return KeptResponse(
        org_id="org-a", owner="key:k1", id=f"resp_{number}", created=now, expires=now + seconds, body=body
    )


class SlowShelf(Shelf):
    """A store that takes its time, and tells what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    async def put(self, responses: Sequence[KeptResponse]) -> None:
        self.batches.append(len(responses))
        await asyncio.sleep(1.0)
        await super().put(responses)


def test_what_is_kept_is_written_by_the_task_in_batches() -> None:
    async def work() -> None:
        shelf = SlowShelf()
        remembered = Remembered(shelf, LoopClock())
        writer = asyncio.create_task(remembered.run())
        for number in range(45):
            assert remembered.keep(one(number))
        assert (await remembered.get(*PLACE, "resp_44")) is not None, "before anything is written"
        await asyncio.sleep(10)
        assert len(shelf.rows) == 45
        assert max(shelf.batches) == module.BATCH
        assert len(remembered) == 0
        writer.cancel()

    run(work())


def test_what_is_deleted_while_it_is_being_written_is_gone() -> None:
    async def work() -> None:
        shelf = SlowShelf()
        remembered = Remembered(shelf, LoopClock())
        writer = asyncio.create_task(remembered.run())
        remembered.keep(one())
        await asyncio.sleep(0.5)
        assert shelf.batches == [1]
        assert not shelf.rows
        assert await remembered.delete(*PLACE, "resp_1")
        assert await remembered.get(*PLACE, "resp_1") is None
        await asyncio.sleep(5)
        assert not shelf.rows
        writer.cancel()

    run(work())


def test_what_is_deleted_before_it_is_written_never_is() -> None:
    async def work() -> None:
        shelf = Shelf()
        remembered = Remembered(shelf, LoopClock())
        remembered.keep(one())
        assert await remembered.delete(*PLACE, "resp_1")
        assert not await remembered.delete(*PLACE, "resp_1")
        await remembered.flush()
        assert not shelf.rows

    run(work())


def test_memory_is_bounded_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 1000)

    async def work() -> None:
        shelf, told = Shelf(), list[Fault]()
        remembered = Remembered(shelf, LoopClock(), failed=told.append)
        writer = asyncio.create_task(remembered.run())
        shelf.failure = away()
        assert [remembered.keep(one(number, b"x" * 400)) for number in range(3)] == [True, True, False]
        await asyncio.sleep(100)
        assert 3 < len(told) < 15, "asked again, ever more seldom"
        shelf.failure = None
        await asyncio.sleep(60)
        assert sorted(name for _, _, name in shelf.rows) == ["resp_0", "resp_1"]
        assert remembered.keep(one(4, b"x" * 900)), "there is room again"
        writer.cancel()

    run(work())


def test_what_expires_before_it_is_written_is_not_there() -> None:
    async def work() -> None:
        remembered = Remembered(Shelf(), LoopClock())
        remembered.keep(one(seconds=5.0))
        await asyncio.sleep(6)
        assert await remembered.get(*PLACE, "resp_1") is None

    run(work())


@pytest.mark.parametrize("verb", ["get", "delete", "flush"])
def test_a_store_that_is_away_is_said_to_be(verb: str) -> None:
    async def work() -> None:
        shelf = Shelf()
        shelf.failure = away()
        remembered = Remembered(shelf, LoopClock())
        remembered.keep(one())
        work: dict[str, Coroutine[Any, Any, Any]] = {
            "get": remembered.get(*PLACE, "resp_2"),
            "delete": remembered.delete(*PLACE, "resp_1"),
            "flush": remembered.flush(),
        }
        for name, unused in work.items():
            if name != verb:
                unused.close()
        with pytest.raises(Fault):
            await work[verb]

    run(work())
