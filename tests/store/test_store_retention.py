"""Retention: what is too old goes, in short steps, and nothing else; sums stay, labels go with their last record."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, update
from usage_kit import DAY, OTHER, START, Ledger, opened_ledger, record, request_id

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.store import retention
from ostiary.store.database import Database
from ostiary.store.reports import LabelFilter, LogFilter, UsageFilter
from ostiary.store.retention import Purged, Retention, Rules
from ostiary.store.schema.ledger import end_users, names, tags, usage, usage_daily, usage_labels, usage_totals
from ostiary.vault.keyring import Keyring

MONTH = 31 * DAY


@pytest.fixture
async def ledger(database: Database, keyring: Keyring, clock: Clock) -> Ledger:
    return await opened_ledger(database, keyring, clock)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAUSE", 0.0)


def purger(ledger: Ledger, rules: Rules | None = None) -> Retention:
    return Retention(ledger.database, ledger.names, ledger.clock, lambda: rules or Rules())


async def ensure_months(ledger: Ledger, first: int, last: int) -> None:
    if ledger.database.dialect.name == "postgresql":
        async with ledger.database.write() as connection:
            await connection.exec_driver_sql(f"SELECT ostiary_ensure_partition({first}, {last})")


async def test_records_before_the_time_go_and_all_others_stay(ledger: Ledger) -> None:
    await ledger.usage.save([record(number, organization_id=("", OTHER)[number % 2]) for number in range(1000)])
    sums = [await ledger.rows(table) for table in (usage_daily, usage_totals, usage_labels)]
    purged = await purger(ledger).purge(START + 700)
    assert (purged.rows, purged.partitions, purged.labels) == (700, 0, 0)
    rows = await ledger.rows(usage)
    assert len(rows) == 300
    assert min(row[1] for row in rows) == START + 700
    assert [await ledger.rows(table) for table in (usage_daily, usage_totals, usage_labels)] == sums


async def test_nothing_is_left_to_do_after_a_purge(ledger: Ledger) -> None:
    await ledger.usage.save([record(number) for number in range(250)])
    assert (await purger(ledger).purge(START + 250)).rows == 250
    again = await purger(ledger).purge(START + 250)
    assert (again.partitions, again.rows, again.labels) == (0, 0, 0)


async def test_many_records_of_one_moment_are_no_obstacle(ledger: Ledger) -> None:
    await ledger.usage.save([record(number, id=request_id(START, number), started=START) for number in range(650)])
    assert (await purger(ledger).purge(START)).rows == 0
    assert (await purger(ledger).purge(START + 1)).rows == 650


async def test_whole_months_are_dropped_where_the_database_keeps_them_apart(ledger: Ledger) -> None:
    await ensure_months(ledger, START - 3 * MONTH, START)
    await ledger.usage.save([record(number, started=START - number * MONTH) for number in range(4)])
    purged = await purger(ledger).purge(START - MONTH + 1)
    assert len(await ledger.rows(usage)) == 1
    if ledger.database.dialect.name == "postgresql":
        assert purged.partitions >= 2
    else:
        assert (purged.partitions, purged.rows) == (0, 3)


async def test_prv_labels_go_with_their_last_record_and_their_sums_stay(ledger: Ledger) -> None:
    await ledger.usage.save(
        [record(number, end_user=f"old {number % 3}", tags=("old",)) for number in range(30)]
        + [record(1, id=request_id(1), started=START + 5 * DAY, end_user="old 1", tags=("new",))]
    )
    ledger.clock.at += MONTH  # type: ignore[attr-defined]
    before = START + 2 * DAY
    async with ledger.database.write() as connection:  # as old as their records
        for table in (end_users, tags):
            await connection.execute(update(table).values(created_at=START))
    purged = await purger(ledger).purge(before)
    assert (purged.rows, purged.labels) == (30, 3)
    users = await ledger.names.newest("end_user", 10)
    assert users == ["old 1"]
    assert await ledger.names.newest("tag", 10) == ["new"]
    assert len(await ledger.rows(names)) == 1
    fresh = ledger.another_process()
    found = await fresh.reports.label_sums(("label",), LabelFilter(kind="end_user", first_day=0, last_day=30_000))
    assert sum(one.requests for one in found) == 31
    assert [one.requests for one in found if one.place == ("old 1",)] == [11]
    again = record(2, id=request_id(2), started=START + 6 * DAY, end_user="old 2", tags=("old",))
    await ledger.usage.save([again])
    (shown, _) = await ledger.another_process().reports.records(LogFilter(), limit=9)
    assert (shown.end_user, shown.tags) == ("old 2", ("old",))


async def test_a_label_for_which_something_is_set_stays(ledger: Ledger) -> None:
    await ledger.usage.save([record(1, end_user="limited")])
    async with ledger.database.write() as connection:
        await connection.execute(update(end_users).values(created_at=START, blocked=True, revision=2))
    assert (await purger(ledger).purge(START + 9 * DAY)).labels == 0
    assert len(await ledger.rows(end_users)) == 1


async def test_a_label_that_is_used_while_it_is_looked_at_stays(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found unused, then used by a request before it is locked."""
    await ledger.usage.save([record(1, tags=("t",))])
    async with ledger.database.write() as connection:
        await connection.execute(update(tags).values(created_at=START))
    late = record(2, started=START + 8 * DAY, id=request_id(START + 8 * DAY), tags=("t",))
    first, original = asyncio.Event(), retention._unused

    async def overtaken(*arguments: object) -> object:
        found = await original(*arguments)  # type: ignore[arg-type]
        if not first.is_set():
            first.set()
            await ledger.another_process().usage.save([late])
        return found

    monkeypatch.setattr(retention, "_unused", overtaken)
    purged = await purger(ledger).purge(START + 5 * DAY)
    assert (purged.rows, purged.labels) == (1, 0)
    assert first.is_set()
    assert [row.tags for row in await ledger.another_process().reports.records(LogFilter(), limit=9)] == [("t",)]


async def test_the_ledger_goes_on_while_it_is_purged(ledger: Ledger) -> None:
    """Both write, nobody loses: steps are short and take turns."""
    old = [record(number, tags=("old",), end_user=f"e{number % 50}") for number in range(3000)]
    await ledger.usage.save(old)
    new = [
        record(number, id=request_id(START + 9 * DAY + number), started=START + 9 * DAY + number, tags=("old", "new"))
        for number in range(600)
    ]
    async with ledger.database.write() as connection:
        for table in (end_users, tags):
            await connection.execute(update(table).values(created_at=START))

    async def serve() -> None:
        process = ledger.another_process()
        for start in range(0, len(new), 20):
            await process.usage.save(new[start : start + 20])

    purged, _ = await asyncio.gather(purger(ledger).purge(START + 5 * DAY), serve())
    assert purged.rows == 3000
    (total,) = await ledger.reports.sums((), UsageFilter())
    assert total.requests == 3600
    rows = await ledger.another_process().reports.records(LogFilter(), limit=1000)
    assert len(rows) == 600
    assert {row.tags for row in rows} == {("old", "new")}


async def test_a_purge_that_was_cut_off_goes_on_at_the_next_turn(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.usage.save([record(number) for number in range(900)])
    steps, original = 0, retention._delete_some

    async def cut(*arguments: object, **options: object) -> int:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise asyncio.CancelledError
        return await original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(retention, "_delete_some", cut)
    with pytest.raises(asyncio.CancelledError):
        await purger(ledger).purge(START + 900)
    left = len(await ledger.rows(usage))
    assert 0 < left < 900
    assert (await purger(ledger).purge(START + 900)).rows == left


async def test_steps_grow_while_they_are_short_and_shrink_when_they_are_long(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.usage.save([record(number) for number in range(2000)])
    sizes: list[int] = []
    original = retention._delete_some

    async def seen(connection: object, *, before: int, size: int) -> int:
        sizes.append(size)
        return await original(connection, before=before, size=size)  # type: ignore[arg-type]

    monkeypatch.setattr(retention, "_delete_some", seen)
    monkeypatch.setattr(retention, "SHORT", 10.0)
    monkeypatch.setattr(retention, "LONG", 10.0)
    task = purger(ledger)
    await task.purge(START + 1000)
    assert sizes[0] == retention.FEWEST
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]
    sizes.clear()
    monkeypatch.setattr(retention, "LONG", 0.0)
    await task.purge(START + 2000)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


async def test_the_task_purges_at_every_turn_by_the_rules_of_then_and_outlives_a_store_that_is_away(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.usage.save([record(number, started=START + number * DAY) for number in range(10)])
    ledger.clock.at = START + 10 * DAY  # type: ignore[attr-defined]
    turns: list[object] = []
    slept: list[float] = []
    rules = Rules(keep=None, every=7.0)
    task = Retention(
        ledger.database, ledger.names, ledger.clock, lambda: rules, done=turns.append, failed=turns.append
    )  # fmt: skip
    away = True

    async def purge(before: int) -> Purged:
        if away:
            raise Fault(Kind.UNAVAILABLE, "away")
        return await Retention.purge(task, before)

    async def sleep(seconds: float) -> None:
        nonlocal rules, away
        slept.append(seconds)
        if len(slept) == 1:
            rules = Rules(keep=5.0 * DAY / 1000, every=900.0)
        elif len(slept) == 2:
            away = False
        else:
            raise asyncio.CancelledError

    monkeypatch.setattr(task, "purge", purge)
    monkeypatch.setattr(task, "_sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await task.run()
    assert slept == [7.0, retention.AGAIN, 900.0]
    failed, purged = turns
    assert isinstance(failed, Fault)
    assert isinstance(purged, Purged)
    assert purged.rows == 5
    async with ledger.database.read() as connection:
        assert (await connection.execute(select(usage.c.started).order_by(usage.c.started))).scalars().first() == (
            START + 5 * DAY
        )
