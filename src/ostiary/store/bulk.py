"""Statements for many rows of a table, put together once. It must not know what the rows mean.

A row is a tuple in the order of the table's columns and goes to the driver as it is: binding thirty-odd values a row in
Python would be half of the work of storing it. This is the one place where engines differ.

SQLite's driver gives the interpreter's lock away and takes it back for every step of a statement. While requests are
served each of these hand-overs can take milliseconds, so many rows share one statement. PostgreSQL takes them as one
array for each column, in a statement that is the same for any number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, String, Table
from sqlalchemy.engine import CursorResult, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

TOGETHER = 100  # rows of one statement, where rows share one
CHUNK = 500  # rows of one call of the driver: between two the event loop gets its turn

# What a driver takes for a boolean column at once: that of SQLite looks long at a `bool` before it takes it for an int.
_FLAGS: dict[str, type[int]] = {"sqlite": int, "postgresql": bool}
# The wider type first: one is a kind of the other.
_ARRAYS = ((BigInteger, "bigint"), (Integer, "integer"), (Boolean, "boolean"), (LargeBinary, "bytea"), (String, "text"))


class Bulk:
    """One table. `flag` makes the value of a boolean column.

    Args:
        table: where the rows go.
        dialect: SQLite's or PostgreSQL's.
        adding: a row whose primary key is there already is added to it, column by column.
        keeping: a row that is there already, by any unique constraint, stays as it is.
    """

    def __init__(self, table: Table, dialect: Dialect, *, adding: bool = False, keeping: bool = False) -> None:
        quote = dialect.identifier_preparer.quote
        name, columns = quote(table.name), [quote(column.name) for column in table.c]
        places = [quote(column.name) for column in table.primary_key]
        self._into = f"INSERT INTO {name} ({', '.join(columns)})"
        self._then = ""
        if adding:
            sums = ", ".join(f"{one} = {name}.{one} + excluded.{one}" for one in columns if one not in places)
            self._then = f" ON CONFLICT ({', '.join(places)}) DO UPDATE SET {sums}"
        if keeping:
            self._then = " ON CONFLICT DO NOTHING"
        self._returning = f" RETURNING {', '.join(places)}"
        self._arrays = dialect.name == "postgresql"
        self.flag = _FLAGS[dialect.name]
        self._row = f"({', '.join('?' * len(columns))})"
        if self._arrays:
            given = ", ".join(f"${number}::{_array(column)}[]" for number, column in enumerate(table.c, 1))
            self._into += f" SELECT * FROM unnest({given})"  # noqa: S608 - names and types of our own tables
        self._many = self._text_of(TOGETHER)

    async def store(self, connection: AsyncConnection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert, or add, all rows. Where rows are added, none of them comes twice.

        Raises:
            IntegrityError: one of them is there already.
        """
        remaining = iter(rows)
        while chunk := list(islice(remaining, CHUNK if self._arrays else TOGETHER)):
            await self._run(connection, chunk, "")

    async def store_fresh(self, connection: AsyncConnection, rows: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Insert those rows that are not there yet, and return their primary keys. For tables made with `keeping`."""
        remaining, stored = iter(rows), set[tuple[Any, ...]]()
        while chunk := list(islice(remaining, CHUNK if self._arrays else TOGETHER)):
            stored.update(map(tuple, await self._run(connection, chunk, self._returning)))
        return stored

    async def _run(
        self, connection: AsyncConnection, chunk: list[tuple[Any, ...]], returning: str
    ) -> CursorResult[Any]:
        if self._arrays:
            columns = tuple(map(list, zip(*chunk, strict=True)))
            return await connection.exec_driver_sql(self._many + returning, columns)
        text = self._many if len(chunk) == TOGETHER else self._text_of(len(chunk))
        return await connection.exec_driver_sql(text + returning, tuple(chain.from_iterable(chunk)))

    def _text_of(self, count: int) -> str:
        rows = "" if self._arrays else f" VALUES {', '.join([self._row] * count)}"
        return f"{self._into}{rows}{self._then}"


def _array(column: Any) -> str:
    return next(name for kind, name in _ARRAYS if isinstance(column.type, kind))
