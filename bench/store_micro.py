"""CPU of the store per record: µs in all and µs on the event loop's thread. It prints JSON and leaves nothing behind.

    python -m bench.store_micro [--records N] [--batch N] [--keys N] [--users] [--labels] [--again] [--postgresql]

Saves records as the gateway makes them into a new SQLite file (or a PostgreSQL server of its own), on uvloop. The least
of all batches is the cost without the neighbours of a shared machine; the median is what a batch costs beside them.
`--again` gives every batch a second time, as after a crash. The rest of a batch (the driver's thread) is what is not on
the loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Coroutine
from typing import Any

import uvloop

from ostiary.cli.server import spare_the_collector
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.gateway.ledger.flush import BATCH
from ostiary.store.database import connect
from ostiary.store.directory import Directory, establish
from ostiary.store.keys import KeyRepository
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.migrate import migrate
from ostiary.store.names import Names
from ostiary.store.rows import KeyRow
from ostiary.store.usage import UsageRepository
from ostiary.testing.postgres import hosted_postgres
from ostiary.vault.keyring import open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal

ORGANIZATION = "bench"
START = 1_790_000_000_000
WATCHED = 4  # every so manieth batch is watched for long steps, the others are counted


class SystemClock:
    """The two clocks of the system."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def record(number: int, keys: int, *, users: bool, labels: bool) -> Record:
    """A chat completion. Texts are objects of their own, as they are after they came over the network."""
    at = START + number // 3
    owner = number % keys
    return Record(
        id=f"0190a1b2-c3d4-7e5f-8a9b-{number:012d}", started=at, endpoint="chat.completions",
        key_id=f"0190a1b2-c3d4-7e5f-8a9b-k{owner:011d}", team_id="team", user_id=f"user-{owner}" if users else "",
        end_user=f"customer-{number % 50}" if labels else "", model="gpt-4o", deployment="d" * 20, provider="openai",
        upstream_model="gpt-4o", outcome=Outcome.COMPLETED, status=200, attempts=1, first_byte=at + 400,
        ended=at + 900, usage=Usage(input=200 + number % 7, output=300, cache_read=10), measured=True, cost=1234,
        price=PriceState.LISTED, tags=("prod", f"job-{number % 5}") if labels else (), upstream_ms=880,
    )  # fmt: skip


async def measure(url: str, keystore: str, asked: argparse.Namespace) -> dict[str, object]:
    """Microseconds per record, in all and on the loop, and the loop's longest step."""
    clock, database, slots = SystemClock(), connect(url), DatabaseKeySlots(keystore)
    await migrate(database, clock)
    master = LocalSeal(MasterKey(bytes(range(32)), "bench"))
    keyring = await open_keyring(slots, lambda: [master], clock)
    await establish(database, keyring, clock, ORGANIZATION)
    keys = KeyRepository(database, keyring, clock, Directory(database, keyring, clock, ORGANIZATION))
    for number in range(asked.keys):
        name = f"0190a1b2-c3d4-7e5f-8a9b-k{number:011d}"
        digest = number.to_bytes(32, "big")
        row = KeyRow(id=name, digest=digest, hint="", budget_seconds=86_400, organization_id=ORGANIZATION)
        await keys.add(row)
    spare_the_collector()  # as the gateway does
    usage = UsageRepository(database, Names(database, keyring, clock), ORGANIZATION)
    total, looped, steps = [], [], Steps(asyncio.get_running_loop())
    for first in range(0, asked.records, asked.batch):
        batch = [
            record(number, asked.keys, users=asked.users, labels=asked.labels)
            for number in range(first, first + asked.batch)
        ]
        if first // asked.batch % WATCHED == WATCHED - 1:
            await steps.watch(usage.save(batch))
            continue
        before = time.process_time(), time.thread_time()
        for _ in range(1 + asked.again):
            await usage.save(batch)
        total.append((time.process_time() - before[0]) / asked.batch * 1e6)
        looped.append((time.thread_time() - before[1]) / asked.batch * 1e6)
    await database.close()
    await slots.close()
    return {"total_us": figures(total), "loop_us": figures(looped), "longest_step_ms": figures(steps.longest)}


class Steps:
    """The loop's longest step while a batch is saved: CPU of its thread between two turns of a timer.

    The timer costs CPU of its own, so that batches are either watched or counted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at = 0.0
        self._on = False
        self.longest: list[float] = []

    async def watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work and note its longest step, in milliseconds."""
        self._on, self._at = True, time.thread_time()
        self.longest.append(0.0)
        self._loop.call_later(0.0005, self._turn)
        await work
        self._turn()
        self._on = False

    def _turn(self) -> None:
        if self._on:
            now = time.thread_time()
            self.longest[-1] = max(self.longest[-1], (now - self._at) * 1e3)
            self._at = now
            self._loop.call_later(0.0005, self._turn)


def figures(values: list[float]) -> dict[str, float]:
    """Least and median."""
    values = sorted(values)
    return {"least": round(values[0], 2), "median": round(values[len(values) // 2], 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--keys", type=int, default=10)
    parser.add_argument("--users", action="store_true")
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--postgresql", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        url, keystore = (f"sqlite:///{directory}/{name}/{name}.db" for name in ("ostiary", "keystore"))
        if asked.postgresql:
            url = stack.enter_context(hosted_postgres(fsync="on")).create_database("bench")
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        print(json.dumps({**vars(asked), **runner.run(measure(url, keystore, asked))}))


if __name__ == "__main__":
    main()
