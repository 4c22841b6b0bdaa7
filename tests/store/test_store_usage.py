"""The ledger at rest: each record once, sums that equal the rows, no text in a row, and nothing that can hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select
from usage_kit import DAY, DEFAULT, OTHER, START, Ledger, opened_ledger, record, request_id

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.bulk import CHUNK, Bulk
from ostiary.store.database import Database
from ostiary.store.reports import LabelFilter, LogFilter, UsageFilter, folded
from ostiary.store.schema.access import key_spend, virtual_keys
from ostiary.store.schema.ledger import end_users, names, tags, usage, usage_daily, usage_labels, usage_totals
from ostiary.vault.keyring import Keyring

ALL_DAYS = LabelFilter(kind="tag", first_day=0, last_day=30_000)


@pytest.fixture
async def ledger(database: Database, keyring: Keyring, clock: Clock) -> Ledger:
    return await opened_ledger(database, keyring, clock)


async def test_a_record_comes_back_as_it_was_saved(ledger: Ledger) -> None:
    team, user = await ledger.directory.team(OTHER, "t"), await ledger.directory.user(OTHER, "u")
    whole = Record(
        id=request_id(START), started=START, endpoint="audio.speech", key_id="k1", team_id=team, user_id=user,
        organization_id=OTHER, end_user="e", model="m", deployment="d", provider="p", upstream_model="um", stream=True,
        outcome=Outcome.CLIENT_GONE, status=200, fault="", attempts=2, fallbacks=1, first_byte=START + 1,
        ended=START + 2, usage=Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), measured=True, cost=11,
        price=PriceState.DECLARED, tags=("a", "b", "a"), upstream_ms=12,
    )  # fmt: skip
    await ledger.usage.save([whole])
    shown = msgspec.structs.replace(whole, team_id="t", user_id="u", organization_id="other")
    assert await ledger.another_process().reports.records(LogFilter(), limit=10) == [shown]


async def test_the_same_records_given_again_change_nothing(ledger: Ledger) -> None:
    records = [record(number, tags=("x",), end_user="e") for number in range(CHUNK + 50)]
    await ledger.usage.save(records)
    once = await ledger.everything()
    await ledger.usage.save(records)
    await ledger.another_process().usage.save(records[5:20])
    await ledger.usage.save([records[0]] * 3)
    assert await ledger.everything() == once


async def test_a_batch_half_known_adds_only_what_is_new(ledger: Ledger) -> None:
    await ledger.usage.save([record(number, tags=("x",)) for number in range(10)])
    await ledger.usage.save([record(number, tags=("x",)) for number in range(5, 15)] + [record(14, tags=("x",))])
    (total,) = await ledger.reports.sums((), UsageFilter())
    (tag,) = await ledger.reports.label_sums(("label",), ALL_DAYS)
    assert (total.requests, total.cost) == (tag.requests, tag.cost) == (15, 150)


async def test_one_batch_holds_records_of_several_organisations(ledger: Ledger) -> None:
    """The same texts in two organisations are two numbers, and no organisation is the default one."""
    await ledger.usage.save(
        [record(number, organization_id=("", OTHER)[number % 2], end_user="e", tags=("t",)) for number in range(10)]
    )
    for table, rows in ((names, 2), (end_users, 2), (tags, 2)):
        assert [row[0] for row in await ledger.rows(table)] == [DEFAULT, OTHER][:rows]
    assert {row[0] for row in await ledger.rows(usage)} == {DEFAULT, OTHER}
    sums = await ledger.reports.sums(("organization_id", "model"), UsageFilter())
    assert [(found.place, found.requests) for found in sums] == [(("", "gpt-4o"), 5), (("other", "gpt-4o"), 5)]
    (whole,) = await ledger.reports.sums(("model",), UsageFilter(model="gpt-4o"))
    assert (whole.place, whole.requests) == (("gpt-4o",), 10)
    for name, requests in (("other", 5), ("", 5), ("nobody", 0)):
        (total,) = await ledger.reports.sums((), UsageFilter(organization_id=name))
        assert total.requests == requests


async def test_records_of_an_organisation_whose_keys_are_gone_keep_their_measures_and_hold_up_nobody(
    ledger: Ledger,
) -> None:
    """CRY: nothing can be sealed for it, and nothing is kept in clear instead."""
    await ledger.usage.save([record(1, organization_id="shredded", end_user="e", tags=("t",)), record(2, end_user="e")])
    lost, kept = sorted(await ledger.reports.records(LogFilter(), limit=9), key=lambda row: row.model)
    assert (lost.model, lost.end_user, lost.tags, lost.organization_id) == ("", "", (), "shredded")
    assert (lost.cost, lost.usage, kept.model, kept.end_user) == (10, Usage(input=3, output=2), "gpt-4o", "e")
    (total,) = await ledger.reports.sums((), UsageFilter())
    assert total.requests == 2


async def test_cry_no_text_of_a_request_stands_in_a_row(ledger: Ledger) -> None:
    canary = "canary-zq81k"
    await ledger.usage.save(
        [
            record(1, end_user=canary, model=canary, deployment=canary, upstream_model=canary, tags=(canary,)),
            record(2, provider=f"{canary} of mine", fault=f"Fault {canary}", endpoint=canary.upper()),
        ]
    )
    for table in (usage, usage_daily, usage_totals, usage_labels, names, end_users, tags):
        rows = await ledger.rows(table)
        assert rows
        assert canary not in repr(rows).lower()
    free_text = (await ledger.reports.records(LogFilter(), limit=9))[0]
    assert (free_text.provider, free_text.fault, free_text.endpoint) == ("other", "other", "other")


async def test_ids_that_differ_only_in_what_no_engine_takes_are_one_record(ledger: Ledger) -> None:
    first, second = record(1, id="\0" + "x" * 63), record(1, id="\0" + "x" * 70)
    await ledger.usage.save([first, second])
    await ledger.usage.save([record(1, id="\0" + "x" * 64)])
    assert [row.id for row in await ledger.reports.records(LogFilter(), limit=9)] == ["\ufffd" + "x" * 63]


def test_statements_are_compiled_for_either_engine() -> None:
    """In the order of the columns, which is the order of the rows; PostgreSQL keeps its booleans."""
    from sqlalchemy.dialects import postgresql, sqlite

    for dialect, flag in ((sqlite.dialect(paramstyle="qmark"), int), (postgresql.asyncpg.dialect(), bool)):
        assert Bulk(usage_daily, dialect, adding=True).flag is flag


async def test_sums_fold_into_fewer_dimensions(ledger: Ledger) -> None:
    await ledger.usage.save([record(number, model=f"m{number % 3}", key_id=f"k{number % 2}") for number in range(12)])
    reports = ledger.reports
    both = await reports.sums(("model", "key_id"), UsageFilter())
    assert folded(both, 0) == await reports.sums(("model",), UsageFilter())
    assert sorted(folded(both, 1), key=lambda found: found.place) == await reports.sums(("key_id",), UsageFilter())
    assert folded(both) == await reports.sums((), UsageFilter())


async def test_an_empty_batch_is_nothing(ledger: Ledger) -> None:
    await ledger.usage.save([])
    assert not any((await ledger.everything()).values())


async def paying_key(ledger: Ledger, org_id: str = DEFAULT) -> None:
    row = {
        "org_id": org_id, "id": "k1", "digest": b"k" * 32, "details": b"", "blocked": False, "budget_from": START - DAY,
        "budget_seconds": 2 * DAY // 1000, "created_at": 0, "updated_at": 0, "revision": 1, "row_mac": b"",
    }  # fmt: skip
    async with ledger.database.write() as connection:
        await connection.execute(insert(virtual_keys), row)


async def test_what_a_key_spends_counts_in_the_window_in_which_requests_end(ledger: Ledger) -> None:
    await paying_key(ledger)
    times = (START - 2 * DAY, START - 1, START, START + DAY - 1, START + DAY, START + 4 * DAY)
    await ledger.usage.save([record(number, ended=ended) for number, ended in enumerate(times)])
    await ledger.usage.save([record(9, organization_id=OTHER), record(10, key_id="k2")])  # it has moved; there is none
    windows = {row[2]: (row[0], row[3]) for row in await ledger.rows(key_spend)}
    assert windows == {START - DAY: (DEFAULT, 40), START + DAY: (DEFAULT, 10), START + 3 * DAY: (DEFAULT, 10)}


async def test_a_database_that_fails_half_way_keeps_nothing_and_takes_it_all_later(ledger: Ledger) -> None:
    """The rollup is missing when the rows are already in: a failure in the middle of the transaction."""
    await paying_key(ledger)
    records = [record(number) for number in range(CHUNK * 2)]
    for lost in ("usage_daily", "key_spend", "usage"):
        async with ledger.database.own(alone=True) as owner:
            await owner.exec_driver_sql(f"ALTER TABLE {lost} RENAME TO away")
        with pytest.raises(Fault) as failed:
            await ledger.usage.save(records)
        assert failed.value.kind is Kind.UNAVAILABLE
        async with ledger.database.own(alone=True) as owner:
            await owner.exec_driver_sql(f"ALTER TABLE away RENAME TO {lost}")
    assert not any((await ledger.everything()).values())
    await ledger.usage.save(records)
    assert len(await ledger.rows(usage)) == CHUNK * 2
    assert sum(row[3] for row in await ledger.rows(key_spend)) == CHUNK * 20


async def test_many_savers_in_two_processes_lose_and_double_nothing(ledger: Ledger) -> None:
    """They learn of each other's records, and of each other's new texts, only when they store them."""
    records = [record(number, end_user=f"e{number % 9}", tags=(f"t{number % 7}",)) for number in range(400)]
    batches = [records[start : start + 80] for start in range(0, 400, 40)]  # neighbours overlap by half
    processes = [ledger, ledger.another_process()]
    await asyncio.gather(
        *(processes[number % 2].usage.save(batch) for number, batch in enumerate([*batches, *reversed(batches)]))
    )
    (total,) = await ledger.reports.sums((), UsageFilter())
    assert (total.requests, total.cost) == (400, 4000)
    users = await ledger.reports.label_sums(("label",), LabelFilter(kind="end_user", first_day=0, last_day=30_000))
    assert (len(users), sum(user.requests for user in users)) == (9, 400)


@pytest.mark.parametrize(
    "hostile",
    [
        {"end_user": "\ud800 lone"}, {"end_user": "nul\0nul"}, {"end_user": "x" * 10_000}, {"cost": 2**70},
        {"model": "\U0001f600" * 300}, {"cost": -5}, {"usage": Usage(input=2**80, output=-1)}, {"started": -1},
        {"upstream_ms": 2**64}, {"started": 2**62}, {"attempts": 2**40}, {"key_id": "\0" * 99},
        {"organization_id": "nobody's"}, {"organization_id": "\ud800"}, {"user_id": "u" * 999}, {"provider": "\0"},
        {"endpoint": "\udfff"}, {"ended": 2**63}, {"first_byte": -(2**63)},
        {"tags": ("\0", "\ud800", "t" * 5000, "")}, {"model": "'; DROP TABLE usage; --"}, {"status": -1},
    ],
)  # fmt: skip
async def test_no_record_can_hold_up_those_behind_it(ledger: Ledger, hostile: dict[str, object]) -> None:
    await ledger.usage.save([record(1, **hostile), record(2)])
    assert len(await ledger.reports.records(LogFilter(), limit=10)) == 2


async def test_a_text_is_kept_up_to_256_characters(ledger: Ledger) -> None:
    await ledger.usage.save([record(1, end_user="x" * 300, tags=("t" * 256, "\0"))])
    (row,) = await ledger.reports.records(LogFilter(), limit=10)
    assert (row.end_user, row.tags) == ("x" * 256, ("t" * 256, "\ufffd"))


async def test_sums_of_lies_still_fit(ledger: Ledger) -> None:
    await ledger.usage.save([record(number, cost=2**63) for number in range(1000)])
    (total,) = await ledger.reports.sums((), UsageFilter())
    assert total.cost == 10**15 * 1000


texts = st.sampled_from(["", "a", "b", "\u00e9"])
owners = st.sampled_from(["", "o1", "o2"])
counts = st.integers(0, 10**6)
records_of_any_kind = st.lists(
    st.builds(
        Record,
        id=st.integers(0, 30).map(str),
        started=st.integers(START, START + 3 * DAY).map(lambda at: at // (DAY // 9) * (DAY // 9)),
        endpoint=st.sampled_from(["chat.completions", "embeddings"]),
        organization_id=st.sampled_from(["", OTHER]),
        key_id=owners, user_id=owners, team_id=owners, end_user=texts, model=texts, provider=owners,
        outcome=st.sampled_from(Outcome),
        price=st.sampled_from(PriceState),
        cost=counts,
        tags=st.lists(texts, max_size=3).map(tuple),
        usage=st.builds(Usage, input=counts, output=counts, cache_read=counts, reasoning=counts),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(records_of_any_kind, max_size=4))
async def test_rollups_equal_the_sum_of_rows(ledger: Ledger, batches: Sequence[list[Record]]) -> None:
    async with ledger.database.write() as connection:
        for table in (usage, usage_daily, usage_totals, usage_labels):
            await connection.execute(delete(table))
    reports = ledger.reports
    for batch in batches:
        await ledger.usage.save(batch)
    rows = await reports.records(LogFilter(), limit=1000)
    known = {(row.organization_id and "other", row.started, row.id) for row in rows}
    assert known == {(row.organization_id and "other", row.started, row.id) for batch in batches for row in batch}
    assert len(known) == len(rows)
    (total,) = await reports.sums((), UsageFilter())
    assert (total.requests, total.ok + total.failed) == (len(rows), len(rows))
    assert total.cost == sum(row.cost for row in rows)
    assert total.input == sum(row.usage.input for row in rows)
    assert total.unpriced == sum(row.price is PriceState.UNKNOWN for row in rows)
    for name in ("key_id", "user_id", "team_id", "organization_id", "model", "provider", "endpoint"):
        sums = {found.place[0]: found.cost for found in await reports.sums((name,), UsageFilter())}  # type: ignore[arg-type]
        expected: dict[str, int] = {}
        for row in rows:
            expected[getattr(row, name)] = expected.get(getattr(row, name), 0) + row.cost
        assert sums == expected
    found = {tag.place[0]: tag.cost for tag in await reports.label_sums(("label",), ALL_DAYS)}
    assert found == {tag: sum(row.cost for row in rows if tag in row.tags) for row in rows for tag in row.tags if tag}


async def test_pages_of_records_by_cursor_meet_every_record_once(ledger: Ledger) -> None:
    records = [
        record(number, id=request_id(START + number // 3, number), started=START + number // 3) for number in range(50)
    ]
    await ledger.usage.save(records)
    seen: list[str] = []
    before = None
    while page := await ledger.reports.records(LogFilter(), limit=7, before=before):
        seen += [row.id for row in page]
        before = (page[-1].started, page[-1].id)
    assert seen == [row.id for row in reversed(records)]


async def test_filters_take_the_names_that_callers_know(ledger: Ledger) -> None:
    user, team = await ledger.directory.user(DEFAULT, "anna"), await ledger.directory.team(OTHER, "red")
    await ledger.usage.save(
        [
            record(1, user_id=user, tags=("x", "y")),
            record(2, team_id=team, organization_id=OTHER, model="m2", tags=("y",)),
            record(3, end_user="e"),
        ]
    )
    reports = ledger.another_process().reports

    async def requests(where: UsageFilter) -> int:
        return (await reports.sums((), where))[0].requests

    assert await requests(UsageFilter(user_id="anna")) == 1
    assert await requests(UsageFilter(user_id="")) == 2
    assert await requests(UsageFilter(user_id="nobody")) == 0
    assert await requests(UsageFilter(team_ids=("red", "blue"))) == 1
    assert await requests(UsageFilter(team_ids=())) == 1
    assert await requests(UsageFilter(team_ids=("blue",))) == 0
    assert await requests(UsageFilter(model="m2")) == 1
    assert await requests(UsageFilter(model="m3")) == 0
    assert [row.user_id for row in await reports.records(LogFilter(user_id="anna"), limit=9)] == ["anna"]
    assert await reports.count(LogFilter(user_id="nobody")) == 0
    sums = await reports.label_sums(("label",), msgspec.structs.replace(ALL_DAYS, labels=("y", "z")))
    assert [(found.place, found.requests) for found in sums] == [(("y",), 2)]
    assert await reports.label_names("tag", limit=10) == ["x", "y"]
    assert await reports.label_names("tag", limit=1) == ["x"]


async def test_the_costliest_come_first_and_equal_texts_of_two_organisations_are_one(ledger: Ledger) -> None:
    costs = {"m1": (5, 5), "m2": (8, 0), "m3": (1, 1)}
    await ledger.usage.save(
        [
            record(10 * number + place, model=model, cost=cost, organization_id=("", OTHER)[place])
            for number, (model, both) in enumerate(costs.items())
            for place, cost in enumerate(both)
        ]
    )
    ranked = await ledger.reports.sums(("model",), UsageFilter(), largest=2)
    assert [(found.place, found.cost) for found in ranked] == [(("m1",), 10), (("m2",), 8)]


async def test_a_request_is_found_by_its_id_at_the_time_that_the_id_tells(ledger: Ledger) -> None:
    await ledger.usage.save([record(number) for number in range(20)])
    found = await ledger.reports.records(LogFilter(record_id=request_id(START + 7)), limit=10)
    assert [row.started for row in found] == [START + 7]
    for unknown in ("", "r07", request_id(START + 99), "x" * 36, "7" * 36):
        assert await ledger.reports.records(LogFilter(record_id=unknown), limit=10) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL plans by statistics
@pytest.mark.parametrize(
    ("where", "index"),
    [
        (LogFilter(), "ix_usage_started"),
        (LogFilter(since=START, until=START + 9), "ix_usage_started"),
        (LogFilter(record_id=request_id(START)), "ix_usage_started"),
        (LogFilter(key_id="k1"), "ix_usage_key_id"),
        (LogFilter(key_id="k1", since=START), "ix_usage_key_id"),
        (LogFilter(user_id="u1"), "ix_usage_user_id"),
        (LogFilter(user_id=""), "ix_usage_started"),
    ],
)
async def test_a_page_of_records_is_read_from_an_index_in_order(ledger: Ledger, where: LogFilter, index: str) -> None:
    """However many rows there are: no scan of the table, and no sort."""
    await ledger.directory.user(DEFAULT, "u1")
    condition = await ledger.reports._log_condition(where)
    query = select(usage).where(condition).order_by(usage.c.started.desc(), usage.c.id.desc()).limit(50)
    text = str(query.compile(dialect=ledger.database.dialect, compile_kwargs={"literal_binds": True}))
    async with ledger.database.read() as connection:
        plan = " ".join(str(step[3]) for step in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    assert index in plan
    assert "TEMP B-TREE" not in plan
