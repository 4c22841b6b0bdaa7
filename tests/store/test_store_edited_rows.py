"""Rows that somebody edits in the database, past the program: refused, and told of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from access_kit import ORG, START, Access, MovedClock, key, opened_access

from ostiary.core.fault import Fault
from ostiary.core.secret import Secret
from ostiary.store.database import Database
from ostiary.store.directory import establish
from ostiary.store.keyrows import digest_values
from ostiary.store.keys import KeyFilter
from ostiary.store.rowmac import stamped
from ostiary.store.rows import CredentialRow, ModelRow
from ostiary.store.schema.access import credentials, key_digests, models, virtual_keys
from ostiary.store.schema.people import memberships, teams, users
from ostiary.vault.envelope import SealBroken
from ostiary.vault.keyring import Keyring

OTHER = "org-other"


@pytest.fixture
async def access(database: Database, keyring: Keyring, clock: MovedClock) -> Access:
    opened = await opened_access(database, keyring, clock)
    await establish(database, keyring, clock, OTHER, "other")
    return opened


async def gone(access: Access, number: int) -> None:
    """Nobody finds the key, and the alarm has been told each time."""
    row = key(number)
    asked = [
        await access.keys.find(row.digest), await access.keys.get(key_id=row.id),
        await access.keys.get(digest=row.digest), (await access.keys.names([row.id])).get(row.id),
    ]  # fmt: skip
    assert asked == [None] * 4
    assert row.id not in [one.id for one in (await access.keys.page(KeyFilter()))[0]]
    assert set(access.told) == {("virtual_keys", row.id)}
    assert access.alarm.tampered_rows["virtual_keys"] >= 3
    assert access.broken == []


@pytest.mark.parametrize(
    "edit",
    [
        {"blocked": False}, {"expires": None}, {"expires": START + 10**12}, {"max_budget": 10**15},
        {"max_budget": None}, {"budget_from": START + 1}, {"rpm_limit": None}, {"tpm_limit": 10**9},
        {"max_parallel": None}, {"user_id": None}, {"team_id": None}, {"created_at": START}, {"revision": 7},
        {"alias_index": bytes(16)}, {"row_mac": bytes(33)}, {"row_mac": b"\x01"}, {"row_mac": b""},
        {"details": b"OS"}, {"details": b""},
    ],
    ids=lambda edit: "-".join(edit),
)  # fmt: skip
async def test_cry_06_a_key_that_was_edited_is_no_key(access: Access, edit: dict[str, Any]) -> None:
    user, team = await access.directory.user(ORG, "u"), await access.directory.team(ORG, "t")
    await access.keys.add(
        key(1, blocked=True, expires=START + 60_000, max_budget=5, rpm_limit=1, tpm_limit=1, max_parallel=1,
            user_id=user, team_id=team, alias="a")
    )  # fmt: skip
    await access.edit(virtual_keys, edit, id=key(1).id)
    await gone(access, 1)


async def test_cry_06_a_deleted_key_does_not_come_back(access: Access) -> None:
    await access.keys.add(key(1))
    answering = await access.raw(key_digests, key_id=key(1).id)
    await access.keys.remove([key(1).id])
    await access.edit(virtual_keys, {"deleted_at": None}, id=key(1).id)
    assert await access.keys.find(key(1).digest) is None
    async with access.database.write() as connection:
        await connection.execute(key_digests.insert(), answering)
    await gone(access, 1)


async def test_cry_06_another_text_is_not_made_to_answer_for_a_key(access: Access) -> None:
    """Whoever has a key of his own, and the database, cannot make his text act as somebody else's key."""
    await access.keys.add(key(1))
    await access.keys.add(key(2))
    await access.edit(virtual_keys, {"digest": b"m" * 32}, id=key(1).id)
    await gone(access, 1)
    await access.edit(virtual_keys, {"digest": key(1).digest}, id=key(1).id)
    access.told.clear()
    await access.edit(key_digests, {"key_id": key(1).id}, digest=key(2).digest)
    assert await access.keys.find(key(2).digest) is None
    await access.edit(key_digests, {"digest": b"m" * 32}, key_id=key(1).id, digest=key(2).digest)
    assert await access.keys.find(b"m" * 32) is None
    assert access.told == [("key_digests", key(2).digest.hex()), ("key_digests", (b"m" * 32).hex())]
    assert await access.keys.find(key(1).digest) is not None


async def test_cry_06_a_digest_row_of_an_earlier_text_put_back_is_refused(access: Access, clock: MovedClock) -> None:
    """Its MAC was right once. But the key says itself what its text is, and a grace that has ended has ended."""
    old = await access.keys.add(key(1))
    replaced = await access.raw(key_digests, key_id=old.id)
    await access.keys.change(msgspec.structs.replace(old, digest=b"n" * 32), revision=1, retire_until=START + 1000)
    in_grace = await access.raw(key_digests, digest=old.digest)
    await access.edit(key_digests, replaced, digest=old.digest)
    assert await access.keys.find(old.digest) is None
    assert access.told == [("key_digests", old.digest.hex())]
    await access.edit(key_digests, in_grace, digest=old.digest)
    assert await access.keys.find(old.digest) is not None
    await access.edit(key_digests, {"until": START + 10**9}, digest=old.digest)
    assert await access.keys.find(old.digest) is None
    assert await access.keys.retired(old.id) == []
    await access.edit(key_digests, in_grace, digest=old.digest)
    clock.at += 1000
    assert await access.keys.find(old.digest) is None


async def test_cry_02_details_do_not_open_in_another_row_nor_organisation(access: Access) -> None:
    for number, org in ((1, ORG), (2, ORG), (3, OTHER)):
        await access.keys.add(key(number, organization_id=org, models=(f"m{number}",)))
    raw = [await access.raw(virtual_keys, id=key(number).id) for number in (1, 2, 3)]
    for foreign in raw[1:]:
        access.told.clear()
        access.alarm.tampered_rows.clear()
        await access.edit(virtual_keys, {"details": foreign["details"]}, id=key(1).id)
        await gone(access, 1)
    # Even somebody with the row-mac key in hand, but not the data keys, gets nothing but a loud failure.
    scope = await access.keyring.organization(ORG)
    for foreign in raw[1:]:
        await access.edit(
            virtual_keys, stamped(scope, "virtual_keys", {**raw[0], "details": foreign["details"]}), id=key(1).id
        )
        with pytest.raises(SealBroken):
            await access.keys.find(key(1).digest)
    assert access.broken == [("virtual_keys", key(1).id)] * 2
    await access.edit(virtual_keys, raw[0], id=key(1).id)
    found = await access.keys.find(key(1).digest)
    assert found is not None
    assert found.models == ("m1",)


async def test_cry_02_a_whole_row_does_not_move_to_another_organisation(access: Access) -> None:
    await access.keys.add(key(1, organization_id=OTHER))
    async with access.database.write() as connection:
        await connection.execute(key_digests.delete())
    await access.edit(virtual_keys, {"org_id": ORG}, id=key(1).id)
    async with access.database.write() as connection:
        await connection.execute(key_digests.insert(), digest_values(access.keyring.instance, key(1), key(1).digest))
    await gone(access, 1)


async def test_cry_03_older_details_of_the_same_row_are_refused(access: Access) -> None:
    first = await access.keys.add(key(1, models=("everything",)))
    before = await access.raw(virtual_keys, id=first.id)
    await access.keys.change(msgspec.structs.replace(first, models=("one",)), revision=1)
    after = await access.raw(virtual_keys, id=first.id)
    await access.edit(virtual_keys, {"details": before["details"]}, id=first.id)
    await gone(access, 1)
    await access.edit(virtual_keys, {**after, "details": before["details"], "revision": 1}, id=first.id)
    assert await access.keys.find(first.digest) is None
    scope = await access.keyring.organization(ORG)
    rolled = stamped(scope, "virtual_keys", {**after, "details": before["details"]})
    await access.edit(virtual_keys, rolled, id=first.id)
    with pytest.raises(SealBroken):  # the revision is part of what the value is bound to
        await access.keys.find(first.digest)


async def test_an_edited_key_is_not_changed_nor_given_a_new_window(access: Access) -> None:
    """What is written over would be trusted afterwards."""
    stored = await access.keys.add(key(1, blocked=True))
    await access.edit(virtual_keys, {"blocked": False}, id=stored.id)
    await access.keys.begin_windows("admin")
    with pytest.raises(Fault) as refused:
        await access.keys.change(stored, revision=1)
    assert refused.value.status == 409
    await gone(access, 1)


async def test_keys_that_are_nowhere_are_loud(access: Access) -> None:
    await access.keys.add(key(1))
    scope = await access.keyring.organization(ORG)
    raw = await access.raw(virtual_keys, id=key(1).id)
    details = raw["details"][:4] + b"????????" + raw["details"][12:]
    await access.edit(virtual_keys, stamped(scope, "virtual_keys", {**raw, "details": details}), id=key(1).id)
    for ask in (access.keys.find(key(1).digest), access.keys.page(KeyFilter())):
        with pytest.raises(SealBroken):
            await ask
    assert access.alarm.broken_seals == {"virtual_keys": 2}


async def test_cry_06_edited_people_are_not_found_and_not_made_twice(access: Access) -> None:
    user, team = await access.directory.user(ORG, "ann"), await access.directory.team(ORG, "red")
    for table, edit, where in (
        (users, {"role": "admin"}, {"id": user}),
        (teams, {"blocked": True}, {"id": team}),
        (memberships, {"role": "owner"}, {"user_id": user}),
    ):
        raw = await access.raw(table, **where)
        await access.edit(table, edit, **where)
        with pytest.raises(Fault, match="internal") as refused:
            await (access.directory.team(ORG, "red") if table is teams else access.directory.user(ORG, "ann"))
        assert f"a row of {table.name} was edited" in refused.value.public
        await access.edit(table, raw, **where)
    assert {table for table, _ in access.told} == {"users", "teams", "memberships"}
    assert (await access.directory.user(ORG, "ann"), await access.directory.team(ORG, "red")) == (user, team)


def model(number: int, **fields: Any) -> ModelRow:
    defaults: dict[str, Any] = {
        "id": f"m{number}", "model_name": "gpt", "origin": "https://a.example:443",
        "litellm_params": {"model": "openai/gpt-4o", "api_key": Secret(f"sk-provider-{number}")},
        "model_info": {"mode": "chat"}, "created_at": START + number, "created_by": "admin", "updated_at": START,
        "updated_by": "admin",
    }  # fmt: skip
    return ModelRow(**{**defaults, **fields})


async def test_cry_02_parameters_of_models_do_not_move(access: Access) -> None:
    await access.models.add(model(1))
    await access.models.add(model(2))
    one, two = [await access.raw(models, created_at=START + number) for number in (1, 2)]
    await access.edit(models, {"params": two["params"]}, id=one["id"])
    assert [row.id for row in await access.models.all()] == ["m2"]
    assert await access.models.get("m1") is None
    assert set(access.told) == {("models", one["id"])}
    forged = stamped(access.keyring.instance, "models", {**one, "params": two["params"]})
    await access.edit(models, forged, id=one["id"])
    with pytest.raises(SealBroken):
        await access.models.all()
    assert access.broken == [("models", one["id"])]


async def test_a_credential_does_not_follow_an_edited_origin(access: Access) -> None:
    """Not even for somebody who can seal the details of the row: the values open for their own origin only."""
    await access.credentials.add(
        CredentialRow(name="c", provider="openai", origin="https://a.example:443", values={"api_key": Secret("sk-1")})
    )
    raw = await access.raw(credentials)
    await access.credentials.change(
        CredentialRow(name="c", provider="openai", origin="https://evil.example:443", values={}), revision=1
    )
    moved = await access.raw(credentials)
    instance = access.keyring.instance
    await access.edit(credentials, stamped(instance, "credentials", {**moved, "secret": raw["secret"]}))
    with pytest.raises(SealBroken):
        await access.credentials.get("c")
    assert [table for table, _ in access.broken] == ["credentials"]
