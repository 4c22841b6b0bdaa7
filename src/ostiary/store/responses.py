"""Responses at rest: sealed, found by their owner, gone when their time is over. It must not open one for anybody else.

Ids and owners are blind indexes, so that nobody who holds the file can tell which request a row belongs to, or which
rows are of one person. The envelope is bound to its row, and the MAC covers all of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.exc import IntegrityError

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.kept import KeptResponse
from ostiary.store.bulk import Bulk
from ostiary.store.database import Database
from ostiary.store.rowmac import stamped
from ostiary.store.rows import MILLISECONDS
from ostiary.store.schema.responses import responses
from ostiary.store.sealing import Alarm, Guard, by_turns, context, rows_of
from ostiary.vault.envelope import SealBroken
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import Scope

STEP = 100  # rows deleted in one transaction
PAUSE = 0.01  # seconds between two of them


class ResponseRepository:
    """See `gateway.ports.ResponseStore`.

    Args:
        database: an open, migrated database.
        keyring: the keys of each organisation.
        clock: tells what has expired.
        default_org: the organisation of whoever names none.
        alarm: told of rows that were edited, and of values that do not open.
    """

    def __init__(
        self, database: Database, keyring: Keyring, clock: Clock, default_org: str, *, alarm: Alarm | None = None
    ) -> None:
        self._database = database
        self._guard = Guard(keyring, alarm or Alarm())
        self._clock = clock
        self._default = default_org
        self._bulk = Bulk(responses, database.dialect, keeping=True)

    async def put(self, kept: Sequence[KeptResponse]) -> None:
        """See the port. A transaction for each organisation."""
        by_org: dict[str, list[KeptResponse]] = defaultdict(list)
        for one in kept:
            by_org[one.org_id or self._default].append(one)
        for org_id, own in by_org.items():
            scope = await self._scope(org_id)
            if scope is None:
                continue
            try:
                rows = await by_turns(own, partial(_row, scope), at_once=1)
                async with self._database.write(org_id) as connection:
                    await self._bulk.store(connection, rows)
            except IntegrityError:  # keys, but no organisation
                continue
            except Fault as fault:
                if fault.kind is not Kind.INTERNAL:  # its keys were destroyed just now
                    raise

    async def get(self, org_id: str, owner: str, response_id: str) -> KeptResponse | None:
        """See the port. What was edited, or does not open, is not there; the alarm is told."""
        org_id = org_id or self._default
        scope = await self._scope(org_id)
        if scope is None:
            return None
        mine = (*_place(scope, owner, response_id), responses.c.expires_at > self._now())
        async with self._database.read(org_id) as connection:
            rows = await rows_of(connection, select(responses).where(*mine))
        for row in await self._guard.checked(responses, rows):
            work = partial(scope.open, row["body"], context(responses, row, "body"))
            try:
                body = await self._guard.loudly(responses, row, work)
            except SealBroken:
                return None
            created, expires = row["created_at"] / MILLISECONDS, row["expires_at"] / MILLISECONDS
            return KeptResponse(org_id=org_id, owner=owner, id=response_id, created=created, expires=expires, body=body)
        return None

    async def delete(self, org_id: str, owner: str, response_id: str) -> bool:
        """See the port."""
        org_id = org_id or self._default
        scope = await self._scope(org_id)
        if scope is None:
            return False
        mine = (*_place(scope, owner, response_id), responses.c.expires_at > self._now())
        async with self._database.write(org_id) as connection:
            return (await connection.execute(delete(responses).where(*mine))).rowcount == 1

    async def delete_expired(self) -> int:
        """Delete all whose time is over, some at a time; how many they were.

        Raises:
            Fault: UNAVAILABLE; what is deleted stays deleted.
        """
        place = tuple_(responses.c.org_id, responses.c.id_index)
        some = select(responses.c.org_id, responses.c.id_index).where(responses.c.expires_at <= self._now()).limit(STEP)
        count = 0
        while True:
            async with self._database.write() as connection:
                found = int((await connection.execute(delete(responses).where(place.in_(some)))).rowcount)
            count += found
            if found < STEP:
                return count
            await asyncio.sleep(PAUSE)

    async def _scope(self, org_id: str) -> Scope | None:
        """The keys of an organisation, None when they are gone for good."""
        try:
            return await self._guard.scope(org_id)
        except Fault as fault:
            if fault.kind is not Kind.INTERNAL:
                raise
            return None

    def _now(self) -> int:
        return int(self._clock.now() * MILLISECONDS)


def _place(scope: Scope, owner: str, response_id: str) -> tuple[Any, ...]:
    """The condition for one response of an owner."""
    return (
        responses.c.org_id == scope.id,
        responses.c.id_index == scope.index(responses.name, "id_index", response_id),
        responses.c.owner_index == scope.index(responses.name, "owner_index", owner),
    )


def _row(scope: Scope, one: KeptResponse) -> tuple[Any, ...]:
    values: dict[str, Any] = {
        "org_id": scope.id,
        "id_index": scope.index(responses.name, "id_index", one.id),
        "owner_index": scope.index(responses.name, "owner_index", one.owner),
        "created_at": int(one.created * MILLISECONDS),
        "expires_at": int(one.expires * MILLISECONDS),
    }
    values["body"] = scope.seal(one.body, context(responses, values, "body"))
    whole = stamped(scope, responses.name, values)
    return tuple(whole[column.name] for column in responses.c)
