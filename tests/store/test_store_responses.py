"""Kept responses at rest, on both engines: sealed, their owner's only, gone when their time is over."""

from __future__ import annotations

from typing import Any

import pytest
from access_kit import ORG, START, Access, MovedClock, opened_access
from sqlalchemy import func, insert, select

from ostiary.core.fault import Fault, Kind
from ostiary.core.kept import KeptResponse
from ostiary.store import responses as module
from ostiary.store.database import Database, Gate
from ostiary.store.responses import ResponseRepository
from ostiary.store.schema.responses import responses
from ostiary.vault.hierarchy import destroy_scope
from ostiary.vault.keyring import Keyring

CANARY = b"what-a-caller-wrote-77"
HOUR = 3600


@pytest.fixture
async def access(database: Database, keyring: Keyring, clock: MovedClock) -> Access:
    return await opened_access(database, keyring, clock)


@pytest.fixture
def shelf(access: Access) -> ResponseRepository:
    return ResponseRepository(access.database, access.keyring, access.clock, ORG, alarm=access.alarm)


def kept(number: int = 1, **fields: Any) -> KeptResponse:
    defaults: dict[str, Any] = {
        "org_id": ORG, "owner": "key:k1", "id": f"resp_{number}", "created": START / 1000,
        "expires": START / 1000 + HOUR, "body": b'{"said":"%b"}' % CANARY,
    }  # fmt: skip
    return KeptResponse(**{**defaults, **fields})


async def size(access: Access) -> int:
    async with access.database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(responses))).scalar_one())


async def test_a_response_comes_back_as_it_was_kept(shelf: ResponseRepository) -> None:
    await shelf.put([kept(1), kept(2, body=b"x" * 2_000_000)])
    assert await shelf.get(ORG, "key:k1", "resp_1") == kept(1)
    assert (await shelf.get(ORG, "key:k1", "resp_2")) == kept(2, body=b"x" * 2_000_000)
    assert await shelf.get(ORG, "key:k1", "resp_3") is None
    assert CANARY.decode() not in repr(await shelf.get(ORG, "key:k1", "resp_1"))


async def test_whoever_names_no_organisation_has_the_default_one(shelf: ResponseRepository) -> None:
    await shelf.put([kept(org_id="")])
    assert await shelf.get("", "key:k1", "resp_1") == kept()
    assert await shelf.get(ORG, "key:k1", "resp_1") == kept()
    assert await shelf.delete("", "key:k1", "resp_1")


async def test_to_keep_one_again_changes_nothing(shelf: ResponseRepository, access: Access) -> None:
    await shelf.put([kept()])
    await shelf.put([kept(body=b"other"), kept(2)])
    assert await shelf.get(ORG, "key:k1", "resp_1") == kept()
    assert await size(access) == 2


async def test_iso_nobody_else_has_it(shelf: ResponseRepository, access: Access) -> None:
    other = await access.directory.organization("acme")
    await shelf.put([kept(), kept(org_id=other, body=b"theirs")])
    for org, owner, name in (
        (ORG, "key:k2", "resp_1"), (ORG, "team:k1", "resp_1"), (other, "key:k2", "resp_1"), (other, "", "resp_1"),
        ("gone", "key:k1", "resp_1"),
    ):  # fmt: skip
        assert await shelf.get(org, owner, name) is None
        assert not await shelf.delete(org, owner, name)
    theirs = await shelf.get(other, "key:k1", "resp_1")
    assert theirs is not None
    assert theirs.body == b"theirs"
    assert await shelf.delete(other, "key:k1", "resp_1")
    assert await shelf.get(ORG, "key:k1", "resp_1") == kept()


async def test_nothing_of_it_is_readable_in_its_row(shelf: ResponseRepository, access: Access) -> None:
    await shelf.put([kept(owner="user:anna")])
    row = await access.raw(responses)
    raw = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
    for word in (CANARY, b"resp_1", b"anna", b"user:"):
        assert word not in raw


async def test_what_has_expired_is_not_there_and_is_deleted(
    shelf: ResponseRepository, access: Access, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP", 2)
    await shelf.put([kept(number) for number in range(5)])
    await shelf.put([kept(9, expires=START / 1000 + 2 * HOUR)])
    assert await shelf.delete_expired() == 0
    clock.at += HOUR * 1000
    assert await shelf.get(ORG, "key:k1", "resp_1") is None
    assert not await shelf.delete(ORG, "key:k1", "resp_1")
    assert await size(access) == 6
    assert await shelf.delete_expired() == 5
    assert await size(access) == 1
    assert await shelf.get(ORG, "key:k1", "resp_9") is not None


@pytest.mark.parametrize("column", ["owner_index", "expires_at", "body"])
async def test_an_edited_row_is_not_there_and_the_alarm_is_told(
    shelf: ResponseRepository, access: Access, column: str
) -> None:
    await shelf.put([kept(1), kept(2, owner="key:k2")])
    mine = await access.raw(responses, owner_index=await index_of(access, "key:k1"))
    theirs = await access.raw(responses, owner_index=await index_of(access, "key:k2"))
    value = theirs[column] if column != "expires_at" else mine[column] + HOUR * 1000
    await access.edit(responses, {column: value}, id_index=mine["id_index"])
    owner = "key:k2" if column == "owner_index" else "key:k1"
    assert await shelf.get(ORG, owner, "resp_1") is None
    assert access.told == [("responses", mine["id_index"].hex())]


async def test_a_row_of_one_organisation_means_nothing_in_another(shelf: ResponseRepository, access: Access) -> None:
    other = await access.directory.organization("acme")
    await shelf.put([kept()])
    row = await access.raw(responses)
    async with access.database.write() as connection:
        await connection.execute(insert(responses), {**row, "org_id": other})
    assert await shelf.get(other, "key:k1", "resp_1") is None


async def test_an_organisation_whose_keys_are_destroyed_has_none(shelf: ResponseRepository, access: Access) -> None:
    other = await access.directory.organization("acme")
    await shelf.put([kept(org_id=other), kept()])
    await destroy_scope(access.keyring, other)
    assert await shelf.get(other, "key:k1", "resp_1") is None
    assert not await shelf.delete(other, "key:k1", "resp_1")
    await shelf.put([kept(2, org_id=other), kept(2)])
    assert await size(access) == 3, "what is not theirs is kept, theirs is let go of"
    assert await shelf.get(ORG, "key:k1", "resp_2") is not None


async def test_keys_without_an_organisation_keep_nothing(shelf: ResponseRepository, access: Access) -> None:
    await access.keyring.create("keys only")
    await shelf.put([kept(org_id="keys only"), kept()])
    assert await size(access) == 1


async def test_a_database_that_is_away_is_no_answer(access: Access) -> None:
    gate = Gate()
    gate.shut("away")
    shelf = ResponseRepository(access.database.behind(gate), access.keyring, access.clock, ORG)
    for work in (shelf.put([kept()]), shelf.get(ORG, "o", "i"), shelf.delete(ORG, "o", "i"), shelf.delete_expired()):
        with pytest.raises(Fault) as refused:
            await work
        assert refused.value.kind is Kind.UNAVAILABLE


async def index_of(access: Access, owner: str) -> bytes:
    return (await access.keyring.organization(ORG)).index("responses", "owner_index", owner)
