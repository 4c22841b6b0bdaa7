"""Organisations and the state they are in, for the destruction of their keys. It must not trust an edited row."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import or_, select, update

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.store.database import Database
from ostiary.store.rowmac import stamped
from ostiary.store.rows import MILLISECONDS
from ostiary.store.schema.people import organizations
from ostiary.store.sealing import Alarm, Guard, Values, context, rows_of
from ostiary.store.walk import Scopes
from ostiary.vault.envelope import SealBroken
from ostiary.vault.keyring import Keyring
from ostiary.vault.shred import ACTIVE, Organization


class _Called(msgspec.Struct):
    name: str = ""


class OrganizationStates:
    """See `vault.shred.Organizations`.

    Args:
        database: an open, migrated database.
        keyring: the keys.
        clock: dates changes.
        alarm: told of rows that were edited.
    """

    def __init__(self, database: Database, keyring: Keyring, clock: Clock, *, alarm: Alarm | None = None) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._guard = Guard(keyring, alarm or Alarm())
        self._scopes = Scopes(keyring)

    async def find(self, name_or_id: str) -> Organization | None:
        """See the port."""
        index = self._keyring.instance.index(organizations.name, "name_index", name_or_id)
        rows = await self._rows(or_(organizations.c.id == name_or_id, organizations.c.name_index == index))
        return await self._shown(rows[0]) if len(rows) == 1 else None

    async def in_state(self, state: str) -> list[Organization]:
        """See the port."""
        return [await self._shown(row) for row in await self._rows(organizations.c.state == state)]

    async def closed(self) -> frozenset[str]:
        """The ids of all organisations that are not active: nobody of them is served."""
        async with self._database.read() as connection:
            found = await connection.execute(select(organizations.c.id).where(organizations.c.state != ACTIVE))
            return frozenset(found.scalars())

    async def change(self, org_id: str, before: str, after: str) -> bool:
        """See the port. The details are sealed again for the new revision, as long as there are keys to do it."""
        rows = await self._rows(organizations.c.id == org_id)
        if not rows or rows[0]["state"] != before:
            return False
        row = rows[0]
        values: dict[str, Any] = {
            **row, "state": after, "updated_at": int(self._clock.now() * MILLISECONDS), "revision": row["revision"] + 1,
        }  # fmt: skip
        scope = await self._scopes.of(org_id)
        if scope is not None:
            plain = scope.open(row["details"], context(organizations, row))
            values["details"] = scope.seal(plain, context(organizations, values))
        fresh = stamped(self._keyring.instance, organizations.name, values)
        same = organizations.c.id == org_id, organizations.c.row_mac == row["row_mac"]
        async with self._database.write() as connection:
            return (await connection.execute(update(organizations).where(*same).values(fresh))).rowcount == 1

    async def _rows(self, condition: Any) -> list[Values]:
        async with self._database.read() as connection:
            rows = await rows_of(connection, select(organizations).where(condition))
        return list(await self._guard.checked(organizations, rows))

    async def _shown(self, row: Values) -> Organization:
        return Organization(row["id"], await self._name(row), row["state"], row["updated_at"])

    async def _name(self, row: Values) -> str:
        try:
            scope = await self._scopes.of(row["id"])
            plain = b"{}" if scope is None else scope.open(row["details"], context(organizations, row))
            return msgspec.json.decode(plain, type=_Called).name
        except (SealBroken, msgspec.MsgspecError):
            return ""
        except Fault as fault:
            if fault.kind is not Kind.INTERNAL:
                raise
            return ""
