"""Organisations, users and teams by name: made once, told apart, and never in clear."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import pytest
from access_kit import ORG, Access, MovedClock, key, opened_access
from sqlalchemy import func, select

from ostiary.core.fault import Fault, Kind
from ostiary.store.database import Database
from ostiary.store.directory import Directory
from ostiary.store.keys import KeyFilter
from ostiary.store.schema import metadata
from ostiary.store.schema.access import virtual_keys
from ostiary.store.schema.people import memberships, organizations, teams, users
from ostiary.vault.digest import digester
from ostiary.vault.keyring import Keyring
from ostiary.vault.keystore import Edit
from ostiary.vault.purpose import Purpose


@pytest.fixture
async def access(database: Database, keyring: Keyring, clock: MovedClock) -> Access:
    return await opened_access(database, keyring, clock)


@pytest.fixture
def directory(access: Access) -> Directory:
    return access.directory


async def rows(access: Access, table: Any) -> int:
    async with access.database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def test_a_name_is_one_row_however_often_it_is_asked_for(access: Access, directory: Directory) -> None:
    first = [
        await directory.organization("acme"), await directory.team(ORG, "red"), await directory.user(ORG, "ann"),
    ]  # fmt: skip
    again = [
        await directory.organization("acme"), await directory.team(ORG, "red"), await directory.user(ORG, "ann"),
    ]  # fmt: skip
    assert first == again
    assert len(set(first)) == 3
    assert [await rows(access, table) for table in (organizations, teams, users, memberships)] == [2, 1, 1, 1]


async def test_no_name_is_the_default_organisation_which_shows_none(directory: Directory) -> None:
    assert await directory.organization("") == ORG
    assert await directory.organization_names([ORG]) == {ORG: ""}


async def test_ids_and_names_lead_to_each_other(access: Access, directory: Directory) -> None:
    org = await directory.organization("acme")
    team, user = await directory.team(org, "red"), await directory.user(org, "ann")
    for book in (directory, Directory(access.database, access.keyring, access.clock, ORG)):  # remembered, and read
        assert await book.organization_names([org, "", "unknown"]) == {org: "acme"}
        assert await book.team_names([team]) == {team: "red"}
        assert await book.user_names([user, user]) == {user: "ann"}
    assert await directory.find_organization("acme") == org
    assert await directory.find_user("ann") == user
    assert await directory.find_teams("red") == await directory.find_teams("red", org) == [team]
    assert await directory.users_like("n") == {user}
    assert await directory.users_like("x") == set()


async def test_to_look_for_a_name_does_not_make_it(access: Access, directory: Directory) -> None:
    assert await directory.find_organization("nobody") is None
    assert await directory.find_user("nobody") is None
    assert await directory.find_teams("nobody") == []
    assert await rows(access, users) == await rows(access, teams) == 0


@pytest.mark.parametrize("kind", ["organization", "team", "user"])
async def test_many_who_make_the_same_name_at_once_get_the_same_row(
    access: Access, directory: Directory, kind: str
) -> None:
    """Within a process and between two."""
    books = [directory, Directory(access.database, access.keyring, access.clock, ORG)] * 4

    def ask(book: Directory) -> Any:
        if kind == "organization":
            return book.organization("new")
        return book.team(ORG, "new") if kind == "team" else book.user(ORG, "new")

    found = await asyncio.gather(*map(ask, books))
    assert len(set(found)) == 1
    assert access.told == []


async def test_iso_04_the_same_name_in_two_organisations_is_two_teams(access: Access, directory: Directory) -> None:
    a, b = await directory.organization("a"), await directory.organization("b")
    red = [await directory.team(org, "red") for org in (a, b)]
    assert len(set(red)) == 2
    assert sorted(await directory.find_teams("red")) == sorted(red)
    assert await directory.find_teams("red", b) == [red[1]]
    indexes = [(await access.raw(teams, id=team))["name_index"] for team in red]
    assert indexes[0] != indexes[1]


async def test_iso_04_a_key_does_not_take_a_team_or_user_of_another_organisation(
    access: Access, directory: Directory
) -> None:
    a, b = await directory.organization("a"), await directory.organization("b")
    team, user = await directory.team(b, "red"), await directory.user(b, "ann")
    for fields in ({"team_id": team}, {"user_id": user}, {"budget_id": "none"}):
        with pytest.raises(Fault) as refused:
            await access.keys.add(key(1, organization_id=a, **fields))
        assert (refused.value.kind, refused.value.status) == (Kind.INVALID_REQUEST, 400)
    stored = await access.keys.add(key(1, organization_id=a))
    for fields in ({"team_id": team}, {"user_id": user}):
        with pytest.raises(Fault) as refused:
            await access.keys.change(key(1, organization_id=a, **fields), revision=1)
        assert (refused.value.kind, refused.value.status) == (Kind.INVALID_REQUEST, 400)
    assert await access.keys.get(key_id=stored.id) == stored
    assert await access.keys.find(stored.digest) == stored.virtual_key()


async def test_iso_04_an_alias_of_another_organisation_is_free_and_tells_nothing(
    access: Access, directory: Directory
) -> None:
    a, b = await directory.organization("a"), await directory.organization("b")
    await access.keys.add(key(1, organization_id=b, alias="ci"))
    await access.keys.add(key(2, organization_id=a, alias="ci"))
    assert [row.id for row in await access.keys.called("ci", a)] == ["key-000002"]
    assert [row.id for row in await access.keys.called("ci")] == ["key-000001", "key-000002"]
    assert [row.id for row in (await access.keys.page(KeyFilter(organization_id=a)))[0]] == ["key-000002"]
    assert (await access.keys.page(KeyFilter(alias="ci", organization_id=b)))[1] == 1
    indexes = [(await access.raw(virtual_keys, id=key(number).id))["alias_index"] for number in (1, 2)]
    assert indexes[0] != indexes[1]


async def test_a_key_moves_to_another_organisation_with_its_spend_and_its_grace(
    access: Access, directory: Directory, clock: MovedClock
) -> None:
    b = await directory.organization("b")
    stored = await access.keys.add(key(1, alias="ci", models=("m",)), spend=7)
    stored = await access.keys.change(
        msgspec.structs.replace(stored, digest=b"n" * 32), revision=1, retire_until=clock.at + 1000
    )
    moved = await access.keys.change(msgspec.structs.replace(stored, organization_id=b), revision=2)
    assert await access.keys.get(key_id=stored.id) == moved
    assert (moved.organization_id, moved.spend, moved.models) == (b, 7, ("m",))
    found, in_grace = await access.keys.find(b"n" * 32), await access.keys.find(key(1).digest)
    assert found is not None
    assert in_grace is not None
    assert (found.organization_id, found.spend, in_grace.retired_until) == (b, 7, (clock.at + 1000) / 1000)
    assert access.told == []


async def test_users_are_found_by_a_part_of_their_name(access: Access, directory: Directory) -> None:
    made = {await directory.user(ORG, f"user-{number}") for number in range(20)}
    assert await directory.users_like("user-") == made
    assert len(await directory.users_like("-1")) == 11


async def test_organisations_whose_keys_are_gone_are_left_out_and_told_of(access: Access, directory: Directory) -> None:
    org = await directory.organization("lost")
    await access.keys.add(key(1, organization_id=org))
    await access.keys.add(key(2))
    contents = await access.keyring.slots.read([org])
    assert await access.keyring.slots.apply(Edit(drop_keys=tuple(one.id for one in contents.keys)), contents.generation)
    await access.keyring.refresh()
    fresh = Access(access.database, access.keyring, access.clock)
    assert await fresh.keys.find(key(1).digest) is None
    assert [row.id for row in (await fresh.keys.page(KeyFilter()))[0]] == ["key-000002"]
    assert await fresh.directory.organization_names([org]) == {}
    assert ("virtual_keys", key(1).id) in fresh.broken


async def test_what_callers_wrote_is_nowhere_in_the_database(access: Access, directory: Directory) -> None:
    """A4 and the classes of columns: a canary in every field, raw in no column of any table."""
    canary = f"canary{os.urandom(8).hex()}"
    text = f"sk-ost-local-{canary}"
    digest = digester(access.keyring.key(Purpose.APIKEY_PEPPER))(text)
    org = await directory.organization(f"org {canary}")
    user, team = await directory.user(org, f"user {canary}"), await directory.team(org, f"team {canary}")
    await access.keys.add(
        key(1, digest=digest, organization_id=org, user_id=user, team_id=team, alias=f"alias {canary}",
            hint=f"sk-...{canary}", models=(canary,), aliases={canary: canary}, model_rpm={canary: 1},
            model_tpm={canary: 1}, allowed_routes=(canary,), tags=(canary,), metadata={canary: [canary]},
            extra={canary: canary}, created_by=canary, updated_by=canary, budget_duration=canary)
    )  # fmt: skip
    seen = 0
    async with access.database.read() as connection:
        for table in metadata.tables.values():
            for row in await connection.execute(select(table)):
                for value in row:
                    raw = value if isinstance(value, bytes) else str(value).encode()
                    assert canary.encode() not in raw
                    seen += raw == digest
    assert seen == 2  # the search does find what is there: the digest in the key and in `key_digests`
    found = await access.keys.find(digest)
    assert found is not None
    assert found.tags == (canary,)
