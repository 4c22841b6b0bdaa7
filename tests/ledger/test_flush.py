"""Every settled record reaches the store: in order, whatever the store does, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import SEAL, StillClock, Store, key, record, running_ledger, spend

from ostiary.core.fault import Fault, Kind
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.gateway.ledger import flush
from ostiary.gateway.ledger.account import Estimate
from ostiary.gateway.ledger.flush import Flusher
from ostiary.gateway.ledger.journal import Journal, recover
from ostiary.gateway.ledger.ledger import Ledger


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush, "FIRST_PAUSE", 0.001)


async def test_batches_arrive_in_order_and_the_task_sleeps_when_there_is_nothing(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        store, account = Store(), ledger.account(key())
        flusher = Flusher(ledger.backlog, store, 0.001, saved=ledger.rest)
        task = asyncio.create_task(flusher.run())
        count = 2 * flush.BATCH + 200
        for number in range(count):
            spend(ledger, account, str(number))
        await store.saved.wait()
        await flusher.flush()
        assert store.order == [str(number) for number in range(count)]
        assert store.calls == 3
        assert ledger.spend_of("k1") is None
        store.saved.clear()
        spend(ledger, account, "one more")
        await store.saved.wait()
        assert store.calls == 4
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert recover(tmp_path / "j", 0, SEAL) == []


async def test_a_store_that_fails_is_tried_until_it_does_not(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        failures: list[Exception] = []
        store = Store(OSError("down"), Fault(Kind.UNAVAILABLE, "still down"), ValueError("odd"))
        flusher = Flusher(ledger.backlog, store, 0.0, failed=failures.append)
        for number in range(600):
            spend(ledger, ledger.account(key()), str(number))
        await flusher.flush()
        assert [type(error) for error in failures] == [OSError, Fault, ValueError]
        assert len(store.rows) == 600


async def test_a_flush_cancelled_within_save_repeats_rather_than_loses(tmp_path: Path) -> None:
    class Slow(Store):
        async def save(self, records: Sequence[Record]) -> None:
            await super().save(records)
            await asyncio.sleep(0 if self.calls > 1 else 3600)

    with running_ledger(tmp_path / "j") as ledger:
        store = Slow()
        flusher = Flusher(ledger.backlog, store, 0.0)
        spend(ledger, ledger.account(key()), "a")
        task = asyncio.create_task(flusher.run())
        await store.saved.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not ledger.backlog.empty
        await flusher.flush()
        assert (store.order, store.calls, ledger.backlog.empty) == (["a"], 2, True)


async def test_while_the_store_is_away_memory_is_bounded_and_the_journal_remembers(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, 0, SEAL, segment_bytes=8192)) as journal:
        ledger = Ledger(journal, StillClock(), lambda _: None, most=50)
        account, store = ledger.account(key()), Store()
        for number in range(2000):
            spend(ledger, account, str(number))
            assert len(ledger.backlog) <= 50
        with ledger.open(record("long"), account) as entry:
            entry.reserve(Estimate(0, 1, 0, 1), PriceState.LISTED)
            await Flusher(ledger.backlog, store, 0.0).flush()
            assert store.order == [str(number) for number in range(2000)]
            assert ledger.backlog.empty
            assert len(list(tmp_path.glob("*.journal"))) <= 3
        spend(ledger, account, "after")
        assert len(ledger.backlog) == 2  # at hand again


async def test_what_an_earlier_process_left_goes_first(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        spend(ledger, ledger.account(key()), "settled")
        ledger.backlog.journal.append(record("killed", cost=9))
    with running_ledger(tmp_path) as ledger:
        spend(ledger, ledger.account(key()), "new")
        store = Store()
        await Flusher(ledger.backlog, store, 0.0).flush()
        assert store.order == ["settled", "killed", "new"]
        assert store.rows["killed"].fault == "process_killed"
        assert (store.rows["killed"].cost, ledger.backlog.journal.closed_by_recovery) == (9, 1)
    assert recover(tmp_path, 0, SEAL) == []


async def test_a_refusal_that_a_full_disk_keeps_out_of_the_journal_reaches_the_store_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Journal(tmp_path, 0, SEAL, segment_bytes=8192)) as journal:
        ledger = Ledger(journal, StillClock(), lambda _: None, most=5)

        def full(record: Record) -> None:
            raise Fault(Kind.UNAVAILABLE, "full")

        store = Store(OSError("down"))
        flusher = Flusher(ledger.backlog, store, 0.0)
        for number in range(7):
            spend(ledger, ledger.account(key()), str(number))
        first = ledger.backlog.batch(5)
        ledger.backlog.saved(first)
        assert [row.id for row in ledger.backlog.batch()] == ["5", "6"]  # from the journal, not saved yet
        monkeypatch.setattr(journal, "append", full)
        for number in range(7, 14):
            refuse(ledger, str(number))
        await flusher.flush()
        assert {*store.order, *(row.id for row in first)} == {str(number) for number in range(12)}
        assert ledger.backlog.lost == 2


def refuse(ledger: Ledger, id_: str) -> None:
    with pytest.raises(Fault), ledger.open(record(id_)) as entry:
        entry.reserve(Estimate(), PriceState.LISTED)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["spend", "spend", "spend", "save", "fail", "partly", "restart"]), max_size=80),
    st.integers(1, 6),
)
def test_at_least_once_for_any_interleaving_of_settling_saving_failing_and_restarting(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], most: int
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    saved: dict[str, int] = {}
    settled: list[str] = []
    journal = Journal(directory, 0, SEAL, segment_bytes=1)
    ledger = Ledger(journal, StillClock(), lambda row: settled.append(row.id), most=most)
    for number, step in enumerate(steps):
        if step == "spend":
            spend(ledger, ledger.account(key()), str(number))
        elif step == "restart":
            journal.close()
            journal = Journal(directory, 0, SEAL, segment_bytes=1)
            ledger = Ledger(journal, StillClock(), lambda row: settled.append(row.id), most=most)
        elif step == "fail":
            ledger.backlog.batch(3)
        else:
            while batch := ledger.backlog.batch(3):
                for row in batch:
                    saved[row.id] = saved.get(row.id, 0) + 1
                ledger.backlog.saved(batch)
                if step == "partly":
                    break
    while batch := ledger.backlog.batch(3):
        for row in batch:
            saved[row.id] = saved.get(row.id, 0) + 1
        ledger.backlog.saved(batch)
    assert set(saved) == set(settled)
    assert "restart" in steps or set(saved.values()) <= {1}
    assert ledger.backlog.empty
    journal.close()
    assert recover(directory, 0, SEAL) == []


def test_a_record_settled_before_it_was_ever_opened_is_saved_too(tmp_path: Path) -> None:
    with running_ledger(tmp_path) as ledger:
        with ledger.open(record("a")) as entry:
            entry.settle(None, measured=False, outcome=Outcome.FAILED, status=404, cost=0, fault="unknown_model")
        assert [row.status for row in ledger.backlog.batch()] == [404]
