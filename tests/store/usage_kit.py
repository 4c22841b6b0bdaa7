"""A ledger on a database of either engine, with two organisations that have keys."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select

from ostiary.core.clock import Clock
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.database import Database
from ostiary.store.directory import Directory, establish
from ostiary.store.names import Names
from ostiary.store.reports import UsageReports
from ostiary.store.schema.ledger import usage, usage_daily, usage_labels, usage_totals
from ostiary.store.sealing import Alarm
from ostiary.store.usage import UsageRepository
from ostiary.vault.keyring import Keyring

DAY = 86_400_000
START = 20_700 * DAY
DEFAULT, OTHER = "org-default", "org-other"


class Ledger:
    """The parts of a ledger. `another_process` is one more over the same database, with caches of its own."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self.database, self.keyring, self.clock, self.alarm = database, keyring, clock, Alarm()
        self.names = Names(database, keyring, clock, alarm=self.alarm)
        self.directory = Directory(database, keyring, clock, DEFAULT, alarm=self.alarm)
        self.usage = UsageRepository(database, self.names, DEFAULT)
        self.reports = UsageReports(database, self.names, self.directory)

    def another_process(self) -> Ledger:
        return Ledger(self.database, self.keyring, self.clock)

    async def rows(self, table: Table) -> list[tuple[Any, ...]]:
        async with self.database.read() as connection:
            found = await connection.execute(select(table).order_by(*table.primary_key))
            return [tuple(row) for row in found]

    async def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """The ledger and its sums."""
        return {table.name: await self.rows(table) for table in (usage, usage_daily, usage_totals, usage_labels)}


async def opened_ledger(database: Database, keyring: Keyring, clock: Clock) -> Ledger:
    await establish(database, keyring, clock, DEFAULT)
    await establish(database, keyring, clock, OTHER, "other")
    return Ledger(database, keyring, clock)


def record(number: int, **fields: object) -> Record:
    given: dict[str, object] = {
        "id": request_id(START + number), "started": START + number, "ended": START + number + 1,
        "endpoint": "chat.completions", "key_id": "k1", "model": "gpt-4o", "provider": "openai",
        "outcome": Outcome.COMPLETED, "price": PriceState.LISTED, "cost": 10, "usage": Usage(input=3, output=2),
    } | fields  # fmt: skip
    return Record(**given)  # type: ignore[arg-type]


def request_id(started: int, tail: int = 0) -> str:
    """An id as the gateway makes them."""
    return f"{started >> 16:08x}-{started & 0xFFFF:04x}-7000-8000-{tail:012x}"
