"""What tests of backups share: an instance with a row in every table, and a look at all rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Table, insert, select

from ostiary.cli.clock import SystemClock
from ostiary.store.backup import kept_tables
from ostiary.store.database import Database
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.schema.columns import Class, class_of
from ostiary.store.sealing import context, owner
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal

ONE, OTHER = "0190aaaa-org-one", "0190bbbb-org-other"
SAID = "what a caller wrote"
JANUARY = 1_736_000_000_000  # 2025; usage of later rows is a month apart
MONTH = 31 * 24 * 3600 * 1000

Content = dict[str, list[tuple[Any, ...]]]


async def keyring_at(path: Path, master: MasterKey | None = None, region: str | None = None) -> Keyring:
    """The keyring of a keystore in a file, made where there is none. Close its `slots`."""
    seals = [LocalSeal(master or MasterKey(bytes(range(32)), "test"))]
    return await open_keyring(DatabaseKeySlots(f"sqlite:///{path}"), lambda: seals, SystemClock(), region=region)


async def fill(database: Database, keyring: Keyring, organizations: Iterable[str] = (ONE, OTHER)) -> None:
    """A stamp, and in every table rows of each organisation; what is sealed says SAID, and is bound to its place."""
    for number, org in enumerate(organizations):
        await keyring.create(org)
        async with database.write() as connection:
            for table in kept_tables():
                if table.name == "stamp" and number:
                    continue
                for again in range(3 if table.name == "usage" else 1):
                    values = await row_of_everything(table, keyring, org, number, again)
                    await connection.execute(insert(table), values)


async def content(database: Database) -> Content:
    """All rows of all tables, in order."""
    async with database.read() as connection:
        return {
            table.name: sorted(map(tuple, (await connection.execute(select(table))).all()), key=repr)
            for table in kept_tables()
        }


async def opened(database: Database, keyring: Keyring, org: str) -> list[bytes]:
    """Every sealed value of an organisation, opened at its place."""
    found = []
    async with database.read() as connection:
        for table in kept_tables():
            sealed = [column.name for column in table.c if class_of(column) is Class.SEALED]
            for row in (await connection.execute(select(table))).mappings() if sealed else ():
                if owner(table.name, row) == org:
                    scope = await keyring.organization(org)
                    found += [scope.open(row[name], context(table, row, name)) for name in sealed]
    return found


async def row_of_everything(table: Table, keyring: Keyring, org: str, number: int, again: int) -> dict[str, Any]:
    """One row with a value in every column, its sealed ones bound to their places."""
    values: dict[str, Any] = {}
    named = _names(table, keyring, org)
    sealed = []
    for column in table.c:
        if column.name in named:
            values[column.name] = named[column.name]
        elif class_of(column) is Class.SEALED:
            sealed.append(column.name)
        elif isinstance(column.type, Boolean):
            values[column.name] = True
        elif isinstance(column.type, LargeBinary):
            values[column.name] = os.urandom(column.type.length or 16)
        elif isinstance(column.type, BigInteger | Integer):
            values[column.name] = number + again + 1
        else:
            values[column.name] = f"{column.name}-{number}"
    if table.name == "usage":
        values |= {"started": JANUARY + (number + again) * MONTH, "id": f"request-{number}-{again}"}
    for name in sealed:
        scope = await keyring.organization(owner(table.name, values))
        values[name] = scope.seal(f"{SAID} in {table.name}.{name}".encode(), context(table, values, name))
    return values


def _names(table: Table, keyring: Keyring, org: str) -> Mapping[str, Any]:
    """The columns by which rows refer to each other."""
    ids = {
        "stamp": 1,
        "organizations": org,
        "users": f"user-of-{org}",
        "teams": f"team-of-{org}",
        "budgets": f"budget-of-{org}",
        "virtual_keys": f"key-of-{org}",
    }
    named: dict[str, Any] = {
        "org_id": org,
        "user_id": ids["users"],
        "team_id": ids["teams"],
        "budget_id": ids["budgets"],
        "key_id": ids["virtual_keys"],
        "deleted_at": None,
    }
    if table.name in ids:
        named["id"] = ids[table.name]
    if table.name == "stamp":
        named |= {"instance": keyring.instance_id, "region": keyring.region, "default_org": org}
    return named
