"""Deployments and named credentials at rest."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from access_kit import START, Access, MovedClock, opened_access

from ostiary.core.fault import Fault
from ostiary.core.secret import Secret
from ostiary.store.database import Database
from ostiary.store.rows import CredentialRow, ModelRow
from ostiary.store.schema.access import credentials, models
from ostiary.vault.keyring import Keyring

CANARY = "sk-provider-canary-41"


@pytest.fixture
async def access(database: Database, keyring: Keyring, clock: MovedClock) -> Access:
    return await opened_access(database, keyring, clock)


def model(number: int, **fields: Any) -> ModelRow:
    defaults: dict[str, Any] = {
        "id": f"m{number}", "model_name": "gpt", "origin": "https://a.example:443",
        "litellm_params": {
            "model": "openai/gpt-4o", "api_key": Secret(CANARY), "extra_headers": {"x": Secret(CANARY)}, "rpm": 5,
        },
        "model_info": {"mode": "chat", "free": [CANARY]}, "created_at": START + number, "created_by": "admin",
        "updated_at": START, "updated_by": "admin",
    }  # fmt: skip
    return ModelRow(**{**defaults, **fields})


def named(name: str, **fields: Any) -> CredentialRow:
    defaults: dict[str, Any] = {
        "name": name, "provider": "openai", "origin": "https://a.example:443", "values": {"api_key": Secret(CANARY)},
        "description": "for tests", "created_at": START, "updated_at": START,
    }  # fmt: skip
    return CredentialRow(**{**defaults, **fields})


async def test_models_come_back_as_they_were_stored_oldest_first(access: Access) -> None:
    await access.models.add(model(2))
    await access.models.add(model(1))
    assert await access.models.all() == [model(1), model(2)]
    assert await access.models.get("m2") == model(2)
    assert await access.models.get("m3") is None
    assert CANARY not in repr(await access.models.all())


async def test_an_id_is_taken_once_and_free_after_it_is_removed(access: Access) -> None:
    await access.models.add(model(1))
    with pytest.raises(Fault) as taken:
        await access.models.add(model(1))
    assert (taken.value.status, taken.value.param) == (409, "model_info.id")
    assert await access.models.remove("m1") is True
    assert await access.models.remove("m1") is False
    await access.models.add(model(1))


async def test_a_model_is_changed_at_the_revision_that_was_read_only(access: Access) -> None:
    await access.models.add(model(1))
    changed = await access.models.change(model(1, model_name="new", origin="https://b.example:443"), revision=1)
    assert changed.revision == 2
    assert await access.models.get("m1") == changed
    for row, revision in ((model(1), 1), (model(9), 1)):
        with pytest.raises(Fault) as refused:
            await access.models.change(row, revision=revision)
        assert refused.value.status == 409


async def test_nothing_of_a_model_is_readable_in_its_row(access: Access) -> None:
    await access.models.add(model(1, id="callers-own-id"))
    raw = b"".join(
        value if isinstance(value, bytes) else str(value).encode() for value in (await access.raw(models)).values()
    )
    for word in (CANARY, "callers-own-id", "a.example", "gpt", "admin"):
        assert word.encode() not in raw


async def test_credentials_belong_to_their_organisation(access: Access) -> None:
    org = await access.directory.organization("acme")
    await access.credentials.add(named("c"))
    await access.credentials.add(named("c", organization_id=org, description="theirs"))
    assert await access.credentials.get("c") == named("c")
    theirs = await access.credentials.get("c", org)
    assert theirs == named("c", organization_id=org, description="theirs")
    assert await access.credentials.all() == [named("c")]
    assert await access.credentials.all(org) == [theirs]
    assert CANARY not in repr(theirs)
    with pytest.raises(Fault) as taken:
        await access.credentials.add(named("c"))
    assert (taken.value.status, taken.value.param) == (409, "credential_name")
    raw = await access.raw(credentials, org_id=org)
    assert not any(CANARY.encode() in value for value in raw.values() if isinstance(value, bytes))
    assert await access.credentials.remove("c") is True
    assert await access.credentials.remove("c") is False
    assert await access.credentials.get("c", org) == theirs


async def test_credentials_are_changed_at_the_revision_that_was_read_only(access: Access) -> None:
    await access.credentials.add(named("c"))
    changed = await access.credentials.change(
        msgspec.structs.replace(named("c"), values={"api_key": Secret("sk-new")}), revision=1
    )
    assert await access.credentials.get("c") == changed
    assert changed.revision == 2
    for name in ("c", "unknown"):
        with pytest.raises(Fault) as refused:
            await access.credentials.change(named(name), revision=1)
        assert refused.value.status == 409
