"""The ledger at rest: each record once, sums that equal the rows, and nothing that can hold it up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.bulk import CHUNK, Bulk
from ostiary.store.instance import Store, open_store
from ostiary.store.keys import KeyRepository
from ostiary.store.reports import LabelFilter, LogFilter, UsageFilter, UsageReports, folded
from ostiary.store.rows import KeyRow
from ostiary.store.tables import usage_daily
from ostiary.store.usage import UsageRepository
from ostiary.vault.master import MasterKey

DAY = 86_400_000
START = 20_700 * DAY
MASTER = MasterKey(bytes(range(32)), "test")


class FixedClock:
    """Always the same time."""

    def now(self) -> float:
        return START / 1000

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path}/ostiary.db", MASTER, FixedClock())
    yield opened
    await opened.close()


def record(number: int, **fields: object) -> Record:
    given: dict[str, object] = {
        "id": f"{number:036}", "started": START + number, "ended": START + number + 1, "endpoint": "chat.completions",
        "key_id": "k1", "model": "gpt-4o", "provider": "openai", "outcome": Outcome.COMPLETED,
        "price": PriceState.LISTED, "cost": 10, "usage": Usage(input=3, output=2),
    } | fields  # fmt: skip
    return Record(**given)  # type: ignore[arg-type]


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with sqlite3.connect(path) as raw:
        found = {
            name: raw.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall()
            for name in ("usage", "usage_daily", "usage_totals", "usage_labels")
        }
        found["key_spend"] = raw.execute("SELECT * FROM key_spend ORDER BY 1, 2").fetchall()
    raw.close()
    return found


async def test_a_record_comes_back_as_it_was_saved(store: Store) -> None:
    whole = Record(
        id="r1", started=START, endpoint="audio.speech", key_id="k1", team_id="t", user_id="u", organization_id="o",
        end_user="e", model="m", deployment="d", provider="p", upstream_model="um", stream=True,
        outcome=Outcome.CLIENT_GONE, status=200, fault="", attempts=2, fallbacks=1, first_byte=START + 1,
        ended=START + 2, usage=Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), measured=True, cost=11,
        price=PriceState.DECLARED, tags=("a", "b"), upstream_ms=12,
    )  # fmt: skip
    await UsageRepository(store.database).save([whole])
    assert await UsageReports(store.database).records(LogFilter(), limit=10) == [whole]


async def test_the_same_records_given_again_change_nothing(store: Store, tmp_path: Path) -> None:
    usage = UsageRepository(store.database)
    records = [record(number, tags=("x",), end_user="e") for number in range(CHUNK + 50)]
    await usage.save(records)
    once = tables(tmp_path / "ostiary.db")
    await usage.save(records)
    await usage.save(records[5:20])
    await usage.save([records[0]] * 3)
    assert tables(tmp_path / "ostiary.db") == once


async def test_a_batch_half_known_adds_only_what_is_new(store: Store) -> None:
    usage, reports = UsageRepository(store.database), UsageReports(store.database)
    await usage.save([record(number) for number in range(10)])
    await usage.save([record(number) for number in range(5, 15)] + [record(14)])
    (total,) = await reports.sums((), UsageFilter())
    assert (total.requests, total.cost) == (15, 150)


async def test_what_somebody_else_saved_meanwhile_can_be_given_again(store: Store) -> None:
    """Two processes on one database, the second of which learns of a record only when it stores it."""
    usage, reports = UsageRepository(store.database), UsageReports(store.database)
    await usage.save([record(1)])

    async def blind(_connection: object, records: Sequence[Record]) -> Sequence[Record]:
        return records

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ostiary.store.usage._unknown", blind)
        with pytest.raises(Fault) as failed:
            await usage.save([record(1), record(2)])
    assert failed.value.kind is Kind.UNAVAILABLE
    await usage.save([record(1), record(2)])
    (total,) = await reports.sums((), UsageFilter())
    assert total.requests == 2


async def test_ids_that_differ_only_in_what_no_engine_takes_are_one_record(store: Store) -> None:
    usage = UsageRepository(store.database)
    await usage.save([record(1, id="\0" + "x" * 63), record(2, id="\0" + "x" * 70)])
    await usage.save([record(3, id="\0" + "x" * 64)])
    assert [row.id for row in await UsageReports(store.database).records(LogFilter(), limit=9)] == ["\ufffd" + "x" * 63]


def test_statements_are_compiled_for_either_engine() -> None:
    """In the order of the columns, which is the order of the rows; PostgreSQL keeps its booleans."""
    from sqlalchemy.dialects import postgresql, sqlite

    for dialect, flag in ((sqlite.dialect(paramstyle="qmark"), int), (postgresql.asyncpg.dialect(), bool)):
        assert Bulk(usage_daily, dialect, adding=True).flag is flag


async def test_sums_fold_into_fewer_dimensions(store: Store) -> None:
    await UsageRepository(store.database).save(
        [record(number, model=f"m{number % 3}", key_id=f"k{number % 2}") for number in range(12)]
    )
    reports = UsageReports(store.database)
    both = await reports.sums(("model", "key_id"), UsageFilter())
    assert folded(both, 0) == await reports.sums(("model",), UsageFilter())
    assert sorted(folded(both, 1), key=lambda found: found.place) == await reports.sums(("key_id",), UsageFilter())
    assert folded(both) == await reports.sums((), UsageFilter())


async def test_an_empty_batch_is_nothing(store: Store) -> None:
    await UsageRepository(store.database).save([])


async def test_a_database_that_fails_half_way_keeps_nothing_and_takes_it_all_later(
    store: Store, tmp_path: Path
) -> None:
    """The rollup is missing when the rows are already in: a failure in the middle of the transaction."""
    usage, records = UsageRepository(store.database), [record(number) for number in range(CHUNK * 2)]
    with sqlite3.connect(tmp_path / "ostiary.db") as raw:
        raw.execute("ALTER TABLE key_spend RENAME TO away")
    keys = KeyRepository(store.database, FixedClock())
    with sqlite3.connect(tmp_path / "ostiary.db") as raw:
        raw.execute("ALTER TABLE away RENAME TO key_spend")
    await keys.add(KeyRow(id="k1", digest=b"k" * 32, hint="", budget_from=0))
    for lost in ("usage_daily", "key_spend", "usage"):
        with sqlite3.connect(tmp_path / "ostiary.db") as raw:
            raw.execute(f"ALTER TABLE {lost} RENAME TO away")
        with pytest.raises(Fault) as failed:
            await usage.save(records)
        assert failed.value.kind is Kind.UNAVAILABLE
        with sqlite3.connect(tmp_path / "ostiary.db") as raw:
            raw.execute(f"ALTER TABLE away RENAME TO {lost}")
    raw.close()
    assert not any(tables(tmp_path / "ostiary.db").values())
    await usage.save(records)
    found = tables(tmp_path / "ostiary.db")
    assert len(found["usage"]) == CHUNK * 2
    assert found["key_spend"] == [("k1", 0, CHUNK * 20)]


async def test_many_savers_at_once_lose_and_double_nothing(store: Store, tmp_path: Path) -> None:
    usage, reports = UsageRepository(store.database), UsageReports(store.database)
    records = [record(number) for number in range(400)]
    batches = [records[start : start + 80] for start in range(0, 400, 40)]  # neighbours overlap by half
    await asyncio.gather(*(usage.save(batch) for batch in batches))
    (total,) = await reports.sums((), UsageFilter())
    assert (total.requests, total.cost) == (400, 4000)


@pytest.mark.parametrize(
    "hostile",
    [
        {"end_user": "\ud800 lone"}, {"end_user": "nul\0nul"}, {"end_user": "x" * 10_000}, {"cost": 2**70},
        {"model": "\U0001f600" * 300}, {"cost": -5}, {"usage": Usage(input=2**80, output=-1)}, {"started": -1},
        {"upstream_ms": 2**64},
        {"endpoint": "\udfff"}, {"ended": 2**63}, {"first_byte": -(2**63)},
        {"tags": ("\0", "\ud800", "t" * 5000)}, {"model": "'; DROP TABLE usage; --"}, {"status": -1},
    ],
)  # fmt: skip
async def test_no_record_can_hold_up_those_behind_it(store: Store, hostile: dict[str, object]) -> None:
    await UsageRepository(store.database).save([record(1, **hostile), record(2)])
    assert len(await UsageReports(store.database).records(LogFilter(), limit=10)) == 2


async def test_sums_of_lies_still_fit(store: Store) -> None:
    await UsageRepository(store.database).save([record(number, cost=2**63) for number in range(1000)])
    (total,) = await UsageReports(store.database).sums((), UsageFilter())
    assert total.cost == 10**15 * 1000


names = st.sampled_from(["", "a", "b", "\u00e9"])
counts = st.integers(0, 10**6)
records_of_any_kind = st.lists(
    st.builds(
        Record,
        id=st.integers(0, 30).map(str),
        started=st.integers(START, START + 3 * DAY),
        endpoint=st.sampled_from(["chat.completions", "embeddings"]),
        key_id=names, user_id=names, team_id=names, end_user=names, model=names, provider=names,
        outcome=st.sampled_from(Outcome),
        price=st.sampled_from(PriceState),
        cost=counts,
        tags=st.lists(names, max_size=3).map(tuple),
        usage=st.builds(Usage, input=counts, output=counts, cache_read=counts, reasoning=counts),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(records_of_any_kind, max_size=4))
async def test_rollups_equal_the_sum_of_rows(store: Store, batches: Sequence[list[Record]]) -> None:
    async with store.database.write() as connection:
        for table in ("usage", "usage_daily", "usage_totals", "usage_labels"):
            await connection.exec_driver_sql(f"DELETE FROM {table}")
    usage, reports = UsageRepository(store.database), UsageReports(store.database)
    for batch in batches:
        await usage.save(batch)
    rows = await reports.records(LogFilter(), limit=1000)
    assert {row.id for row in rows} == {row.id for batch in batches for row in batch}
    (total,) = await reports.sums((), UsageFilter())
    assert (total.requests, total.ok + total.failed) == (len(rows), len(rows))
    assert total.cost == sum(row.cost for row in rows)
    assert total.input == sum(row.usage.input for row in rows)
    assert total.unpriced == sum(row.price is PriceState.UNKNOWN for row in rows)
    for name in ("key_id", "user_id", "team_id", "model", "provider", "endpoint"):
        sums = {found.place[0]: found.cost for found in await reports.sums((name,), UsageFilter())}  # type: ignore[arg-type]
        expected: dict[str, int] = {}
        for row in rows:
            expected[getattr(row, name)] = expected.get(getattr(row, name), 0) + row.cost
        assert sums == expected
    labels = await reports.label_sums(("label",), LabelFilter(kind="tag", first_day=0, last_day=30_000))
    tags = {found.place[0]: found.cost for found in labels}
    assert tags == {tag: sum(row.cost for row in rows if tag in row.tags) for row in rows for tag in row.tags if tag}


async def test_pages_of_records_by_cursor_meet_every_record_once(store: Store) -> None:
    reports = UsageReports(store.database)
    records = [record(number, started=START + number // 3) for number in range(50)]
    await UsageRepository(store.database).save(records)
    seen: list[str] = []
    before = None
    while page := await reports.records(LogFilter(), limit=7, before=before):
        seen += [row.id for row in page]
        before = (page[-1].started, page[-1].id)
    assert seen == [row.id for row in reversed(records)]


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (LogFilter(), "ix_usage_started"),
        (LogFilter(since=START, until=START + 9), "ix_usage_started"),
        (LogFilter(key_id="k1"), "ix_usage_key_id"),
        (LogFilter(key_id="k1", since=START), "ix_usage_key_id"),
        (LogFilter(user_id="u1"), "ix_usage_user_id"),
        (LogFilter(user_id=""), "ix_usage_started"),
    ],
)
async def test_a_page_of_records_is_read_from_an_index_in_order(store: Store, where: LogFilter, index: str) -> None:
    """However many rows there are: no scan of the table, and no sort."""
    from sqlalchemy import select
    from sqlalchemy.dialects import sqlite

    from ostiary.store.reports import _log_condition
    from ostiary.store.tables import usage

    query = select(usage).where(_log_condition(where)).order_by(usage.c.started.desc(), usage.c.id.desc()).limit(50)
    text = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    async with store.database.read() as connection:
        plan = " ".join(str(step[3]) for step in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    assert index in plan
    assert "TEMP B-TREE" not in plan


async def test_the_ledger_survives_closing_and_opening(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/again.db"
    for round_ in range(3):
        store = await open_store(url, MASTER, FixedClock())
        await UsageRepository(store.database).save([record(round_)])
        (total,) = await UsageReports(store.database).sums((), UsageFilter())
        assert total.requests == round_ + 1
        await store.close()
