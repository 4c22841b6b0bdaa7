"""Whose a key is: organisations, teams and users by the names of the compatible API. It must not change a key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from ostiary.control.access.keyfields import KeyFields, ListKeys, Owner
from ostiary.store.directory import Directory
from ostiary.store.keys import KeyFilter
from ostiary.store.rows import KeyRow

_NOBODY: frozenset[str] = frozenset()


class Owners:
    """Names to ids and back. A name in a request that changes a key makes what it names, where that is new.

    Args:
        directory: where names are kept.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    @property
    def default_org(self) -> str:
        """The organisation of a key that names none."""
        return self._directory.default_org

    async def applied(self, row: KeyRow, fields: KeyFields) -> KeyRow:
        """The row with the owners that the fields name. Team and user go along into another organisation, by name."""
        org, user, team = row.organization_id, fields.user_id, fields.team_id
        changes: dict[str, Any] = {}
        if fields.organization_id is not UNSET:
            org = await self._directory.organization(fields.organization_id or "")
        if org != row.organization_id:
            before = (await self.of([row]))[row.id]
            user = before.user_id if user is UNSET else user
            team = before.team_id if team is UNSET else team
            changes = {"organization_id": org, "budget_id": ""}
        if team is not UNSET:
            changes["team_id"] = await self._directory.team(org, team) if team else ""
        if user is not UNSET:
            changes["user_id"] = await self._directory.user(org, user) if user else ""
        return msgspec.structs.replace(row, **changes)

    async def of(self, rows: Iterable[KeyRow]) -> dict[str, Owner]:
        """What callers call the owners of these keys, by the ids of the keys."""
        rows = list(rows)
        users = await self._directory.user_names({row.user_id for row in rows})
        teams = await self._directory.team_names({row.team_id for row in rows})
        orgs = await self._directory.organization_names({row.organization_id for row in rows})
        return {
            row.id: Owner(
                _name(users, row.user_id), _name(teams, row.team_id), _name(orgs, row.organization_id) or None
            )
            for row in rows
        }

    async def filter(self, asked: ListKeys) -> KeyFilter:
        """The part of a filter that says whose keys to list. Names that nothing has match no key."""
        org = await self._directory.find_organization(asked.organization_id) if asked.organization_id else None
        if asked.organization_id and org is None:
            return KeyFilter(user_ids=_NOBODY)
        teams = users = None
        if asked.team_id:
            teams = frozenset(await self._directory.find_teams(asked.team_id, org))
        if asked.user_id and asked.substring_matching:
            users = frozenset(await self._directory.users_like(asked.user_id))
        elif asked.user_id:
            found = await self._directory.find_user(asked.user_id)
            users = _NOBODY if found is None else frozenset({found})
        return KeyFilter(organization_id=org, team_ids=teams, user_ids=users)


def _name(names: Mapping[str, str], one: str) -> str | None:
    """One that cannot be named any more is called by its id."""
    return names.get(one, one) if one else None
