"""What tests of the two engines share: a clock, and a row that is quick to make."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from ostiary.store.database import Database
from ostiary.store.schema.access import settings

START = 1_790_000_000_000  # Unix milliseconds


class ManualClock:
    """A clock that moves when it is told to. `at` is in Unix milliseconds."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> float:
        return self.at / 1000

    def monotonic(self) -> float:
        return self.at / 1000


def setting(name: str, org_id: str = "org-a") -> dict[str, object]:
    return {
        "org_id": org_id, "name": name, "details": b"sealed", "updated_at": START, "revision": 1, "row_mac": bytes(33),
    }  # fmt: skip


async def put(database: Database, *names: str, org_id: str | None = None) -> None:
    """Settings of `org-a`, in one transaction of the instance or of an organisation."""
    async with database.write(org_id) as connection:
        await connection.execute(insert(settings), [setting(name) for name in names])


async def names(database: Database, org_id: str | None = None) -> list[str]:
    """Names of all settings that the instance, or an organisation, sees."""
    async with database.read(org_id) as connection:
        return sorted((await connection.execute(select(settings.c.name))).scalars())


async def nothing_left(database: Database) -> None:
    """No settings."""
    async with database.write() as connection:
        await connection.execute(delete(settings))
