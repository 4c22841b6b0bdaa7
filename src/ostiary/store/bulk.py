"""Statements for many rows of a table, compiled once. It must not know what the rows mean.

A row is a tuple in the order of the table's columns and goes to the driver as it is: binding thirty-odd values a row in
Python would be half of the work of storing it. This is the one place where engines differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, cast

from sqlalchemy import Table, bindparam
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

CHUNK = 500  # rows of one call of the driver: between two the event loop gets its turn

Rows = Sequence[tuple[Any, ...]]
_INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite_insert, "postgresql": postgresql_insert}
_FLAGS: dict[str, type[int]] = {"sqlite": int, "postgresql": bool}  # SQLite's driver is slow to find out about booleans


class Bulk:
    """One table.

    `flag` is the type that the driver takes for a boolean column.
    """

    def __init__(self, table: Table, dialect: Dialect, *, adding: bool = False) -> None:
        """With `adding`, a row whose primary key is there already is added to it, column by column."""
        statement = _INSERTS[dialect.name](table)
        places = [column.name for column in table.primary_key]
        if adding:
            counts = [column.name for column in table.c if column.name not in places]
            sums = {name: table.c[name] + cast("Any", statement.excluded)[name] for name in counts}
            statement = statement.on_conflict_do_update(index_elements=places, set_=sums)
        names = [column.name for column in table.c]
        compiled = statement.values({name: bindparam(name) for name in names}).compile(dialect=dialect)
        assert compiled.positiontup == names, "drivers in use bind by position, in the order of the columns"
        self._text = str(compiled)
        self.flag = _FLAGS[dialect.name]

    async def store(self, connection: AsyncConnection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert, or add, all rows.

        Raises:
            IntegrityError: one of them is there already.
        """
        remaining = iter(rows)
        while chunk := list(islice(remaining, CHUNK)):
            await connection.exec_driver_sql(self._text, chunk)
