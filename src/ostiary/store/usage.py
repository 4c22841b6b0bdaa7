"""The ledger at rest: every settled record once, its sums, and what keys spent. It must not count a record twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table, bindparam, select
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.store.database import Database
from ostiary.store.rows import MILLISECONDS, SECONDS_PER_DAY, bounded, json_text, storable, window_start
from ostiary.store.tables import key_spend, usage, usage_daily, usage_labels, virtual_keys

CHUNK = 200  # records of one statement: between two the event loop gets its turn
DAY_MILLISECONDS = SECONDS_PER_DAY * MILLISECONDS
LONGEST = 256

_FAILED = frozenset({Outcome.FAILED, Outcome.TRUNCATED, Outcome.BLOCKED})
_TOKENS = ("input", "output", "cache_read", "cache_creation", "reasoning")
_COUNTS = (*_TOKENS, "audio_input", "audio_output", "images", "milliseconds", "characters")
_TEXTS = (
    "id", "endpoint", "key_id", "team_id", "user_id", "organization_id", "end_user",
    "model", "deployment", "provider", "upstream_model", "outcome", "fault", "price",
)  # fmt: skip
_NUMBERS = ("started", "status", "attempts", "fallbacks", "first_byte", "ended", "cost", "upstream_ms")
_LENGTHS = {name: getattr(usage.c[name].type, "length", LONGEST) for name in _TEXTS}

Sums = dict[tuple[Any, ...], list[int]]


class UsageRepository:
    """Where settled records go for good (the data plane's `RecordSink`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, records: Sequence[Record]) -> None:
        """Store records, their sums and their keys' spend in one transaction, each record once by its id.

        Raises:
            Fault: UNAVAILABLE; nothing is stored then, and the same records can be given again.
        """
        if not records:
            return
        async with self._database.write() as connection:
            fresh: dict[str, dict[str, Any]] = {}
            for start in range(0, len(records), CHUNK):
                rows = {row["id"]: row for row in map(_usage_row, records[start : start + CHUNK])}
                known = await _known(connection, rows.keys())
                chunk = {name: row for name, row in rows.items() if name not in known and name not in fresh}
                if chunk:
                    await connection.execute(usage.insert(), list(chunk.values()))
                fresh.update(chunk)
            await _add(connection, usage_daily, _daily(fresh.values()))
            await _add(connection, usage_labels, _labels(fresh.values()))
            await _add(connection, key_spend, await _spend(connection, fresh.values()))


def _usage_row(record: Record) -> dict[str, Any]:
    """A record as a row that every engine takes, whatever the request tried to put into it."""
    row: dict[str, Any] = {name: storable(str(getattr(record, name)), _LENGTHS[name]) for name in _TEXTS}
    row.update((name, bounded(getattr(record, name))) for name in _NUMBERS)
    row.update((name, bounded(getattr(record.usage, name))) for name in _COUNTS)
    row["tags"] = json_text([storable(tag, LONGEST) for tag in record.tags])
    row["labels"] = {("tag", storable(tag, LONGEST)) for tag in record.tags if tag}
    if record.end_user:
        row["labels"].add(("end_user", row["end_user"]))
    row["stream"], row["measured"] = record.stream, record.measured
    return row


async def _known(connection: AsyncConnection, ids: Iterable[str]) -> set[str]:
    query = select(usage.c.id).where(usage.c.id.in_(bindparam("ids", expanding=True)))
    return {name for (name,) in await connection.execute(query, {"ids": list(ids)})}


def _daily(rows: Iterable[Mapping[str, Any]]) -> Sums:
    sums: Sums = defaultdict(lambda: [0] * 10)
    for row in rows:
        place = (
            row["started"] // DAY_MILLISECONDS, row["key_id"], row["user_id"], row["team_id"], row["organization_id"],
            row["model"], row["upstream_model"], row["provider"], row["endpoint"],
        )  # fmt: skip
        failed = row["outcome"] in _FAILED
        unpriced = row["price"] == PriceState.UNKNOWN
        counts = (1, not failed, failed, unpriced, *(row[name] for name in _TOKENS), row["cost"])
        sums[place] = [total + count for total, count in zip(sums[place], counts, strict=True)]
    return sums


def _labels(rows: Iterable[Mapping[str, Any]]) -> Sums:
    sums: Sums = defaultdict(lambda: [0] * 3)
    for row in rows:
        for kind, label in row["labels"]:
            total = sums[kind, row["started"] // DAY_MILLISECONDS, label]
            total[0] += 1
            total[1] += row["input"] + row["output"]
            total[2] += row["cost"]
    return sums


async def _spend(connection: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> Sums:
    """Cost by key and budget window, for the keys that exist."""
    priced = [row for row in rows if row["cost"]]
    ids = sorted({row["key_id"] for row in priced})
    windows: dict[str, tuple[int, int | None]] = {}
    query = select(virtual_keys.c.id, virtual_keys.c.budget_from, virtual_keys.c.budget_seconds)
    for start in range(0, len(ids), CHUNK):
        found = await connection.execute(query.where(virtual_keys.c.id.in_(ids[start : start + CHUNK])))
        windows.update((key_id, (anchor, seconds)) for key_id, anchor, seconds in found)
    sums: Sums = defaultdict(lambda: [0])
    for row in priced:
        if row["key_id"] in windows:
            sums[row["key_id"], window_start(*windows[row["key_id"]], row["started"])][0] += row["cost"]
    return sums


async def _add(connection: AsyncConnection, table: Table, sums: Sums) -> None:
    """Add sums to a table whose primary key is the place and whose other columns are the counts, in key order."""
    places = [column.name for column in table.primary_key]
    counts = [column.name for column in table.c if column.name not in places]
    statement = sqlite_insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=places,
        set_={name: table.c[name] + cast("Any", statement.excluded)[name] for name in counts},
    )
    rows = [dict(zip((*places, *counts), (*place, *sums[place]), strict=True)) for place in sorted(sums)]
    for start in range(0, len(rows), CHUNK):
        await connection.execute(statement, rows[start : start + CHUNK])
