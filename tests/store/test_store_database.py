"""The two verbs on both engines; and PostgreSQL when it is away, frozen, locked or read-only."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from engine_kit import START, ManualClock, behind_tls, certificates, names, nothing_left, put, setting
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError

from ostiary.core.fault import Fault, Kind
from ostiary.store.bulk import Bulk
from ostiary.store.database import Database, connect
from ostiary.store.failures import unavailable
from ostiary.store.migrate import migrate
from ostiary.store.postgresql import PostgresqlEngine
from ostiary.store.schema.access import key_spend, settings
from ostiary.store.urls import postgresql_dsn
from ostiary.testing.postgres import PostgresServer, hosted_postgres

BOUND = 5.0  # seconds until whoever asks a database that is away is told so


async def refused(database: Database, *, writing: bool = False) -> tuple[Fault, float]:
    """The fault of one attempt, and after how many seconds it came."""
    started = time.monotonic()
    with pytest.raises(Fault) as caught:
        await (put(database, "never") if writing else names(database))
    assert caught.value.kind is Kind.UNAVAILABLE
    return caught.value, time.monotonic() - started


async def test_what_is_written_is_read_and_an_exception_undoes_it(database: Database) -> None:
    await put(database, "kept")

    async def fails() -> None:
        async with database.write() as connection:
            await connection.execute(insert(settings), [setting("undone")])
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await fails()
    assert await names(database) == ["kept"]


async def test_a_broken_constraint_stays_what_it_is_and_the_next_caller_is_fine(database: Database) -> None:
    await put(database, "one")
    with pytest.raises(IntegrityError):
        await put(database, "one")
    assert await names(database) == ["one"]


async def test_a_read_is_one_consistent_view(database: Database) -> None:
    await put(database, "before")
    async with database.read() as connection:
        seen = select(func.count()).select_from(settings)
        first = (await connection.execute(seen)).scalar()
        await put(database, "meanwhile")
        assert (await connection.execute(seen)).scalar() == first == 1
    assert await names(database) == ["before", "meanwhile"]


async def test_many_rows_are_stored_added_and_kept(database: Database) -> None:
    rows = [("org", f"key-{number:04}", START, number) for number in range(1234)]
    async with database.write() as connection:
        await Bulk(key_spend, database.dialect).store(connection, rows)
        await Bulk(key_spend, database.dialect, adding=True).store(connection, rows)
        fresh = await Bulk(key_spend, database.dialect, keeping=True).store_fresh(
            connection, [*rows[:3], ("org", "new", START, 5)]
        )
    assert fresh == {("org", "new", START)}
    async with database.read() as connection:
        found = await connection.execute(select(func.count(), func.sum(key_spend.c.cost)).select_from(key_spend))
        assert tuple(found.one()) == (1235, 2 * sum(range(1234)) + 5)
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await Bulk(key_spend, database.dialect).store(connection, rows[-1:])


def test_an_sqlite_file_is_made_at_first_use_and_is_private(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/data/ostiary.db")
    assert not (tmp_path / "data").exists()

    async def use() -> None:
        await migrate(database, ManualClock())
        await database.close()

    asyncio.run(use())
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("url", "strict", "expected"),
    [
        ("postgres://u:p@db/x", False, "postgresql://u:p@db/x"),
        ("postgresql+asyncpg://u@db:5433/x?sslmode=require", False, "postgresql://u@db:5433/x?sslmode=require"),
        ("postgresql://u@/x?host=/run/pg", True, "postgresql://u@/x?host=%2Frun%2Fpg"),
        (
            "postgresql://u@db/x?sslrootcert=/ca.pem",
            True,
            "postgresql://u@db/x?sslrootcert=%2Fca.pem&sslmode=verify-full",
        ),
        ("postgresql://u@a:1,b:2/x", False, "postgresql://u@a:1,b:2/x?target_session_attrs=read-write"),
    ],
)
def test_urls_become_what_the_driver_reads(url: str, strict: bool, expected: str) -> None:
    assert postgresql_dsn(url, strict=strict) == expected


def test_where_certificates_are_checked_and_none_is_named_the_systems_authorities_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert "bundle.pem" in postgresql_dsn("postgresql://u@db/x", strict=True)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_strict_mode_refuses_a_server_that_need_not_prove_who_it_is(mode: str) -> None:
    with pytest.raises(Fault) as caught:
        connect(f"postgresql://u:canary@db/x?sslmode={mode}", strict=True)
    assert "verify-full" in caught.value.public
    assert "canary" not in caught.value.public


@pytest.mark.parametrize(
    "wrong",
    ["", "nonsense", "sqlite://", "sqlite:///", "sqlite:///:memory:", "postgresql://u:canary@h", "mysql://u:canary@h/db",
     "postgresql://u:canary@h/x?sslmode=perhaps", "postgresql://[u:canary@h/x"],
)  # fmt: skip
def test_urls_of_another_kind_are_refused_without_repeating_them(wrong: str) -> None:
    with pytest.raises(Fault) as caught:
        connect(wrong)
    assert caught.value.kind is Kind.INVALID_REQUEST
    assert "canary" not in caught.value.public


def test_a_connection_budget_too_small_for_its_pools_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        PostgresqlEngine("postgresql://u@db/x", 3)


# --- PostgreSQL when it is not well ---


@pytest.fixture(scope="module")
def frail() -> Iterator[PostgresServer]:
    """A server that may be stopped and frozen."""
    with hosted_postgres() as server:
        server.create_database("frail")
        yield server


@pytest.fixture
async def shaky(frail: PostgresServer) -> AsyncIterator[Database]:
    """A database on that server, with connections in its pools."""
    database = connect(frail.url("frail"))
    await migrate(database, ManualClock())
    await nothing_left(database)
    await put(database, "there")
    assert await names(database) == await names(database, "org-a") == ["there"]
    try:
        yield database
    finally:
        await database.close()


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_stopped_server_is_unavailable_at_once_and_back_at_the_first_use(
    frail: PostgresServer, shaky: Database
) -> None:
    frail.stop()
    for writing in (False, True):
        fault, seconds = await refused(shaky, writing=writing)
        assert seconds < 1
        assert fault.public == "the database cannot be reached"
    frail.start()
    assert await names(shaky) == await names(shaky, "org-a") == ["there"]


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_restart_between_two_questions_is_not_noticed(frail: PostgresServer, shaky: Database) -> None:
    frail.stop()
    frail.start()
    assert await names(shaky) == await names(shaky, "org-a") == ["there"]
    await put(shaky, "after")
    assert await names(shaky) == ["after", "there"]


@pytest.mark.attack("AVL-04")
@pytest.mark.parametrize("writing", [False, True])
async def test_avl_04_a_frozen_server_is_unavailable_within_five_seconds(
    frail: PostgresServer, shaky: Database, writing: bool
) -> None:
    frail.pause()
    try:
        _, seconds = await refused(shaky, writing=writing)
    finally:
        frail.resume()
    assert seconds < BOUND
    assert await names(shaky) == ["there"]


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_server_that_freezes_in_the_middle_of_a_read_is_given_up_within_five_seconds(
    frail: PostgresServer, shaky: Database
) -> None:
    async def reads() -> None:
        async with shaky.read() as connection:
            await connection.execute(select(settings))
            frail.pause()
            await connection.execute(select(settings))

    started = time.monotonic()
    try:
        with pytest.raises(Fault) as caught:
            await reads()
    finally:
        frail.resume()
    assert caught.value.kind is Kind.UNAVAILABLE
    assert time.monotonic() - started < BOUND
    assert await names(shaky) == ["there"]


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_server_that_freezes_before_the_commit_is_given_up_in_the_end(
    frail: PostgresServer, shaky: Database
) -> None:
    async def writes() -> None:
        async with shaky.write(seconds=2) as connection:
            await connection.execute(insert(settings), [setting("one"), setting("two")])
            frail.pause()

    try:
        with pytest.raises(Fault) as caught:
            await writes()
    finally:
        frail.resume()
    assert caught.value.kind is Kind.UNAVAILABLE
    # Whether the commit arrived nobody can tell from this side; but it is all or nothing.
    assert await names(shaky) in (["there"], ["one", "there", "two"])


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_long_lock_is_given_up_within_five_seconds_and_readers_do_not_wait(shaky: Database) -> None:
    async with shaky.write() as holder:
        await holder.execute(text("LOCK TABLE settings IN SHARE ROW EXCLUSIVE MODE"))
        fault, seconds = await refused(shaky, writing=True)
        assert await names(shaky) == ["there"]
    assert seconds < BOUND
    assert "locked" in fault.public
    await put(shaky, "later")


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_long_statement_is_given_up_within_five_seconds(shaky: Database) -> None:
    started = time.monotonic()
    with pytest.raises(Fault) as caught:
        async with shaky.read() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))
    assert time.monotonic() - started < BOUND
    assert "too long" in caught.value.public
    async with shaky.read(seconds=30) as connection:
        assert (await connection.execute(text("SELECT current_setting('statement_timeout')"))).scalar() == "29700ms"


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_read_only_server_says_so_and_goes_on_answering(frail: PostgresServer) -> None:
    frail.stop()
    frail.start(default_transaction_read_only="on")
    database = connect(frail.url("frail"))
    try:
        fault, _ = await refused(database, writing=True)
        assert "only be read" in fault.public
        await names(database)
    finally:
        await database.close()
        frail.stop()
        frail.start()


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_fail_over_is_found_at_the_other_address(frail: PostgresServer) -> None:
    first = frail.port
    urls = f"postgresql://ostiary_login@127.0.0.1:{first},127.0.0.1:{{}}/frail"
    frail.stop()
    frail.move()
    frail.start()
    database = connect(urls.format(frail.port))
    try:
        await migrate(database, ManualClock())
        async with asyncio.timeout(BOUND):
            await names(database)
    finally:
        await database.close()


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_storm_keeps_to_the_connection_budget_and_all_are_answered(
    frail: PostgresServer, shaky: Database
) -> None:
    answers = await asyncio.gather(*(names(shaky, "org-a" if number % 2 else None) for number in range(200)))
    assert answers == [["there"]] * 200
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'frail' AND application_name = 'ostiary'"
    assert int(frail.sql(query)[0][0]) <= 10


@pytest.mark.attack("AVL-04")
async def test_avl_04_who_finds_no_connection_free_is_told_within_five_seconds(frail: PostgresServer) -> None:
    database = connect(frail.url("frail"), connections=4)
    try:
        async with database.read(), database.read():
            _, seconds = await refused(database)
        assert seconds < BOUND
        await names(database)
    finally:
        await database.close()


async def test_whoever_hangs_up_in_the_middle_of_a_statement_harms_nobody(shaky: Database) -> None:
    async def asks() -> None:
        async with shaky.read() as connection:
            await connection.execute(text("SELECT pg_sleep(3)"))

    for _ in range(12):  # more than there are connections
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asks(), 0.05)
    assert await names(shaky) == ["there"]


async def test_a_wrong_login_or_database_says_what_to_look_at(frail: PostgresServer) -> None:
    for url, words in (
        (frail.url("nowhere"), "no database of that name"),
        (frail.url("frail", user="nobody_known"), "refuses this login"),
    ):
        database = connect(url)
        fault, _ = await refused(database)
        await database.close()
        assert words in fault.public


def test_a_failure_never_quotes_the_database() -> None:
    assert "canary" not in unavailable(RuntimeError("canary")).public
    assert "disk" in unavailable(OSError(28, os.strerror(28))).public


# --- who the server is ---


@pytest.fixture
async def certified(frail: PostgresServer, tmp_path: Path) -> AsyncIterator[int]:
    """A port on which a server proves to be `localhost`; `ca.pem` is the authority behind it."""
    files = [tmp_path / name for name in ("ca.pem", "server.crt", "server.key")]
    for file, content in zip(files, certificates("localhost"), strict=True):
        file.write_bytes(content)
    (tmp_path / "other.pem").write_bytes(certificates("elsewhere")[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files[1:])
    async with behind_tls(frail.port, context) as port:
        yield port


@pytest.mark.parametrize(
    ("host", "authority", "strict", "works"),
    [
        ("localhost", "ca.pem", True, True),
        ("127.0.0.1", "ca.pem", True, False),  # another name than the certificate's
        ("localhost", "other.pem", True, False),  # an authority that nobody knows
        ("127.0.0.1", "", False, True),  # not asked to prove anything
    ],
)
async def test_a_server_must_prove_who_it_is_where_that_is_asked(
    certified: int, tmp_path: Path, host: str, authority: str, strict: bool, works: bool
) -> None:
    given = f"sslrootcert={tmp_path / authority}" if authority else "sslmode=require"
    database = connect(f"postgresql://ostiary_login@{host}:{certified}/frail?{given}", strict=strict)
    try:
        if works:
            await migrate(database, ManualClock())
            await names(database)
            return
        with pytest.raises(Fault) as caught:
            await migrate(database, ManualClock())
        assert caught.value.kind is Kind.UNAVAILABLE
        assert "prove" in caught.value.public
    finally:
        await database.close()


async def test_strict_mode_never_falls_back_to_a_server_without_tls(frail: PostgresServer) -> None:
    database = connect(frail.url("frail").replace("127.0.0.1", "localhost"), strict=True)
    fault, seconds = await refused(database)
    await database.close()
    assert "prove" in fault.public
    assert seconds < BOUND
