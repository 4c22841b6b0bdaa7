"""The dictionaries: texts of requests, sealed once, by the random numbers that records hold. It must not invent a text.

A caller can make up end users and tags without end, so that everything kept in memory is bounded. A number is
remembered only after its row was committed. A label that was removed (`forget`) may still be remembered by another
process: whoever refers to labels asks `hold` in the same transaction.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Select, Table, bindparam, delete, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.store.bulk import CHUNK, Bulk
from ostiary.store.database import Database
from ostiary.store.recent import Recent
from ostiary.store.schema.ledger import end_users, names, tags
from ostiary.store.schema.people import organizations
from ostiary.store.sealing import Alarm, Guard, by_turns, context, seal, unseal
from ostiary.vault.envelope import SealBroken
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import Scope

NameKind: TypeAlias = Literal["model", "deployment", "upstream_model", "end_user", "tag"]
Text = tuple[str, NameKind, str]  # organisation, kind, text
Values = dict[str, Any]
Number = tuple[str, NameKind, int]  # organisation, kind, id

REMEMBERED = 20_000  # ids and texts each; a text has at most 256 characters
LABELS: tuple[NameKind, ...] = ("end_user", "tag")  # what callers make up, and what is forgotten

_TABLES: Mapping[NameKind, Table] = {
    "model": names, "deployment": names, "upstream_model": names, "end_user": end_users, "tag": tags,
}  # fmt: skip
_ATTEMPTS = 3  # two random numbers of 63 bits that are equal end the first
_INDEX = "name_index"


class Named(msgspec.Struct, frozen=True):
    """What is sealed of an entry."""

    name: str


class Names:
    """Texts and their ids. Every text belongs to one organisation and one kind; ids are 1 to 2**63 - 1, and 0 is none.

    Args:
        database: where they rest.
        keyring: the keys of each organisation.
        clock: dates new ones.
        alarm: told of entries that do not open.
    """

    def __init__(self, database: Database, keyring: Keyring, clock: Clock, *, alarm: Alarm | None = None) -> None:
        self._database = database
        self._guard = Guard(keyring, alarm or Alarm())
        self._clock = clock
        self._bulk = {table.name: Bulk(table, database.dialect, keeping=True) for table in (names, end_users, tags)}
        self._ids: Recent[Text, int] = Recent(REMEMBERED)
        self._texts: Recent[Number, str] = Recent(REMEMBERED)

    async def resolve(self, wanted: Collection[Text]) -> dict[Text, int]:
        """The ids of texts, made where there are none, for several organisations at once.

        Texts of an organisation whose keys are gone have the id 0: they can be kept nowhere.

        Raises:
            Fault: UNAVAILABLE.
        """
        found, groups = self._remembered(wanted)
        for (org_id, kind), texts in groups.items():
            try:
                ids = await self._resolved(org_id, kind, texts)
            except IntegrityError:  # keys, but no organisation
                ids = {}
            except Fault as fault:
                if fault.kind is Kind.UNAVAILABLE:
                    raise
                ids = {}
            for text in texts:
                found[org_id, kind, text] = ids.get(text, 0)
        return found

    async def ids(
        self, connection: AsyncConnection, scope: Scope, kind: NameKind, texts: Collection[str]
    ) -> dict[str, int]:
        """The ids of texts, made in this transaction where there are none. New ones are not remembered."""
        indexes = await self._indexes(scope, kind, texts)
        found = await self._known(connection, scope.id, kind, indexes)
        for _ in range(_ATTEMPTS):
            missing = {index: text for index, text in indexes.items() if text not in found}
            if not missing:
                break
            rows = await self._rows(scope, kind, missing)
            await self._bulk[_TABLES[kind].name].store(connection, rows)
            found |= await self._known(connection, scope.id, kind, missing)
        return found

    async def find(self, org_id: str, kind: NameKind, texts: Collection[str]) -> dict[str, int]:
        """The ids of those texts that have one. None of an organisation whose keys are gone."""
        found, groups = self._remembered([(org_id, kind, text) for text in texts])
        ids = {text: number for (_, _, text), number in found.items()}
        for missing in groups.values():
            scope = await self._scope(org_id)
            if scope is not None:
                indexes = await self._indexes(scope, kind, missing)
                async with self._database.read() as connection:
                    ids |= self._remember(org_id, kind, await self._known(connection, org_id, kind, indexes))
        return ids

    async def everywhere(self, kind: NameKind, texts: Collection[str]) -> list[int]:
        """The ids of these texts in every organisation; 0 for the empty text."""
        async with self._database.read() as connection:
            orgs = [org_id for (org_id,) in await connection.execute(select(organizations.c.id))]
        return sorted({number for org_id in orgs for number in (await self.find(org_id, kind, texts)).values()})

    async def texts(self, kind: NameKind, ids: Collection[tuple[str, int]]) -> dict[int, str]:
        """The texts of ids, each given with its organisation; 0 is the empty text.

        One that cannot be shown (forgotten, of an organisation whose keys are gone, or damaged, of which the alarm
        is told) is called by its id.
        """
        texts, missing = {0: ""}, list[tuple[str, int]]()
        named = {place for place in ids if place[1]}
        alive = {org_id for org_id in {org_id for org_id, _ in named} if await self._scope(org_id) is not None}
        for org_id, number in named:
            text = self._texts.get((org_id, kind, number))
            if org_id in alive and text is not None:
                texts[number] = text
            elif org_id in alive:
                missing.append((org_id, number))
        table = _TABLES[kind]
        place = tuple_(table.c.org_id, table.c.id).in_(bindparam("places", expanding=True))
        for start in range(0, len(missing), CHUNK):
            async with self._database.read() as connection:
                some = {"places": missing[start : start + CHUNK]}
                rows = [dict(row) for row in (await connection.execute(select(table).where(place), some)).mappings()]
            texts |= await self._opened(kind, rows)
        return {number: texts.get(number, str(number)) for _, number in ids} | {0: ""}

    async def newest(self, kind: NameKind, limit: int) -> list[str]:
        """The texts made last, each once, in no order; at most `limit`."""
        table = _TABLES[kind]
        query = select(table.c.org_id, table.c.id).order_by(table.c.created_at.desc()).limit(limit)
        async with self._database.read() as connection:
            places = [(org_id, number) for org_id, number in await connection.execute(query)]
        return list(set((await self.texts(kind, places)).values()) - {""})

    async def hold(self, connection: AsyncConnection, labels: Mapping[Text, int]) -> bool:
        """See to it that nobody removes these labels before the end of this transaction.

        Returns:
            False when some are gone already. They are remembered no more, and are to be resolved again.
        """
        whole = True
        for kind in LABELS:
            mine = {(text[0], number): text for text, number in labels.items() if text[1] == kind and number}
            for place in mine.keys() - await _locked(connection, _TABLES[kind], sorted(mine), write=False):
                self._ids.drop(mine[place])
                whole = False
        return whole

    async def lock(self, connection: AsyncConnection, kind: NameKind, places: Sequence[tuple[str, int]]) -> None:
        """Let nobody refer to these labels anew before the end of this transaction, after which they may be gone."""
        await _locked(connection, _TABLES[kind], places, write=True)

    async def forget(self, connection: AsyncConnection, kind: NameKind, places: Sequence[tuple[str, int]]) -> None:
        """Remove labels that nothing refers to; they are to be locked."""
        table = _TABLES[kind]
        place = tuple_(table.c.org_id, table.c.id).in_(bindparam("places", expanding=True))
        await connection.execute(delete(table).where(place), {"places": list(places)})
        gone = {number for _, number in places}
        for org_id, number in places:
            self._texts.drop((org_id, kind, number))
        self._ids.drop_values(gone)

    def clear(self) -> None:
        """Remember nothing: keys of an organisation were destroyed."""
        self._ids, self._texts = Recent(REMEMBERED), Recent(REMEMBERED)

    # --- within ---

    def _remembered(self, wanted: Iterable[Text]) -> tuple[dict[Text, int], dict[tuple[str, NameKind], list[str]]]:
        found: dict[Text, int] = {}
        groups: dict[tuple[str, NameKind], list[str]] = defaultdict(list)
        for place in wanted:
            number = self._ids.get(place) if place[2] else 0
            if number is None:
                org_id, kind, text = place
                groups[org_id, kind].append(text)
            else:
                found[place] = number
        return found, groups

    async def _resolved(self, org_id: str, kind: NameKind, texts: Collection[str]) -> dict[str, int]:
        scope = await self._guard.scope(org_id)
        indexes = await self._indexes(scope, kind, texts)
        async with self._database.read() as connection:
            found = await self._known(connection, org_id, kind, indexes)
        missing = [text for text in texts if text not in found]
        if missing:
            async with self._database.write() as connection:
                found |= await self.ids(connection, scope, kind, missing)
        return self._remember(org_id, kind, found)

    def _remember(self, org_id: str, kind: NameKind, found: dict[str, int]) -> dict[str, int]:
        for text, number in found.items():
            self._ids.put((org_id, kind, text), number)
        return found

    async def _scope(self, org_id: str) -> Scope | None:
        """The keys of an organisation, None when they are gone for good."""
        try:
            return await self._guard.scope(org_id)
        except Fault as fault:
            if fault.kind is Kind.UNAVAILABLE:
                raise
            return None

    async def _indexes(self, scope: Scope, kind: NameKind, texts: Collection[str]) -> dict[bytes, str]:
        table = _TABLES[kind].name
        ordered = sorted(texts)
        indexes = await by_turns(ordered, lambda text: scope.index(table, _INDEX, text))
        return dict(zip(indexes, ordered, strict=True))

    async def _known(
        self, connection: AsyncConnection, org_id: str, kind: NameKind, indexes: Mapping[bytes, str]
    ) -> dict[str, int]:
        query, keys, found = _by_index(kind), list(indexes), dict[str, int]()
        for start in range(0, len(keys), CHUNK):
            answer = await connection.execute(query, {"org": org_id, "indexes": keys[start : start + CHUNK]})
            found.update((indexes[index], number) for index, number in answer)
        return found

    async def _rows(self, scope: Scope, kind: NameKind, missing: Mapping[bytes, str]) -> list[tuple[Any, ...]]:
        """Rows to insert, in the order of their indexes: two writers take them in the same order."""
        drawn = [(index, missing[index], secrets.randbits(63) or 1) for index in sorted(missing)]
        return await by_turns(drawn, lambda one: self._row(scope, kind, *one))

    def _row(self, scope: Scope, kind: NameKind, index: bytes, text: str, number: int) -> tuple[Any, ...]:
        table = _TABLES[kind]
        values: dict[str, Any] = {
            "org_id": scope.id, "id": number, _INDEX: index, "kind": kind, "blocked": False, "revision": 1,
            "created_at": int(self._clock.now() * 1000),
        }  # fmt: skip
        values["details"] = seal(scope, Named(text), context(table, values))
        return tuple(values.get(column.name) for column in table.c)

    async def _opened(self, kind: NameKind, rows: Sequence[Values]) -> dict[int, str]:
        texts: dict[int, str] = {}
        by_org: dict[str, list[Values]] = defaultdict(list)
        for row in rows:
            by_org[row["org_id"]].append(row)
        for org_id, own in by_org.items():
            scope = await self._scope(org_id)
            if scope is None:
                continue
            for row, text in zip(own, await self._all_opened(scope, kind, own), strict=True):
                if text is not None:
                    texts[row["id"]] = text
                    self._texts.put((org_id, kind, row["id"]), text)
        return texts

    async def _all_opened(self, scope: Scope, kind: NameKind, rows: Sequence[Values]) -> list[str | None]:
        table = _TABLES[kind]

        def one(row: Values) -> str | None:
            try:
                return unseal(scope, row["details"], context(table, row), Named).name
            except SealBroken:
                return None

        texts = await by_turns(rows, one)
        for position, text in enumerate(texts):
            if text is None:  # with fresh keys, or loudly
                texts[position] = await self._again(table, rows[position])
        return texts

    async def _again(self, table: Table, row: Values) -> str | None:
        try:
            return (await self._guard.opened(table, row, Named)).name
        except SealBroken:
            return None


def _by_index(kind: NameKind) -> Select[bytes, int]:
    table = _TABLES[kind]
    query = select(table.c[_INDEX], table.c.id).where(
        table.c.org_id == bindparam("org"), table.c[_INDEX].in_(bindparam("indexes", expanding=True))
    )
    return query.where(table.c.kind == kind) if table is names else query


async def _locked(
    connection: AsyncConnection, table: Table, places: Sequence[tuple[str, int]], *, write: bool
) -> set[tuple[str, int]]:
    """Those that are there, locked. SQLite has one writer at a time, and no such locks."""
    place = tuple_(table.c.org_id, table.c.id).in_(bindparam("places", expanding=True))
    query = select(table.c.org_id, table.c.id).where(place).order_by(table.c.org_id, table.c.id)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(key_share=not write, read=not write)
    there: set[tuple[str, int]] = set()
    for start in range(0, len(places), CHUNK):
        answer = await connection.execute(query, {"places": list(places[start : start + CHUNK])})
        there.update((org_id, number) for org_id, number in answer)
    return there
