"""Deployments added over the API, sealed. It must not answer a row that was edited or whose seal is broken."""

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
from ostiary.store.rows import MILLISECONDS, ModelRow
from ostiary.store.schema.access import models
from ostiary.store.sealing import Alarm, Guard, Values, context, rows_of, seal
from ostiary.vault.document import open_document, seal_document
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import INSTANCE

_SAME = ("created_at", "updated_at", "revision")


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sealed of a deployment, apart from its parameters."""

    id: str
    model_name: str
    origin: str
    model_info: dict[str, object] = {}
    created_by: str = ""
    updated_by: str = ""


class ModelRepository:
    """Rows of `/model/new`, which belong to the instance.

    All of `litellm_params` is sealed, bound to its row, its revision and the origin it may be sent to. The origin is
    sealed too, so that nobody can change it who cannot change the parameters.

    Args:
        database: an open, migrated database.
        keyring: the keys of the instance.
        clock: dates the ids of rows.
        alarm: told of rows that were edited, and of values that do not open.
    """

    def __init__(self, database: Database, keyring: Keyring, clock: Clock, *, alarm: Alarm | None = None) -> None:
        self._database = database
        self._scope = keyring.instance
        self._clock = clock
        self._guard = Guard(keyring, alarm or Alarm())

    async def all(self) -> list[ModelRow]:
        """Every row, oldest first.

        Raises:
            SealBroken: when one does not open.
        """
        query = select(models).where(models.c.org_id == INSTANCE).order_by(models.c.created_at, models.c.id)
        async with self._database.read() as connection:
            rows = await rows_of(connection, query)
        return [await self._opened(row) for row in await self._guard.checked(models, rows)]

    async def get(self, model_id: str) -> ModelRow | None:
        """The row with this id.

        Raises:
            SealBroken: when it does not open.
        """
        async with self._database.read() as connection:
            rows = await rows_of(connection, select(models).where(self._called(model_id)))
        found = [await self._opened(row) for row in await self._guard.checked(models, rows)]
        return found[0] if found else None

    async def add(self, row: ModelRow) -> None:
        """Store a new row.

        Raises:
            Fault: INVALID_REQUEST (409) when the id is in use.
        """
        now = int(self._clock.now() * MILLISECONDS)
        values = self._values(row, time_ordered_id(now, int.from_bytes(os.urandom(10), "big")))
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(models), values)
        except IntegrityError:
            raise Fault(
                Kind.INVALID_REQUEST, "`model_info.id` is in use already", status=409, param="model_info.id"
            ) from None

    async def change(self, row: ModelRow, *, revision: int) -> ModelRow:
        """Write `row` over the one of `revision`, giving it the next.

        Raises:
            Fault: INVALID_REQUEST (409) when it was changed or removed meanwhile.
        """
        changed = msgspec.structs.replace(row, revision=revision + 1)
        before = and_(self._called(row.id), models.c.revision == revision)
        async with self._database.write() as connection:
            place = (await connection.execute(select(models.c.id).where(before))).scalar()
            written = place and await connection.execute(
                update(models).where(before).values(self._values(changed, str(place)))
            )
        if not written or written.rowcount != 1:
            raise Fault(Kind.INVALID_REQUEST, "the model was changed meanwhile; try again", status=409)
        return changed

    async def remove(self, model_id: str) -> bool:
        """Delete a row; False when there was none."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(models).where(self._called(model_id)))).rowcount == 1

    def _called(self, model_id: str) -> ColumnElement[bool]:
        index = self._scope.index(models.name, "name_index", model_id)
        return and_(models.c.org_id == INSTANCE, models.c.name_index == index)

    def _values(self, row: ModelRow, place: str) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(row, name) for name in _SAME}
        index = self._scope.index(models.name, "name_index", row.id)
        values.update(org_id=INSTANCE, id=place, name_index=index)
        details = ModelDetails(
            id=row.id, model_name=row.model_name, origin=row.origin, model_info=dict(row.model_info),
            created_by=row.created_by, updated_by=row.updated_by,
        )  # fmt: skip
        values["details"] = seal(self._scope, details, context(models, values))
        where = context(models, values, "params", row.origin)
        values["params"] = seal_document(self._scope, row.litellm_params, where)
        return stamped(self._scope, models.name, values)

    async def _opened(self, row: Values) -> ModelRow:
        details = await self._guard.opened(models, row, ModelDetails)
        where = context(models, row, "params", details.origin)
        params = await self._guard.loudly(models, row, lambda: open_document(self._scope, row["params"], where))
        fields = {name: getattr(details, name) for name in ModelDetails.__struct_fields__}
        return ModelRow(**fields, litellm_params=params, **{name: row[name] for name in _SAME})
