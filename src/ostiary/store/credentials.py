"""Named credentials, sealed for one origin each. It must not answer a row that was edited or whose seal is broken."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.ids import time_ordered_id
from ostiary.store.database import Database
from ostiary.store.rowmac import stamped
from ostiary.store.rows import MILLISECONDS, CredentialRow
from ostiary.store.schema.access import credentials
from ostiary.store.sealing import Alarm, Guard, Values, context, rows_of, seal
from ostiary.vault.document import open_document, seal_document
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import INSTANCE, Scope

_SAME = ("created_at", "updated_at", "revision")


class CredentialDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sealed of named credentials, apart from their values."""

    name: str
    provider: str
    origin: str
    description: str = ""


class CredentialRepository:
    """Credentials by organisation and name; what belongs to the instance has the organisation "-".

    The values are bound to their row, its revision and the origin they may be sent to, which is sealed as well.

    Args:
        database: an open, migrated database.
        keyring: the keys of the instance and its organisations.
        clock: dates the ids of rows.
        alarm: told of rows that were edited, and of values that do not open.
    """

    def __init__(self, database: Database, keyring: Keyring, clock: Clock, *, alarm: Alarm | None = None) -> None:
        self._database = database
        self._clock = clock
        self._guard = Guard(keyring, alarm or Alarm())

    async def all(self, organization_id: str = INSTANCE) -> list[CredentialRow]:
        """Every row of an organisation, oldest first.

        Raises:
            SealBroken: when one does not open.
        """
        query = select(credentials).where(credentials.c.org_id == organization_id)
        async with self._database.read(_acting_for(organization_id)) as connection:
            rows = await rows_of(connection, query.order_by(credentials.c.created_at, credentials.c.id))
        return [await self._opened(row) for row in await self._guard.checked(credentials, rows)]

    async def get(self, name: str, organization_id: str = INSTANCE) -> CredentialRow | None:
        """The row of this name.

        Raises:
            SealBroken: when it does not open.
        """
        query = select(credentials).where(_called(await self._guard.scope(organization_id), name))
        async with self._database.read(_acting_for(organization_id)) as connection:
            rows = await rows_of(connection, query)
        found = [await self._opened(row) for row in await self._guard.checked(credentials, rows)]
        return found[0] if found else None

    async def add(self, row: CredentialRow) -> None:
        """Store a new row.

        Raises:
            Fault: INVALID_REQUEST (409) when the name is in use in its organisation.
        """
        scope, now = await self._guard.scope(row.organization_id), int(self._clock.now() * MILLISECONDS)
        values = _values(scope, row, time_ordered_id(now, int.from_bytes(os.urandom(10), "big")))
        try:
            async with self._database.write(_acting_for(row.organization_id)) as connection:
                await connection.execute(insert(credentials), values)
        except IntegrityError:
            public = "`credential_name` is in use already"
            raise Fault(Kind.INVALID_REQUEST, public, status=409, param="credential_name") from None

    async def change(self, row: CredentialRow, *, revision: int) -> CredentialRow:
        """Write `row` over the one of `revision`, giving it the next.

        Raises:
            Fault: INVALID_REQUEST (409) when it was changed or removed meanwhile.
        """
        scope = await self._guard.scope(row.organization_id)
        changed = msgspec.structs.replace(row, revision=revision + 1)
        before = and_(_called(scope, row.name), credentials.c.revision == revision)
        async with self._database.write(_acting_for(row.organization_id)) as connection:
            place = (await connection.execute(select(credentials.c.id).where(before))).scalar()
            written = place and await connection.execute(
                update(credentials).where(before).values(_values(scope, changed, str(place)))
            )
        if not written or written.rowcount != 1:
            raise Fault(Kind.INVALID_REQUEST, "the credentials were changed meanwhile; try again", status=409)
        return changed

    async def remove(self, name: str, organization_id: str = INSTANCE) -> bool:
        """Delete a row; False when there was none."""
        condition = _called(await self._guard.scope(organization_id), name)
        async with self._database.write(_acting_for(organization_id)) as connection:
            return (await connection.execute(delete(credentials).where(condition))).rowcount == 1

    async def _opened(self, row: Values) -> CredentialRow:
        scope = await self._guard.scope(row["org_id"])
        details = await self._guard.opened(credentials, row, CredentialDetails)
        where = context(credentials, row, "secret", details.origin)
        values = await self._guard.loudly(credentials, row, lambda: open_document(scope, row["secret"], where))
        fields = {name: getattr(details, name) for name in CredentialDetails.__struct_fields__}
        return CredentialRow(
            **fields, values=values, organization_id=row["org_id"], **{name: row[name] for name in _SAME}
        )


def _acting_for(organization_id: str) -> str | None:
    return None if organization_id == INSTANCE else organization_id


def _called(scope: Scope, name: str) -> ColumnElement[bool]:
    index = scope.index(credentials.name, "name_index", name)
    return and_(credentials.c.org_id == scope.id, credentials.c.name_index == index)


def _values(scope: Scope, row: CredentialRow, place: str) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(row, name) for name in _SAME}
    values.update(org_id=scope.id, id=place, name_index=scope.index(credentials.name, "name_index", row.name))
    details = CredentialDetails(name=row.name, provider=row.provider, origin=row.origin, description=row.description)
    values["details"] = seal(scope, details, context(credentials, values))
    values["secret"] = seal_document(scope, row.values, context(credentials, values, "secret", row.origin))
    return stamped(scope, credentials.name, values)
