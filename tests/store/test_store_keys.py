"""Virtual keys at rest: found by digest, listed in pages, budgets by window."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostiary.core.fault import Fault, Kind
from ostiary.core.record import Record
from ostiary.store.instance import Store, open_store
from ostiary.store.keys import KeyFilter, KeyRepository
from ostiary.store.rows import KeyRow
from ostiary.store.usage import UsageRepository
from ostiary.vault.master import MasterKey

START = 1_790_000_000_000
MASTER = MasterKey(bytes(range(32)), "test")


class FixedClock:
    """A clock that moves when it is told to. Milliseconds."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> float:
        return self.at / 1000

    def monotonic(self) -> float:
        return self.at / 1000


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
async def store(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path}/ostiary.db", MASTER, clock)
    yield opened
    await opened.close()


@pytest.fixture
def keys(store: Store, clock: FixedClock) -> KeyRepository:
    return KeyRepository(store.database, clock)


def row(number: int, **fields: object) -> KeyRow:
    return KeyRow(
        id=f"key-{number:06}",
        digest=number.to_bytes(32, "big"),
        hint="sk-...abcd",
        budget_from=START,
        created_at=START + number,
        updated_at=START + number,
        **fields,  # type: ignore[arg-type]
    )


async def test_a_key_comes_back_as_it_was_stored(keys: KeyRepository) -> None:
    full = row(
        1, alias="ci", models=("gpt-4o", "openai/*"), aliases={"fast": "gpt-4o"}, max_budget=5, soft_budget=4,
        budget_duration="30d", budget_seconds=2_592_000, rpm_limit=10, tpm_limit=20, max_parallel=3,
        model_rpm={"gpt-4o": 1}, model_tpm={"gpt-4o": 2}, expires=START + 9, blocked=True, user_id="u", team_id="t",
        organization_id="o", allowed_routes=("/v1/chat/completions",), tags=("prod",), metadata={"a": [1, None]},
        extra={"guardrails": ["x"]}, created_by="admin", updated_by="admin",
    )  # fmt: skip
    stored = await keys.add(full, spend=7)
    assert await keys.get(key_id=full.id) == stored
    found = await keys.find(full.digest)
    assert found is not None
    assert found == stored.virtual_key()
    assert (found.spend, found.spend_from, found.expires) == (7, START / 1000, (START + 9) / 1000)
    assert found.model_rpm == (("gpt-4o", 1),)


async def test_an_unknown_digest_is_none(keys: KeyRepository) -> None:
    assert await keys.find(b"?" * 32) is None


async def test_a_failing_database_is_unavailable_and_never_none(
    tmp_path: Path, store: Store, keys: KeyRepository
) -> None:
    await keys.add(row(1))
    with sqlite3.connect(tmp_path / "ostiary.db") as raw:
        raw.execute("ALTER TABLE virtual_keys RENAME TO lost")
    raw.close()
    for ask in (keys.find(row(1).digest), keys.get(alias="x"), keys.page(KeyFilter()), keys.add(row(2))):
        with pytest.raises(Fault) as failed:
            await ask
        assert failed.value.kind is Kind.UNAVAILABLE
        assert failed.value.status == 503


async def test_digest_and_alias_are_unique_among_live_keys_only(keys: KeyRepository) -> None:
    await keys.add(row(1, alias="one"))
    with pytest.raises(Fault) as taken:
        await keys.add(row(2, alias="one"))
    assert (taken.value.status, taken.value.param) == (409, "key_alias")
    twin = KeyRow(id="twin", digest=row(1).digest, hint="", budget_from=START)
    with pytest.raises(Fault) as taken:
        await keys.add(twin)
    assert (taken.value.status, taken.value.param) == (409, "key")
    await keys.remove(["key-000001"])
    await keys.add(twin)
    await keys.add(row(2, alias="one"))
    assert await keys.id_of(twin.digest) in {"twin", "key-000001"}


async def test_a_deleted_key_is_found_no_more_but_keeps_its_name_in_reports(keys: KeyRepository) -> None:
    await keys.add(row(1, alias="gone"))
    await keys.remove(["key-000001"])
    assert await keys.find(row(1).digest) is None
    assert await keys.get(alias="gone") is None
    assert (await keys.page(KeyFilter()))[1] == 0
    assert (await keys.page(KeyFilter(status="deleted")))[1] == 1
    assert (await keys.names(["key-000001", "unknown"]))["key-000001"].alias == "gone"


async def test_a_change_that_another_overtook_is_refused(keys: KeyRepository) -> None:
    stored = await keys.add(row(1))
    await keys.change(stored, revision=1)
    with pytest.raises(Fault) as refused:
        await keys.change(stored, revision=1)
    assert refused.value.status == 409
    found = await keys.find(stored.digest)
    assert found is not None
    assert found.revision == 2


async def test_a_regenerated_key_answers_to_its_old_digest_until_the_grace_ends(
    keys: KeyRepository, clock: FixedClock
) -> None:
    old = await keys.add(row(1, blocked=False))
    new = KeyRow(**{name: getattr(old, name) for name in KeyRow.__struct_fields__} | {"digest": b"n" * 32})
    await keys.change(new, revision=1, retire_until=START + 5000)
    in_grace = await keys.find(old.digest)
    assert in_grace is not None
    assert (in_grace.id, in_grace.digest, in_grace.retired_until) == (old.id, old.digest, (START + 5000) / 1000)
    current = await keys.find(b"n" * 32)
    assert current is not None
    assert current.retired_until is None
    assert await keys.retired(old.id) == [(old.digest, START + 5000)]
    with pytest.raises(Fault):  # nobody can take over a digest that still works
        await keys.add(KeyRow(id="thief", digest=old.digest, hint="", budget_from=START))
    clock.at += 5000
    assert await keys.find(old.digest) is None
    assert await keys.find(b"n" * 32) is not None


async def test_without_grace_the_old_digest_dies_at_once(keys: KeyRepository) -> None:
    old = await keys.add(row(1))
    new = KeyRow(**{name: getattr(old, name) for name in KeyRow.__struct_fields__} | {"digest": b"n" * 32})
    await keys.change(new, revision=1)
    assert await keys.find(old.digest) is None


def paid(name: str, ended: int, cost: int, started: int = START) -> Record:
    return Record(id=name, started=started, ended=ended, endpoint="chat", key_id="key-000001", cost=cost)


async def test_spend_belongs_to_the_window_in_which_the_request_ended(
    store: Store, keys: KeyRepository, clock: FixedClock
) -> None:
    """As in the data plane, which counts a request when it settles it."""
    usage = UsageRepository(store.database)
    await keys.add(row(1, max_budget=100, budget_duration="60s", budget_seconds=60))
    await usage.save([paid("a", START + 1000, 30)])
    await usage.save([paid("b", START + 59_999, 1), paid("c", START + 60_000, 5), paid("d", START + 61_000, 2)])
    first = await keys.get(key_id="key-000001")
    assert first is not None
    assert (first.spend, first.spend_from) == (31, START)
    clock.at += 60_000
    second = await keys.get(key_id="key-000001")
    assert second is not None
    assert (second.spend, second.spend_from) == (7, START + 60_000)


async def test_what_ended_before_the_first_window_is_in_none(store: Store, keys: KeyRepository) -> None:
    """Its spend may have been set since: a record saved late must not add to it."""
    await keys.add(row(1), spend=5)
    await UsageRepository(store.database).save([paid("a", START - 1, 30), paid("b", START, 2)])
    found = await keys.get(key_id="key-000001")
    assert found is not None
    assert found.spend == 7


async def test_new_windows_for_all_keys_begin_later_than_any_before(
    store: Store, keys: KeyRepository, clock: FixedClock
) -> None:
    for number in (1, 2, 3):
        await keys.add(row(number), spend=number)
    await keys.remove(["key-000003"])
    await keys.begin_windows("admin")
    await keys.begin_windows("admin")
    found = await keys.after("", 10)
    assert [(key.id, key.spend, key.spend_from, key.revision) for key in found] == [
        ("key-000001", 0, START + 2, 3),
        ("key-000002", 0, START + 2, 3),
    ]
    assert [key.id for key in await keys.after("key-000001", 10)] == ["key-000002"]


async def test_a_new_budget_duration_does_not_forgive_what_was_spent(
    store: Store, keys: KeyRepository, clock: FixedClock
) -> None:
    await keys.add(row(1, budget_duration="60s", budget_seconds=60), spend=30)
    clock.at += 10_000
    before = await keys.get(key_id="key-000001")
    assert before is not None
    values = {name: getattr(before, name) for name in KeyRow.__struct_fields__}
    after = await keys.change(
        KeyRow(**values | {"budget_duration": "1h", "budget_seconds": 3600, "budget_from": clock.at}), revision=1
    )
    assert (after.spend, after.spend_from) == (30, clock.at)
    assert await keys.get(key_id="key-000001") == after


async def test_filters_and_pages(keys: KeyRepository) -> None:
    for number in range(1, 26):
        await keys.add(
            row(number, alias=f"key_{number}", user_id=f"u{number % 2}", team_id="t", blocked=number % 5 == 0,
                expires=START - 1 if number % 7 == 0 else None)
        )  # fmt: skip
    page, total = await keys.page(KeyFilter(team_id="t"), offset=20, limit=10)
    assert (total, [found.id for found in page]) == (25, [f"key-{number:06}" for number in range(5, 0, -1)])
    assert (await keys.page(KeyFilter(user_id="u1")))[1] == 13
    assert (await keys.page(KeyFilter(status="expired")))[1] == 3
    assert (await keys.page(KeyFilter(status="revoked")))[1] == 5
    assert (await keys.page(KeyFilter(status="active")))[1] == 25 - 3 - 5
    assert (await keys.page(KeyFilter(alias="y_2", substring=True)))[1] == 7  # key_2 and key_20 to key_25
    assert (await keys.page(KeyFilter(alias="%", substring=True)))[1] == 0  # a wildcard of SQL is just a character
    assert (await keys.page(KeyFilter(digest=row(3).digest)))[0][0].id == "key-000003"
    page, _ = await keys.page(KeyFilter(), sort="alias", descending=False, limit=2)
    assert [found.alias for found in page] == ["key_1", "key_10"]
    assert (await keys.aliases(offset=0, limit=2))[0] == ["key_1", "key_10"]


async def test_readers_go_on_while_somebody_writes(keys: KeyRepository, store: Store) -> None:
    await keys.add(row(1))
    async with store.database.write() as connection:
        await connection.exec_driver_sql("UPDATE virtual_keys SET alias = 'half-way'")
        found = await asyncio.gather(*(keys.find(row(1).digest) for _ in range(20)))
    assert {key.alias for key in found if key} == {""}
    after = await keys.find(row(1).digest)
    assert after is not None
    assert after.alias == "half-way"


async def test_a_write_that_fails_half_way_leaves_nothing(keys: KeyRepository, store: Store) -> None:
    await keys.add(row(1))

    async def broken() -> None:
        async with store.database.write() as connection:
            await connection.exec_driver_sql("DELETE FROM virtual_keys")
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        await broken()
    assert await keys.find(row(1).digest) is not None


async def test_a_hundred_thousand_keys_do_not_slow_the_list_nor_the_look_up(
    tmp_path: Path, keys: KeyRepository
) -> None:
    """Compared with a small store in the same run, so that a busy machine slows both alike."""

    async def timed() -> tuple[float, float]:
        looks, lists = [], []
        for number in range(1, 21):
            start = time.perf_counter()
            assert await keys.find(row(number).digest) is not None
            looks.append(time.perf_counter() - start)
            start = time.perf_counter()
            await keys.page(KeyFilter(), limit=100)
            lists.append(time.perf_counter() - start)
        return min(looks), min(lists)

    for number in range(1, 151):
        await keys.add(row(number))
    few_look, few_list = await timed()
    with sqlite3.connect(tmp_path / "ostiary.db") as raw:
        raw.executemany(
            "INSERT INTO virtual_keys (id, digest, hint, alias, budget_from, created_at, updated_at)"
            " VALUES (?, ?, '', ?, ?, ?, ?)",
            (
                (f"key-{number:06}", number.to_bytes(32, "big"), f"a{number}", START, START + number, START)
                for number in range(151, 100_001)
            ),
        )
    raw.close()
    many_look, many_list = await timed()
    assert (await keys.page(KeyFilter(), limit=1))[1] == 100_000
    assert many_look < few_look * 2
    assert many_list < few_list + 0.1  # the total is counted
