"""Virtual keys at rest: found by digest, listed in pages, budgets by window."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
from access_kit import ORG, START, Access, MovedClock, key, opened_access
from sqlalchemy import delete, insert, text

from ostiary.core.fault import Fault, Kind
from ostiary.core.record import Record
from ostiary.store.database import Database
from ostiary.store.keyrows import digest_values, key_values
from ostiary.store.keys import KeyFilter, KeyRepository
from ostiary.store.names import Names
from ostiary.store.schema.access import key_digests, virtual_keys
from ostiary.store.usage import UsageRepository
from ostiary.vault.keyring import Keyring


@pytest.fixture
async def access(database: Database, keyring: Keyring, clock: MovedClock) -> Access:
    return await opened_access(database, keyring, clock)


@pytest.fixture
def keys(access: Access) -> KeyRepository:
    return access.keys


row = key


async def test_a_key_comes_back_as_it_was_stored(access: Access, keys: KeyRepository) -> None:
    user, team = await access.directory.user(ORG, "u"), await access.directory.team(ORG, "t")
    full = row(
        1, alias="ci", models=("gpt-4o", "openai/*"), aliases={"fast": "gpt-4o"}, max_budget=5, soft_budget=4,
        budget_duration="30d", budget_seconds=2_592_000, rpm_limit=10, tpm_limit=20, max_parallel=3,
        model_rpm={"gpt-4o": 1}, model_tpm={"gpt-4o": 2}, expires=START + 9, blocked=True, user_id=user, team_id=team,
        allowed_routes=("/v1/chat/completions",), tags=("prod",), metadata={"a": [1, None]},
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


async def test_a_failing_database_is_unavailable_and_never_none(access: Access, keys: KeyRepository) -> None:
    await keys.add(row(1))
    async with access.database.own(alone=True) as connection:
        await connection.execute(text("ALTER TABLE virtual_keys RENAME TO lost"))
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
    twin = row(7, id="twin", digest=row(1).digest)
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
    keys: KeyRepository, clock: MovedClock
) -> None:
    old = await keys.add(row(1, blocked=False))
    new = msgspec.structs.replace(old, digest=b"n" * 32)
    await keys.change(new, revision=1, retire_until=START + 5000)
    in_grace = await keys.find(old.digest)
    assert in_grace is not None
    assert (in_grace.id, in_grace.digest, in_grace.retired_until) == (old.id, old.digest, (START + 5000) / 1000)
    current = await keys.find(b"n" * 32)
    assert current is not None
    assert current.retired_until is None
    assert await keys.retired(old.id) == [(old.digest, START + 5000)]
    with pytest.raises(Fault):  # nobody can take over a digest that still works
        await keys.add(row(7, id="thief", digest=old.digest))
    clock.at += 5000
    assert await keys.find(old.digest) is None
    assert await keys.find(b"n" * 32) is not None


async def test_without_grace_the_old_digest_dies_at_once(keys: KeyRepository) -> None:
    old = await keys.add(row(1))
    new = msgspec.structs.replace(old, digest=b"n" * 32)
    await keys.change(new, revision=1)
    assert await keys.find(old.digest) is None


def paid(name: str, ended: int, cost: int, started: int = START) -> Record:
    return Record(
        id=name, started=started, ended=ended, endpoint="chat", key_id="key-000001", organization_id=ORG, cost=cost
    )


def usage_of(access: Access) -> UsageRepository:
    return UsageRepository(access.database, Names(access.database, access.keyring, access.clock), ORG)


async def test_spend_belongs_to_the_window_in_which_the_request_ended(
    access: Access, keys: KeyRepository, clock: MovedClock
) -> None:
    """As in the data plane, which counts a request when it settles it."""
    usage = usage_of(access)
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


async def test_what_ended_before_the_first_window_is_in_none(access: Access, keys: KeyRepository) -> None:
    """Its spend may have been set since: a record saved late must not add to it."""
    await keys.add(row(1), spend=5)
    await usage_of(access).save([paid("a", START - 1, 30), paid("b", START, 2)])
    found = await keys.get(key_id="key-000001")
    assert found is not None
    assert found.spend == 7


async def test_new_windows_for_all_keys_begin_later_than_any_before(
    access: Access, keys: KeyRepository, clock: MovedClock
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
    access: Access, keys: KeyRepository, clock: MovedClock
) -> None:
    await keys.add(row(1, budget_duration="60s", budget_seconds=60), spend=30)
    clock.at += 10_000
    before = await keys.get(key_id="key-000001")
    assert before is not None
    changed = msgspec.structs.replace(before, budget_duration="1h", budget_seconds=3600, budget_from=clock.at)
    after = await keys.change(changed, revision=1)
    assert (after.spend, after.spend_from) == (30, clock.at)
    assert await keys.get(key_id="key-000001") == after


async def test_filters_and_pages(access: Access, keys: KeyRepository) -> None:
    team = await access.directory.team(ORG, "t")
    users = [await access.directory.user(ORG, f"u{number}") for number in range(2)]
    for number in range(1, 26):
        await keys.add(
            row(number, alias=f"key_{number}", user_id=users[number % 2], team_id=team, blocked=number % 5 == 0,
                expires=START - 1 if number % 7 == 0 else None)
        )  # fmt: skip
    page, total = await keys.page(KeyFilter(team_ids=frozenset({team})), offset=20, limit=10)
    assert (total, [found.id for found in page]) == (25, [f"key-{number:06}" for number in range(5, 0, -1)])
    assert (await keys.page(KeyFilter(user_ids=frozenset({users[1]}))))[1] == 13
    assert (await keys.page(KeyFilter(status="expired")))[1] == 3
    assert (await keys.page(KeyFilter(status="revoked")))[1] == 5
    assert (await keys.page(KeyFilter(status="active")))[1] == 25 - 3 - 5
    assert (await keys.page(KeyFilter(alias="y_2", substring=True)))[1] == 7  # key_2 and key_20 to key_25
    assert (await keys.page(KeyFilter(alias="%", substring=True)))[1] == 0  # a wildcard of SQL is just a character
    assert (await keys.page(KeyFilter(digest=row(3).digest)))[0][0].id == "key-000003"
    page, _ = await keys.page(KeyFilter(), sort="alias", descending=False, limit=2)
    assert [found.alias for found in page] == ["key_1", "key_10"]
    assert (await keys.aliases(offset=0, limit=2))[0] == ["key_1", "key_10"]
    assert (await keys.aliases(offset=0, limit=1, search="y_2")) == (["key_2"], 7)
    page, _ = await keys.page(KeyFilter(), sort="user_id", limit=25)
    assert [found.user_id for found in page] == [users[1]] * 13 + [users[0]] * 12
    page, _ = await keys.page(KeyFilter(), sort="expires", descending=False, limit=23)
    assert [found.expires for found in page] == [None] * 22 + [START - 1]
    assert (await keys.page(KeyFilter(user_ids=frozenset())))[1] == 0


async def test_readers_go_on_while_somebody_writes(keys: KeyRepository, access: Access) -> None:
    await keys.add(row(1))
    async with access.database.write() as connection:
        await connection.execute(delete(key_digests))
        found = await asyncio.gather(*(keys.find(row(1).digest) for _ in range(20)))
    assert {key and key.id for key in found} == {"key-000001"}
    assert await keys.find(row(1).digest) is None


async def test_a_write_that_fails_half_way_leaves_nothing(keys: KeyRepository, access: Access) -> None:
    await keys.add(row(1))

    async def broken() -> None:
        async with access.database.write() as connection:
            await connection.execute(text("DELETE FROM virtual_keys"))
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        await broken()
    assert await keys.find(row(1).digest) is not None


async def test_a_hundred_thousand_keys_do_not_slow_the_list_nor_the_look_up(
    access: Access, keys: KeyRepository
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

    await _stored(access, range(1, 151))
    few_look, few_list = await timed()
    await _multiplied(access, 100_000 - 150)
    many_look, many_list = await timed()
    assert (await keys.page(KeyFilter(), limit=1))[1] == 100_000
    assert many_look < few_look * 2
    assert many_list < few_list + 0.1  # the total is counted


async def test_opening_many_keys_lets_others_have_their_turn(access: Access, keys: KeyRepository) -> None:
    """Every key is opened to sort by what is sealed: nothing else waits for more than a few milliseconds."""
    await _stored(access, range(1, 3001))
    longest, over = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        before = time.thread_time()  # what this thread worked between two turns, whatever else the machine does
        while not over.is_set():
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    watching = asyncio.create_task(watch())
    page, total = await keys.page(KeyFilter(alias="7", substring=True), sort="alias", limit=3)
    over.set()
    await watching
    assert ([one.alias for one in page], total) == (["a997", "a987", "a979"], 813)
    assert longest < 0.02  # three milliseconds, where nothing else works


async def _stored(access: Access, numbers: range) -> None:
    """Keys, many of them, as the repository would write them."""
    scope, instance = await access.keyring.organization(ORG), access.keyring.instance
    made = [row(number, alias=f"a{number}") for number in numbers]
    for start in range(0, len(made), 1000):
        chunk = made[start : start + 1000]
        async with access.database.write() as connection:
            await connection.execute(insert(virtual_keys), [key_values(scope, one) for one in chunk])
            await connection.execute(insert(key_digests), [digest_values(instance, one, one.digest) for one in chunk])


async def _multiplied(access: Access, number: int) -> None:
    """That many older keys more. Nobody can open the copies, and the pages that are asked for do not show them."""
    made = {"id": "'copy-' || CAST(i AS TEXT)", "created_at": "created_at - i", "alias_index": "NULL"}
    columns = [column.name for column in virtual_keys.c]
    fresh = "randomblob(32)" if access.database.dialect.name == "sqlite" else "sha256(CAST(i AS TEXT)::bytea)"
    series = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) SELECT"
    copies = ", ".join(made.get(name, name) for name in columns)
    async with access.database.write(seconds=120) as connection:
        await connection.exec_driver_sql(
            f"INSERT INTO virtual_keys ({', '.join(columns)}) {series} {copies}"
            " FROM n, virtual_keys WHERE id = 'key-000001'"
        )
    async with access.database.own(alone=True) as connection:
        await connection.exec_driver_sql("ANALYZE")  # or PostgreSQL looks for each key of the next rows one by one
    async with access.database.write(seconds=120) as connection:
        await connection.exec_driver_sql(
            f"INSERT INTO key_digests (digest, org_id, key_id, row_mac) {series}"
            f" {fresh}, org_id, 'copy-' || CAST(i AS TEXT), row_mac FROM n, key_digests WHERE key_id = 'key-000001'"
        )
