"""The ledger at rest: every settled record once, its sums, and what keys spent. It must not count a record twice.

Every request pays for this, so records travel as columns: taken apart, judged, summed up and put together again by
loops of the interpreter's own, a chunk at a time, so that requests get their turn in between. Texts become numbers
(`store.names`) on the way: no row holds what a caller wrote.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, compress
from operator import add, itemgetter
from struct import pack
from typing import Any, get_args

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Integer, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.bulk import CHUNK, Bulk
from ostiary.store.database import Database, unavailable
from ostiary.store.names import LABELS, NameKind, Names, Text
from ostiary.store.rows import BIGGEST, MILLISECONDS, SECONDS_PER_DAY, bounded, storable, window_start
from ostiary.store.schema.access import key_spend, virtual_keys
from ostiary.store.schema.ledger import usage, usage_daily, usage_labels, usage_totals

DAY_MILLISECONDS = SECONDS_PER_DAY * MILLISECONDS
LONGEST = 256  # characters of a text in a dictionary
SHORT = 64  # characters of an id or a word
OTHER = "other"  # a word that is none

_ATTEMPTS = 4
_FAILED = frozenset({Outcome.FAILED, Outcome.TRUNCATED, Outcome.BLOCKED})
_OUTCOMES = {outcome: outcome.value for outcome in Outcome}
_PRICES = {price: price.value for price in PriceState}
_WORD = re.compile(r"[a-z0-9][a-z0-9._/-]{0,63}|", re.ASCII)

_BLANK = Record(id="", started=0, endpoint="")
_COUNTS = Usage.__struct_fields__
_NUMBERS = [name for name in Record.__struct_fields__ if type(getattr(_BLANK, name)) is int]
_MOST = {name: 2**31 - 1 if type(usage.c[name].type) is Integer else BIGGEST for name in (*_NUMBERS, *_COUNTS)}
_FLAGS = [name for name in Record.__struct_fields__ if type(getattr(_BLANK, name)) is bool]
_IDS = ("id", "key_id", "team_id", "user_id", "organization_id")
_WORDS = ("endpoint", "provider", "fault")
_NAMED: tuple[NameKind, ...] = ("end_user", "model", "deployment", "upstream_model")  # the rest of its texts
_STORED = [column.name for column in usage.c]
_KEY = itemgetter(*(column.name for column in usage.primary_key))
_PLACE = [column.name for column in usage_daily.primary_key]
_SUMMED = [column.name for column in usage_daily.c if column.name not in {*_PLACE, "requests"}]
_TOTAL_PLACE = itemgetter(*(_PLACE.index(column.name) for column in usage_totals.primary_key))

Columns = dict[str, Sequence[Any]]
Place = tuple[Any, ...]


class UsageRepository:
    """Where settled records go for good (the data plane's `RecordSink`).

    Args:
        database: an open, migrated database.
        names: the dictionaries.
        default_org: the organisation of records that name none.
    """

    def __init__(self, database: Database, names: Names, default_org: str) -> None:
        self._database = database
        self._names = names
        self._default_org = default_org
        # PostgreSQL's driver encodes on the event loop, SQLite's works in a thread.
        self._chunk = CHUNK // 2 if database.dialect.name == "postgresql" else CHUNK
        self._usage = Bulk(usage, database.dialect)
        self._fresh = Bulk(usage, database.dialect, keeping=True)
        self._daily, self._totals, self._labels, self._spend = (
            Bulk(table, database.dialect, adding=True) for table in (usage_daily, usage_totals, usage_labels, key_spend)
        )

    async def save(self, records: Sequence[Record]) -> None:
        """Store records, their sums and their keys' spend in one transaction, each record once.

        A record is known by its organisation, its start and its id. Texts of an organisation whose keys are gone are
        not kept, the rest of its records is.

        Raises:
            Fault: UNAVAILABLE; nothing is stored then, and the same records can be given again.
        """
        chunks = []
        for start in range(0, len(records), self._chunk):
            chunks.append(_storable(records[start : start + self._chunk], self._default_org))
            await asyncio.sleep(0)
        again = False
        for _ in range(_ATTEMPTS if chunks else 0):
            ids = await self._names.resolve(_texts(chunks))
            try:
                if await self._write(chunks, ids, again=again):
                    return
            except IntegrityError:  # some are known: so rare that all is undone, and tried again with care
                again = True
        if chunks:
            raise unavailable()

    async def _write(self, chunks: Sequence[Columns], ids: dict[Text, int], *, again: bool) -> bool:
        """Store everything, or nothing where a label has been removed since it was resolved."""
        numbering, sums = _Numbering(ids), _Sums()
        async with self._database.write() as connection:
            if not await self._names.hold(connection, numbering.labels):
                return False
            for chunk in chunks:
                columns = numbering.number(chunk)
                if again:
                    columns = await self._store_fresh(connection, columns)
                else:
                    await self._usage.store(connection, self._rows(columns))
                sums.count(columns)
            await self._daily.store(connection, _rows(sums.daily))
            await self._totals.store(connection, _rows(_to_totals(sums.daily)))
            await self._labels.store(connection, _rows(sums.labels))
            await self._spend.store(connection, _rows(await _windows(connection, sums.paid)))
        return True

    async def _store_fresh(self, connection: AsyncConnection, columns: Columns) -> Columns:
        """Store those that are not stored yet, each once, and return their columns."""
        stored = await self._fresh.store_fresh(connection, self._rows(columns))
        mine = []
        for key in zip(*_KEY(columns), strict=True):
            mine.append(key in stored)
            stored.discard(key)
        return {name: list(compress(column, mine)) for name, column in columns.items()}

    def _rows(self, columns: Columns) -> Iterable[tuple[Any, ...]]:
        """The rows of `usage`, in values that drivers take without a second look."""
        plain: dict[str, Iterable[Any]] = {name: map(self._usage.flag, columns[name]) for name in _FLAGS}
        plain["outcome"] = map(_OUTCOMES.__getitem__, columns["outcome"])
        plain["price"] = map(_PRICES.__getitem__, columns["price"])
        return zip(*(plain.get(name, columns.get(name)) for name in _STORED), strict=True)


class _Numbering:
    """Puts the numbers of texts in their places."""

    def __init__(self, ids: dict[Text, int]) -> None:
        self.labels = {place: number for place, number in ids.items() if place[1] in LABELS}
        self._ids: dict[NameKind, dict[tuple[str, str], int]] = {kind: {} for kind in get_args(NameKind)}
        for (org_id, kind, text), number in ids.items():
            self._ids[kind][org_id, text] = number
        self._tags: dict[tuple[str, tuple[str, ...]], tuple[tuple[int, ...], bytes]] = {}

    def number(self, chunk: Columns) -> Columns:
        """The columns with ids for texts: `tags` as they are stored, `tag_ids` as they are."""
        columns, orgs = dict(chunk), chunk["org_id"]
        for name in _NAMED:
            columns[name] = list(map(self._ids[name].__getitem__, zip(orgs, columns[name], strict=True)))
        if any(chunk["tags"]):
            tags = [self._packed(org_id, given) for org_id, given in zip(orgs, chunk["tags"], strict=True)]
            columns["tag_ids"], columns["tags"] = zip(*tags, strict=True)
        else:
            columns["tag_ids"], columns["tags"] = chunk["tags"], [b""] * len(orgs)
        return columns

    def _packed(self, org_id: str, tags: tuple[str, ...]) -> tuple[tuple[int, ...], bytes]:
        found = self._tags.get((org_id, tags))
        if found is None:
            of = self._ids["tag"]
            ids = tuple(number for tag in tags if (number := of[org_id, tag]))
            found = self._tags[org_id, tags] = ids, pack(f">{len(ids)}q", *ids)
        return found


class _Sums:
    """The sums of a batch. Places are the primary keys of their tables; `paid` is (`ended`, `cost`) by key."""

    def __init__(self) -> None:
        self.daily: dict[Place, list[int]] = {}
        self.labels: dict[Place, list[int]] = {}
        self.paid: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def count(self, columns: Columns) -> None:
        """Add the records of a chunk."""
        failed = [outcome in _FAILED for outcome in columns["outcome"]]
        days = [started // DAY_MILLISECONDS for started in columns["started"]]
        derived: Columns = {
            "day": days,
            "failed": failed,
            "ok": [not one for one in failed],
            "unpriced": [price is PriceState.UNKNOWN for price in columns["price"]],
        }
        columns = {**columns, **derived}
        places = zip(*(columns[name] for name in _PLACE), strict=True)
        counts = list(zip(*(columns[name] for name in _SUMMED), strict=True))
        groups = defaultdict(list)
        for place, count in zip(places, counts, strict=True):
            groups[place].append(count)
        _accumulate(self.daily, groups)
        for key_id, ended, cost in zip(columns["key_id"], columns["ended"], columns["cost"], strict=True):
            if cost:
                self.paid[key_id].append((ended, cost))
        if any(columns["tag_ids"]) or any(columns["end_user"]):
            self._count_labels(columns, counts)

    def _count_labels(self, columns: Columns, counts: Sequence[tuple[int, ...]]) -> None:
        labelled: dict[Place, list[tuple[int, ...]]] = defaultdict(list)
        of = (columns[name] for name in ("org_id", "day", "tag_ids", "end_user"))
        for org_id, day, tags, end_user, count in zip(*of, counts, strict=True):
            for tag in set(tags) if tags else ():
                labelled[org_id, "tag", day, tag].append(count)
            if end_user:
                labelled[org_id, "end_user", day, end_user].append(count)
        _accumulate(self.labels, labelled)


def _accumulate(sums: dict[Place, list[int]], groups: dict[Place, list[tuple[int, ...]]]) -> None:
    for place, group in groups.items():
        total = [len(group), *map(sum, zip(*group, strict=True))]
        before = sums.get(place)
        sums[place] = total if before is None else list(map(add, before, total))


def _to_totals(daily: dict[Place, list[int]]) -> dict[Place, list[int]]:
    sums: dict[Place, list[int]] = {}
    for place, counts in daily.items():
        short = _TOTAL_PLACE(place)
        before = sums.get(short)
        sums[short] = counts if before is None else list(map(add, before, counts))
    return sums


def _rows(sums: dict[Place, list[int]]) -> Iterable[tuple[Any, ...]]:
    """In the order of their places: two writers that add to the same rows take them in the same order."""
    return ((*place, *sums[place]) for place in sorted(sums))


def _texts(chunks: Sequence[Columns]) -> set[Text]:
    """Every text that needs a number."""
    wanted: set[Text] = set()
    for columns in chunks:
        orgs = columns["org_id"]
        for name in _NAMED:
            wanted.update((org_id, name, text) for org_id, text in set(zip(orgs, columns[name], strict=True)))
        for org_id, tags in set(zip(orgs, columns["tags"], strict=True)):
            wanted.update((org_id, "tag", tag) for tag in tags)
    return wanted


def _storable(records: Sequence[Record], default_org: str) -> Columns:
    """The columns of records, made so that every engine takes them: a request may have put anything into its own.

    A record that cannot be stored would hold up all behind it for ever.
    """
    columns = _columns(records)
    if not _clean(columns):
        columns = _columns([_cleaned(record) for record in records])
    columns["org_id"] = [org_id or default_org for org_id in columns.pop("organization_id")]
    return columns


def _columns(records: Sequence[Record]) -> Columns:
    columns: Columns = dict(zip(Record.__struct_fields__, zip(*map(astuple, records), strict=True), strict=True))
    columns.update(zip(_COUNTS, zip(*map(astuple, columns.pop("usage")), strict=True), strict=True))
    return columns


def _clean(columns: Columns) -> bool:
    short = set().union(*(columns[name] for name in _IDS))
    texts = set(chain.from_iterable(columns["tags"])).union(*(columns[name] for name in _NAMED), short)
    words = set().union(*(columns[name] for name in _WORDS))
    joined = "".join(texts)
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    fitting = max(map(len, short)) <= SHORT and max(map(len, texts)) <= LONGEST and "\0" not in joined
    bound = all(min(columns[name]) >= 0 and max(columns[name]) <= most for name, most in _MOST.items())
    return fitting and bound and all(map(_WORD.fullmatch, words))


def _cleaned(record: Record) -> Record:
    changes: dict[str, Any] = {name: storable(getattr(record, name), SHORT) for name in _IDS}
    changes.update((name, storable(getattr(record, name), LONGEST)) for name in _NAMED)
    changes.update((name, _word(getattr(record, name))) for name in _WORDS)
    changes.update((name, min(bounded(getattr(record, name)), _MOST[name])) for name in _NUMBERS)
    changes["tags"] = tuple(storable(tag, LONGEST) for tag in record.tags)
    changes["usage"] = Usage(**{name: bounded(getattr(record.usage, name)) for name in _COUNTS})
    return msgspec.structs.replace(record, **changes)


def _word(text: str) -> str:
    """Columns of closed sets are stored in clear: whatever is no word of ours does not get there."""
    return text if _WORD.fullmatch(text) else OTHER


async def _windows(connection: AsyncConnection, paid: dict[str, list[tuple[int, int]]]) -> dict[Place, list[int]]:
    """Cost by key and budget window, for the keys that exist, wherever they have moved since.

    A request counts in the window in which it ended, as it does in the data plane. One that ended before the key's
    first window began counts in none: what a key has spent may have been set since.
    """
    ids, sums = sorted(paid), defaultdict[Place, list[int]](lambda: [0])
    columns = virtual_keys.c
    query = select(columns.org_id, columns.id, columns.budget_from, columns.budget_seconds)
    for start in range(0, len(ids), CHUNK):
        found = await connection.execute(query.where(columns.id.in_(ids[start : start + CHUNK])))
        for org_id, key_id, anchor, seconds in found:
            for window, cost in _by_window(paid[key_id], anchor, seconds):
                sums[org_id, key_id, window][0] += cost
    return sums


def _by_window(paid: list[tuple[int, int]], anchor: int, seconds: int | None) -> Iterable[tuple[int, int]]:
    ends, costs = zip(*paid, strict=True)
    earliest = min(ends)
    window = window_start(anchor, seconds, earliest)
    if earliest >= anchor and window == window_start(anchor, seconds, max(ends)):
        return [(window, sum(costs))]  # as nearly always
    return [(window_start(anchor, seconds, ended), cost) for ended, cost in paid if ended >= anchor]
