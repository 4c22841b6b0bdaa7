"""Deployments added over the API, their parameters sealed. It must not answer a row whose seal is broken."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ostiary.core.fault import Fault, Kind
from ostiary.store.database import Database
from ostiary.store.rows import ModelRow, json_text, json_value
from ostiary.store.tables import models
from ostiary.vault.document import open_document, seal_document
from ostiary.vault.envelope import Context, Sealer


class ModelRepository:
    """Rows of `/model/new`.

    All of `litellm_params` is sealed, bound to its row, its revision and the origin it may be sent to: a row whose
    origin was edited in the database does not open.

    Args:
        database: an open, migrated database.
        sealer: `Keyring.sealer(Purpose.ROW_SEAL)`.
    """

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def all(self) -> list[ModelRow]:
        """Every row, oldest first.

        Raises:
            SealBroken: when one does not open.
        """
        async with self._database.read() as connection:
            found = await connection.execute(select(models).order_by(models.c.created_at, models.c.id))
            return [self._opened(row) for row in found]

    async def get(self, model_id: str) -> ModelRow | None:
        """The row with this id.

        Raises:
            SealBroken: when it does not open.
        """
        async with self._database.read() as connection:
            found = (await connection.execute(select(models).where(models.c.id == model_id))).first()
        return None if found is None else self._opened(found)

    async def add(self, row: ModelRow) -> None:
        """Store a new row.

        Raises:
            Fault: INVALID_REQUEST (409) when the id is in use.
        """
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(models), self._values(row))
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
        condition = (models.c.id == row.id, models.c.revision == revision)
        async with self._database.write() as connection:
            written = await connection.execute(update(models).where(*condition).values(self._values(changed)))
        if written.rowcount != 1:
            raise Fault(Kind.INVALID_REQUEST, "the model was changed meanwhile; try again", status=409)
        return changed

    async def remove(self, model_id: str) -> bool:
        """Delete a row; False when there was none."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(models).where(models.c.id == model_id))).rowcount == 1

    def _values(self, row: ModelRow) -> dict[str, object]:
        values = {name: getattr(row, name) for name in ModelRow.__struct_fields__}
        params, info = values.pop("litellm_params"), values.pop("model_info")
        return {**values, "params": seal_document(self._sealer, params, _context(row)), "info": json_text(info)}

    def _opened(self, row: Row[Any]) -> ModelRow:
        values = dict(row._mapping)
        sealed, info = values.pop("params"), values.pop("info")
        shell = ModelRow(**values, litellm_params={}, model_info=json_value(info, dict[str, object]))
        params = open_document(self._sealer, sealed, _context(shell))
        return msgspec.structs.replace(shell, litellm_params=params)


def _context(row: ModelRow) -> Context:
    return Context(table="models", column="params", row=row.id, revision=row.revision, origin=row.origin)
