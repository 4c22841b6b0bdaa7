"""What tests of keys, models and names share: repositories of one database, and rows to put into them."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Table, select, update

from ostiary.core.clock import Clock
from ostiary.store.credentials import CredentialRepository
from ostiary.store.database import Database
from ostiary.store.directory import Directory, establish
from ostiary.store.keys import KeyRepository
from ostiary.store.models import ModelRepository
from ostiary.store.rows import KeyRow
from ostiary.store.sealing import Alarm
from ostiary.vault.keyring import Keyring

START = 1_790_000_000_000
ORG = "org-default"


class MovedClock(Clock, Protocol):
    """A clock that a test moves. `at` is in Unix milliseconds."""

    at: int


class Access:
    """Repositories of one database, and what the alarm was told."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self.told: list[tuple[str, str]] = []
        self.broken: list[tuple[str, str]] = []
        self.alarm = Alarm(
            lambda table, row: self.told.append((table, row)), lambda table, row: self.broken.append((table, row))
        )
        self.database, self.keyring, self.clock = database, keyring, clock
        self.directory = Directory(database, keyring, clock, ORG, alarm=self.alarm)
        self.keys = KeyRepository(database, keyring, clock, self.directory, alarm=self.alarm)
        self.models = ModelRepository(database, keyring, clock, alarm=self.alarm)
        self.credentials = CredentialRepository(database, keyring, clock, alarm=self.alarm)

    async def raw(self, table: Table, **where: Any) -> dict[str, Any]:
        """A row as the database has it."""
        query = select(table).where(*(table.c[name] == value for name, value in where.items()))
        async with self.database.read() as connection:
            return (await connection.execute(query)).one()._asdict()

    async def edit(self, table: Table, values: dict[str, Any], **where: Any) -> None:
        """Change a row past the program."""
        condition = (table.c[name] == value for name, value in where.items())
        async with self.database.write() as connection:
            done = await connection.execute(update(table).where(*condition).values(values))
        assert done.rowcount == 1


async def opened_access(database: Database, keyring: Keyring, clock: Clock) -> Access:
    """Repositories over a database with a default organisation."""
    await establish(database, keyring, clock, ORG)
    return Access(database, keyring, clock)


def key(number: int, **fields: Any) -> KeyRow:
    """A key of the default organisation."""
    defaults: dict[str, Any] = {
        "id": f"key-{number:06}", "digest": number.to_bytes(32, "big"), "hint": "sk-...abcd", "budget_from": START,
        "created_at": START + number, "updated_at": START + number, "organization_id": ORG,
    }  # fmt: skip
    return KeyRow(**{**defaults, **fields})
