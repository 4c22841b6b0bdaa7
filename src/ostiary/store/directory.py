"""Organisations, users and teams by the names that callers know them by, and back. It must not decide who may do what.

A name that is new makes a bare row: whoever manages people fills it later. A team belongs to one organisation, so the
same name in two of them is two teams; a user belongs to the instance, and to each organisation by a membership.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select, Table, and_, insert, select
from sqlalchemy.exc import IntegrityError

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.ids import time_ordered_id
from ostiary.store.database import Database
from ostiary.store.recent import Recent
from ostiary.store.rowmac import stamped
from ostiary.store.rows import MILLISECONDS
from ostiary.store.schema.people import memberships, organizations, teams, users
from ostiary.store.sealing import AT_ONCE, Alarm, Guard, Values, context, rows_of, seal
from ostiary.vault.keyring import Keyring

REMEMBERED = 20_000  # names of ids kept in memory, of each kind
CHUNK = 500  # rows of one question
_INDEX = "name_index"
_LIMITS: dict[str, Any] = {
    "max_budget": None, "budget_seconds": None, "budget_from": None, "rpm_limit": None, "tpm_limit": None,
}  # fmt: skip


T = TypeVar("T")


class Called(msgspec.Struct, frozen=True):
    """What is sealed of a bare row."""

    name: str


class Directory:
    """Names to ids, ids to names.

    Args:
        database: an open, migrated database.
        keyring: the keys of the instance and its organisations.
        clock: dates new rows and ids.
        default_org: the organisation of whatever names none; it has no name.
        alarm: told of rows that were edited, and of values that do not open.
    """

    def __init__(
        self, database: Database, keyring: Keyring, clock: Clock, default_org: str, *, alarm: Alarm | None = None
    ) -> None:
        self.default_org = default_org
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._guard = Guard(keyring, alarm or Alarm())
        self._turn = asyncio.Lock()
        self._names: dict[str, Recent[str, str]] = {
            table.name: Recent(REMEMBERED) for table in (organizations, users, teams)
        }

    # --- names to ids, made where there are none ---

    async def organization(self, name: str) -> str:
        """The id of this organisation, the default one for no name. A new one gets keys of its own."""
        if not name:
            return self.default_org
        async with self._turn:  # two that make the same one at once would both make keys
            found = await self.find_organization(name)
            if found is None:
                await establish(self._database, self._keyring, self._clock, self._new_id(), name)
                found = _there(await self.find_organization(name), organizations)
        return found

    async def team(self, org_id: str, name: str) -> str:
        """The id of this team of an organisation."""
        scope = await self._guard.scope(org_id)
        where = and_(teams.c.org_id == org_id, teams.c.name_index == scope.index(teams.name, _INDEX, name))

        def make() -> dict[str, Any]:
            values = {
                "org_id": org_id, "id": self._new_id(), "blocked": False, "max_parallel": None, **_LIMITS,
                **self._born(), "deleted_at": None, _INDEX: scope.index(teams.name, _INDEX, name),
            }  # fmt: skip
            values["details"] = seal(scope, Called(name), context(teams, values))
            return stamped(scope, teams.name, values)

        return str((await self._found_or_made(teams, where, make, org_id))["id"])

    async def user(self, org_id: str, name: str) -> str:
        """The id of this user, who is a member of the organisation from here on."""
        instance = self._keyring.instance
        index = instance.index(users.name, _INDEX, name)

        def make() -> dict[str, Any]:
            values = {
                "id": self._new_id(), "email_index": None, "state": "active", "role": "user", "session_version": 1,
                **_LIMITS, **self._born(), "deleted_at": None, _INDEX: index,
            }  # fmt: skip
            values["details"] = seal(instance, Called(name), context(users, values))
            return stamped(instance, users.name, values)

        row = await self._found_or_made(users, users.c.name_index == index, make, None)
        await self._join(org_id, str(row["id"]))
        return str(row["id"])

    # --- names to ids, for filters ---

    async def find_organization(self, name: str) -> str | None:
        """The id of this organisation, None if there is none."""
        index = self._keyring.instance.index(organizations.name, _INDEX, name)
        row = await self._row(organizations, organizations.c.name_index == index)
        return None if row is None else str(row["id"])

    async def find_user(self, name: str) -> str | None:
        """The id of this user, None if there is none."""
        index = self._keyring.instance.index(users.name, _INDEX, name)
        row = await self._row(users, users.c.name_index == index)
        return None if row is None else str(row["id"])

    async def find_teams(self, name: str, org_id: str | None = None) -> list[str]:
        """The ids of the teams of this name: of one organisation, or of all, which asks each one's keys."""
        if org_id is None:
            async with self._database.read() as connection:
                orgs = list((await connection.execute(select(organizations.c.id))).scalars())
        else:
            orgs = [org_id]
        found: list[str] = []
        for org in orgs:
            scope = await self._guard.scope_or_none(organizations.name, org, org)
            if scope is not None:
                index = scope.index(teams.name, _INDEX, name)
                row = await self._row(teams, and_(teams.c.org_id == org, teams.c.name_index == index))
                found += [] if row is None else [str(row["id"])]
        return found

    async def users_like(self, part: str) -> set[str]:
        """The ids of all users whose name has this part. Opens every name."""
        found, last = set[str](), ""
        while True:
            query = select(users).where(users.c.id > last).order_by(users.c.id).limit(CHUNK)
            rows = await self._rows(query)
            if not rows:
                return found
            names = await self._opened(users, rows)
            found.update(user_id for user_id, name in names.items() if part in name)
            last = rows[-1]["id"]

    # --- ids to names ---

    async def organization_names(self, ids: Iterable[str]) -> dict[str, str]:
        """Names of organisations; the default one has an empty one. What cannot be named (any more) is left out."""
        return await self._known(organizations, ids)

    async def user_names(self, ids: Iterable[str]) -> dict[str, str]:
        """Names of users. What cannot be named (any more) is left out."""
        return await self._known(users, ids)

    async def team_names(self, ids: Iterable[str]) -> dict[str, str]:
        """Names of teams. What cannot be named (any more) is left out."""
        return await self._known(teams, ids)

    def forget(self) -> None:
        """Remember no names: one was changed, or its keys were destroyed."""
        for recent in self._names:
            self._names[recent] = Recent(REMEMBERED)

    # --- within ---

    async def _known(self, table: Table, ids: Iterable[str]) -> dict[str, str]:
        names, missing, recent = dict[str, str](), list[str](), self._names[table.name]
        for one in dict.fromkeys(ids):
            name = recent.get(one) if one else None
            if name is not None:
                names[one] = name
            elif one:
                missing.append(one)
        for start in range(0, len(missing), CHUNK):
            query = select(table).where(table.c.id.in_(missing[start : start + CHUNK]))
            for one, name in (await self._opened(table, await self._rows(query))).items():
                recent.put(one, name)
                names[one] = name
        return names

    async def _opened(self, table: Table, rows: Sequence[Values]) -> dict[str, str]:
        """Names by id. The seal binds a name to its row, which is enough to show it."""
        names: dict[str, str] = {}
        for position, row in enumerate(rows):
            if position % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                names[row["id"]] = (await self._guard.opened(table, row, Called)).name
            except Fault as fault:  # shredded, or damaged: the alarm knows
                if fault.kind is Kind.UNAVAILABLE:
                    raise
        return names

    async def _rows(self, query: Select[Any]) -> list[Values]:
        async with self._database.read() as connection:
            return await rows_of(connection, query)

    async def _row(self, table: Table, where: ColumnElement[bool]) -> Values | None:
        found = await self._guard.checked(table, await self._rows(select(table).where(where)))
        return found[0] if found else None

    async def _found_or_made(
        self, table: Table, where: ColumnElement[bool], make: Callable[[], dict[str, Any]], org_id: str | None
    ) -> Values:
        row = await self._row(table, where)
        if row is not None:
            return row
        values = make()
        try:
            async with self._database.write(org_id) as connection:
                await connection.execute(insert(table), values)
        except IntegrityError:  # somebody else made it meanwhile
            return _there(await self._row(table, where), table)
        return values

    async def _join(self, org_id: str, user_id: str) -> None:
        scope = await self._guard.scope(org_id)
        where = and_(memberships.c.org_id == org_id, memberships.c.user_id == user_id)

        def make() -> dict[str, Any]:
            values = {"org_id": org_id, "user_id": user_id, "role": "member", "max_budget": None, **self._born()}
            return stamped(scope, memberships.name, values)

        await self._found_or_made(memberships, where, make, org_id)

    def _born(self) -> dict[str, Any]:
        now = int(self._clock.now() * MILLISECONDS)
        return {"created_at": now, "updated_at": now, "revision": 1}

    def _new_id(self) -> str:
        return time_ordered_id(int(self._clock.now() * MILLISECONDS), int.from_bytes(os.urandom(10), "big"))


async def establish(database: Database, keyring: Keyring, clock: Clock, org_id: str, name: str = "") -> None:
    """Make an organisation, its keys first. One that is there already stays as it is.

    Args:
        org_id: its id.
        name: what callers know it by; the default organisation has none.

    Raises:
        Fault: INTERNAL when keys cannot be made, UNAVAILABLE when the database cannot be asked.
    """
    scope, instance, now = await keyring.create(org_id), keyring.instance, int(clock.now() * MILLISECONDS)
    values: dict[str, Any] = {
        "id": org_id, _INDEX: instance.index(organizations.name, _INDEX, name), "state": "active",
        "session_version": 1, **_LIMITS, "created_at": now, "updated_at": now, "deleted_at": None, "revision": 1,
    }  # fmt: skip
    values["details"] = seal(scope, Called(name), context(organizations, values))
    try:
        async with database.write() as connection:
            await connection.execute(insert(organizations), stamped(instance, organizations.name, values))
    except IntegrityError:
        return


def _there(found: T | None, table: Table) -> T:
    """What a broken constraint says is there. If its MAC does not fit, only a person can help."""
    if found is None:
        public = f"a row of {table.name} was edited in the database and is not trusted: restore it from a backup"
        raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
    return found
