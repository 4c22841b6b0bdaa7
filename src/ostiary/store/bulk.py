"""Statements for many rows of a table, compiled once. It must not know what the rows mean.

A row is a tuple in the order of the table's columns and goes to the driver as it is: binding thirty-odd values a row in
Python would be half of the work of storing it. This is the one place where engines differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from itertools import chain, islice
from typing import Any

from sqlalchemy import Table, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

TOGETHER = 100  # rows of one statement, where rows share one
CHUNK = 500  # rows of one call of the driver: between two the event loop gets its turn

# What a driver takes for a boolean column at once: that of SQLite looks long at a `bool` before it takes it for an int.
_FLAGS: dict[str, type[int]] = {"sqlite": int, "postgresql": bool}
_ROW = re.compile(r"VALUES (\([^)]*\))")
_NUMBER = re.compile(r"\$(\d+)")


class Bulk:
    """One table. `flag` makes the value of a boolean column.

    Args:
        table: where the rows go.
        dialect: SQLite's or PostgreSQL's; the one in use is loaded already, the other is not loaded for this.
        adding: a row whose primary key is there already is added to it, column by column.
        keeping: a row that is there already, by any unique constraint, stays as it is.
    """

    def __init__(self, table: Table, dialect: Dialect, *, adding: bool = False, keeping: bool = False) -> None:
        statement = import_module(f"sqlalchemy.dialects.{dialect.name}").insert(table)
        places = [column.name for column in table.primary_key]
        if adding:
            counts = [column.name for column in table.c if column.name not in places]
            sums = {name: table.c[name] + statement.excluded[name] for name in counts}
            statement = statement.on_conflict_do_update(index_elements=places, set_=sums)
        if keeping:
            statement = statement.on_conflict_do_nothing()
        names = [column.name for column in table.c]
        compiled = statement.values({name: bindparam(name) for name in names}).compile(dialect=dialect)
        assert compiled.positiontup == names, "drivers in use bind by position, in the order of the columns"
        self._text = str(compiled)
        self._key = ", ".join(places)
        self.flag = _FLAGS[dialect.name]
        # SQLite's driver gives the interpreter's lock away and takes it back for every step of a statement. While
        # requests are served each of these hand-overs can take milliseconds, so many rows share one statement.
        row = f"({', '.join('?' * len(names))})"
        self._together = TOGETHER if dialect.name == "sqlite" else 0
        self._many = self._text.replace(row, ", ".join([row] * TOGETHER), 1) if self._together else ""

    async def store(self, connection: AsyncConnection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert, or add, all rows.

        Raises:
            IntegrityError: one of them is there already.
        """
        remaining = iter(rows)
        while chunk := list(islice(remaining, self._together or CHUNK)):
            if len(chunk) == self._together:
                await connection.exec_driver_sql(self._many, tuple(chain.from_iterable(chunk)))
            else:
                await connection.exec_driver_sql(self._text, chunk)

    async def store_fresh(self, connection: AsyncConnection, rows: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Insert those rows that are not there yet, and return their primary keys. For tables made with `keeping`."""
        remaining, stored = iter(rows), set[tuple[Any, ...]]()
        while chunk := list(islice(remaining, TOGETHER)):
            text = f"{self._text_of(len(chunk))} RETURNING {self._key}"
            answer = await connection.exec_driver_sql(text, tuple(chain.from_iterable(chunk)))
            stored.update(map(tuple, answer))
        return stored

    def _text_of(self, count: int) -> str:
        """The statement for so many rows. PostgreSQL's driver numbers its parameters."""
        found = _ROW.search(self._text)
        assert found is not None, "a statement has a row of values"
        row, width = found[1], len(_NUMBER.findall(found[1]))
        many = ", ".join(
            _NUMBER.sub(lambda each, by=position * width: f"${int(each[1]) + by}", row) for position in range(count)
        )
        return self._text.replace(row, many, 1)
