"""The ledger when it is long: latency of what people ask it, and what retention costs. It prints JSON.

    python -m bench.store_rows sqlite|postgresql [--rows 10000000] [--keys 1000] [--models 50] [--organizations 4]

Fills 90 days of usage into a new database (PostgreSQL: a server of its own), straight into the tables, with sums made
by the database from the rows; then asks through the services and repositories behind the API. At last the older half
is purged while records go on being saved: how long such a save takes at most, how long the event loop stands still at
most, and how much memory the purge takes. Everything is deleted in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from struct import pack
from typing import Any

import uvloop
from sqlalchemy import Integer, case, cast, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.control.usage.activity import ActivityService
from ostiary.control.usage.logs import SpendLogService
from ostiary.control.usage.names import KeyBook
from ostiary.control.usage.queries import day_text
from ostiary.core.ids import time_ordered_id
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.bulk import Bulk
from ostiary.store.database import Database, connect
from ostiary.store.directory import Directory, establish
from ostiary.store.keylists import KeyFilter
from ostiary.store.keys import KeyRepository
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.migrate import migrate
from ostiary.store.names import Names, Text
from ostiary.store.partitions import ensure
from ostiary.store.reports import UsageReports
from ostiary.store.retention import Retention, Rules
from ostiary.store.rows import KeyRow
from ostiary.store.schema.ledger import usage, usage_daily, usage_labels, usage_totals
from ostiary.store.usage import DAY_MILLISECONDS, UsageRepository
from ostiary.testing.postgres import hosted_postgres
from ostiary.vault.keyring import open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal

DAYS = 90
FIRST_DAY = 20_600
MODELS_OF_A_KEY = 5
END_USERS, TAGS = 5_000, 20
ROUNDS = 20
TOGETHER = 20_000  # rows made in one go
_COUNTS = [column.name for column in usage_daily.c if not column.primary_key]


class Clock:
    """The clocks of the system, as if the last day of the ledger were today."""

    def now(self) -> float:
        return (FIRST_DAY + DAYS) * 86_400 + time.time() % 86_400

    monotonic = staticmethod(time.monotonic)


class House:
    """A database with organisations, keys and texts, and all that reads it."""

    def __init__(self, database: Database, slots: DatabaseKeySlots, asked: argparse.Namespace) -> None:
        self.database, self.slots, self.asked, self.clock = database, slots, asked, Clock()
        self.random = random.Random(1)
        self.orgs = [f"bench-org-{number}" for number in range(asked.organizations)]
        self.keys: list[tuple[str, str, str, str]] = []  # id, organisation, team, user
        self.ids: dict[Text, int] = {}

    async def build(self) -> None:
        """Everything but usage."""
        await migrate(self.database, self.clock)
        master = LocalSeal(MasterKey(os.urandom(32), "bench"))
        keyring = await open_keyring(self.slots, lambda: [master], self.clock)
        for number, org_id in enumerate(self.orgs):
            await establish(self.database, keyring, self.clock, org_id, f"organisation {number}" if number else "")
        self.names = Names(self.database, keyring, self.clock)
        directory = Directory(self.database, keyring, self.clock, self.orgs[0])
        keys = self.key_rows = KeyRepository(self.database, keyring, self.clock, directory)
        for number in range(self.asked.keys):
            org_id = self.orgs[number % len(self.orgs)]
            team = await directory.team(org_id, f"team {number // 10}")
            user = await directory.user(org_id, f"user {number}")
            key_id = time_ordered_id(FIRST_DAY * DAY_MILLISECONDS + number, self.random.getrandbits(74))
            row = KeyRow(
                id=key_id, digest=number.to_bytes(32, "big"), hint="sk-...0000", alias=f"key {number}", team_id=team,
                user_id=user, organization_id=org_id, created_at=FIRST_DAY * DAY_MILLISECONDS + number,
            )  # fmt: skip
            await keys.add(row)
            self.keys.append((key_id, org_id, team, user))
        for org_id in self.orgs:
            texts: list[Text] = [(org_id, "end_user", f"end user {number}") for number in range(END_USERS)]
            texts += [(org_id, "tag", f"tag {number}") for number in range(TAGS)]
            for kind in ("model", "upstream_model", "deployment"):
                texts += [(org_id, kind, f"{kind}-{number}") for number in range(self.asked.models)]
            self.ids |= await self.names.resolve(texts)
        self.usage = UsageRepository(self.database, self.names, self.orgs[0])
        reports = UsageReports(self.database, Names(self.database, keyring, self.clock), directory)
        book = KeyBook(keys, lambda text: text.encode(), directory)
        self.logs = SpendLogService(reports, book, self.clock)
        self.activity = ActivityService(reports, book, self.clock)

    async def fill(self) -> None:
        """The usage of every day, and its sums."""
        await ensure(self.database, FIRST_DAY * DAY_MILLISECONDS, (FIRST_DAY + DAYS) * DAY_MILLISECONDS)
        bulk = Bulk(usage, self.database.dialect)
        a_day = self.asked.rows // DAYS
        for day in range(FIRST_DAY, FIRST_DAY + DAYS):
            async with self.database.write(seconds=600) as connection, _roomy(connection):
                for first in range(0, a_day, TOGETHER):
                    rows = list(self.rows(day, first, min(first + TOGETHER, a_day), a_day))
                    await _store(connection, bulk, rows)
                await _sum_up(connection, day)
        if self.database.dialect.name == "postgresql":
            async with self.database.own(alone=True) as connection:
                await connection.exec_driver_sql("ANALYZE")

    def rows(self, day: int, first: int, last: int, a_day: int) -> Iterator[tuple[Any, ...]]:
        """Rows in the order of the table's columns, evenly over the day."""
        bits, keys, models = self.random.getrandbits, self.keys, self.asked.models
        ids = self.ids
        packed = {text: pack(">q", number) for text, number in ids.items() if text[1] == "tag"}
        for number in range(first, last):
            chance = bits(62)
            key = chance % len(keys)
            key_id, org_id, team, user = keys[key]
            model = (key * MODELS_OF_A_KEY + (chance >> 20) % MODELS_OF_A_KEY) % models
            started = day * DAY_MILLISECONDS + number * DAY_MILLISECONDS // a_day
            yield (
                org_id, started, _request_id(started, chance), "chat.completions", key_id, team, user,
                ids[org_id, "end_user", f"end user {(chance >> 24) % END_USERS}"],
                ids[org_id, "model", f"model-{model}"], ids[org_id, "deployment", f"deployment-{model}"],
                ("openai", "anthropic", "groq")[model % 3], ids[org_id, "upstream_model", f"upstream_model-{model}"],
                False, "completed" if chance % 50 else "failed", 200, "", 1, 0, started + 300, started + 900,
                100 + chance % 900, 50 + chance % 400, 0, 0, 0, 0, 0, 0, 0, 0, True, 1000 + chance % 100_000,
                "listed", packed[org_id, "tag", f"tag {(chance >> 40) % TAGS}"], 850, 0,
            )  # fmt: skip


@contextlib.asynccontextmanager
async def _roomy(connection: AsyncConnection) -> AsyncIterator[None]:
    """More cache than the gateway takes, while rows by the million go in."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA cache_size=-400000")
    yield
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA cache_size=-512")


def _request_id(started: int, chance: int) -> str:
    tail = f"7{chance & 0xFFF:03x}-8{chance >> 50:03x}-{chance >> 2 & (1 << 48) - 1:012x}"
    return f"{started >> 16:08x}-{started & 0xFFFF:04x}-{tail}"


async def _store(connection: AsyncConnection, bulk: Bulk, rows: list[tuple[Any, ...]]) -> None:
    if connection.dialect.name == "sqlite":
        await bulk.store(connection, rows)
        return
    kinds = [column.type.compile(connection.dialect).partition("(")[0] for column in usage.c]
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(kinds, 1))
    columns = ", ".join(usage.c.keys())
    statement = f"INSERT INTO usage ({columns}) SELECT * FROM unnest({arrays})"
    await connection.exec_driver_sql(statement, tuple(map(list, zip(*rows, strict=True))))


async def _sum_up(connection: AsyncConnection, day: int) -> None:
    """The rollups of one day."""
    table = usage.c
    of_day = table.started.between(day * DAY_MILLISECONDS, (day + 1) * DAY_MILLISECONDS - 1)
    ok = cast(func.sum(case((table.outcome == "completed", 1), else_=0)), Integer)
    own = {"requests": func.count(), "ok": ok, "failed": func.count() - ok, "unpriced": literal(0)}
    counts = [own.get(name, func.sum(table[name]) if name in table else None) for name in _COUNTS]
    for target in (usage_daily, usage_totals):
        names = [column.name for column in target.primary_key]
        places = [literal(day) if name == "day" else table[name] for name in names]
        groups = [table[name] for name in names if name != "day"]
        query = select(*places, *counts).where(of_day).group_by(*groups)
        await connection.execute(insert(target).from_select([*names, *_COUNTS], query))
    labelled = select(table.org_id, literal("end_user"), literal(day), table.end_user, *counts)
    labelled = labelled.where(of_day).group_by(table.org_id, table.end_user)
    named = ["org_id", "kind", "day", "label", *_COUNTS]
    await connection.execute(insert(usage_labels).from_select(named, labelled))
    found = await connection.execute(
        select(table.org_id, table.tags, *counts).where(of_day).group_by(table.org_id, table.tags)
    )
    rows = [(row[0], "tag", day, int.from_bytes(row[1], "big"), *map(int, row[2:])) for row in found]
    await Bulk(usage_labels, connection.dialect).store(connection, rows)


async def questions(house: House) -> dict[str, object]:
    """Milliseconds of each question, the first time included, and how long the event loop stood still at most."""
    watch = Watch(house)
    stalls = asyncio.create_task(watch.stalls())
    last = FIRST_DAY + DAYS - 1
    month = {"start_date": day_text(last - 29), "end_date": day_text(last)}
    token = (7).to_bytes(32, "big").hex()
    deep = (await house.logs.page({"page_size": 50, **month}))["next_cursor"]
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "spend_logs_page": lambda: house.logs.page({"page_size": 50}),
        "spend_logs_page_of_a_month": lambda: house.logs.page({"page_size": 50, **month}),
        "spend_logs_page_by_cursor": lambda: house.logs.page({"page_size": 50, "cursor": deep, **month}),
        "spend_logs_page_of_a_key": lambda: house.logs.page({"page_size": 50, "api_key": token}),
        "spend_logs_page_of_a_user": lambda: house.logs.page({"page_size": 50, "user_id": "user 7"}),
        "spend_logs_summary_of_a_month": lambda: house.logs.logs(month),
        "daily_activity_page": lambda: house.activity.daily(month),
        "daily_activity_of_a_key": lambda: house.activity.daily({"api_key": token, **month}),
        "daily_activity_aggregated": lambda: house.activity.aggregated(month),
        "tag_activity_page": lambda: house.activity.by_tag(month),
        "key_list": lambda: house.key_rows.page(KeyFilter(), limit=100),
    }
    found: dict[str, object] = {}
    for name, ask in asked.items():
        times = []
        watch.reset()
        for _ in range(ROUNDS):
            before = time.perf_counter()
            await ask()
            times.append((time.perf_counter() - before) * 1e3)
        stall = round(watch.longest_stall * 1e3, 1)
        found[name] = {"p50": round(sorted(times)[ROUNDS // 2], 1), "max": round(max(times), 1), "stall": stall}
    stalls.cancel()
    return found


async def purge(house: House) -> dict[str, object]:
    """What the purge of the older half costs, beside a ledger that goes on."""
    watch = Watch(house)
    tasks = [asyncio.create_task(watch.stalls()), asyncio.create_task(watch.saves())]
    await asyncio.sleep(2)
    watch.reset()
    before, began = resident(), time.perf_counter()
    retention = Retention(house.database, house.names, house.clock, Rules)
    purged = await retention.purge((FIRST_DAY + DAYS // 2) * DAY_MILLISECONDS)
    took = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    return {
        "rows": purged.rows, "partitions": purged.partitions, "labels": purged.labels, "seconds": round(took, 1),
        "longest_transaction_ms": round(purged.longest * 1e3, 1), "longest_save_ms": round(watch.longest_save * 1e3, 1),
        "longest_stall_of_the_loop_ms": round(watch.longest_stall * 1e3, 1),
        "extra_memory_mib": round((watch.most - before) / 2**20, 1),
    }  # fmt: skip


class Watch:
    """What others notice of a purge."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.longest_save = self.longest_stall = 0.0
        self.most = 0

    async def stalls(self) -> None:
        """How late a timer is, and how much memory is in use."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            self.longest_stall = max(self.longest_stall, time.perf_counter() - before - 0.005)
            self.most = max(self.most, resident())

    async def saves(self) -> None:
        """Ten records twenty times a second, of today."""
        number = 0
        while True:
            batch = []
            for _ in range(10):
                number += 1
                at = (FIRST_DAY + DAYS) * DAY_MILLISECONDS + number
                batch.append(
                    Record(
                        id=_request_id(at, 1 << 61), started=at, ended=at, endpoint="chat.completions", model="model-1",
                        key_id=self._house.keys[number % len(self._house.keys)][0], outcome=Outcome.COMPLETED, cost=1,
                        end_user=f"end user {number % END_USERS}", price=PriceState.LISTED, usage=Usage(input=1),
                    )
                )  # fmt: skip
            before = time.perf_counter()
            await self._house.usage.save(batch)
            self.longest_save = max(self.longest_save, time.perf_counter() - before)
            await asyncio.sleep(0.05)


def resident() -> int:
    """Bytes of memory that this process has for itself: what is shared with files does not count."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


async def measure(url: str, keystore: str, asked: argparse.Namespace) -> dict[str, object]:
    """Fill, ask, purge."""
    database, slots = connect(url), DatabaseKeySlots(keystore)
    try:
        house = House(database, slots, asked)
        await house.build()
        began = time.perf_counter()
        await house.fill()
        filled = time.perf_counter() - began
        answers = {"fill_seconds": round(filled, 1), "milliseconds": await questions(house)}
        print(json.dumps(answers), file=sys.stderr, flush=True)
        return {**answers, "purge": await purge(house)}
    finally:
        await database.close()
        await slots.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=["sqlite", "postgresql"])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--organizations", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        url = f"sqlite:///{directory}/data/ostiary.db"
        if asked.engine == "postgresql":
            url = stack.enter_context(hosted_postgres(fsync="on")).create_database("bench")
        keystore = f"sqlite:///{directory}/keys/keystore.db"
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        print(json.dumps({**vars(asked), **runner.run(measure(url, keystore, asked))}, indent=1))


if __name__ == "__main__":
    main()
