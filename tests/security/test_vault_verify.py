"""`ostiary vault verify`: it opens everything, names what is broken by table and row, and shows nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Table, select, update
from vault_kit import Instance, filled

from ostiary.store.schema import metadata
from ostiary.store.schema.access import credentials, models, virtual_keys
from ostiary.store.schema.columns import Class, class_of
from ostiary.store.schema.ledger import end_users, tags
from ostiary.store.schema.people import organizations
from ostiary.store.walk import BATCH, places


@pytest.fixture
async def instance(tmp_path: Path) -> Instance:
    """An instance with something of every kind in it."""
    made = Instance(tmp_path / "data")
    await filled(made, keys=6, end_users=BATCH + 20, models=2)
    return made


async def edit(instance: Instance, table: Table, values: dict[str, Any], **where: Any) -> None:
    """Change one row past the program."""
    condition = (table.c[name] == value for name, value in where.items())
    async with instance.opened() as (_, database), database.write() as connection:
        done = await connection.execute(update(table).where(*condition).values(values))
    assert done.rowcount == 1


async def some(instance: Instance, table: Table, count: int = 1) -> list[dict[str, Any]]:
    """Rows as the database has them."""
    async with instance.opened() as (_, database), database.read() as connection:
        query = select(table).order_by(*table.primary_key).limit(count)
        return [row._asdict() for row in await connection.execute(query)]


def test_every_table_with_a_sealed_column_or_a_mac_is_walked() -> None:
    named = {place.name: set(place.sealed) for place in places()}
    for table in metadata.tables.values():
        sealed = {column.name for column in table.c if class_of(column) is Class.SEALED}
        assert named.get(table.name, set()) == sealed
        assert "row_mac" not in table.c or table.name in named


async def test_what_is_whole_is_counted_by_table_and_column(instance: Instance) -> None:
    done = instance.run("verify", "--json")
    assert done.stdout, done.stderr
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout)
    assert found["tables"]["end_users"] == {
        "rows": BATCH + 20, "values": {"details": BATCH + 20}, "macs": 0, "indexes": BATCH + 20, "destroyed": 0,
        "broken": 0,
    }  # fmt: skip
    assert found["tables"]["credentials"]["values"] == {"details": 4, "secret": 4}
    assert found["tables"]["virtual_keys"]["macs"] == 6
    assert found["values"] == sum(sum(table["values"].values()) for table in found["tables"].values())
    assert (found["broken"], found["findings"]) == (0, [])


@pytest.mark.attack("CRY-02")
async def test_cry_02_what_was_moved_damaged_or_edited_is_named_and_not_shown(instance: Instance) -> None:
    first, second = await some(instance, end_users, 2)
    flipped = first["details"][:-1] + bytes((first["details"][-1] ^ 1,))
    await edit(instance, end_users, {"details": flipped}, id=first["id"])
    await edit(instance, end_users, {"name_index": bytes(16)}, id=second["id"])
    one, other = await some(instance, tags, 2)
    await edit(instance, tags, {"details": other["details"]}, id=one["id"])
    await edit(instance, virtual_keys, {"expires": None, "blocked": True}, id="key-000001")
    (organization,) = await some(instance, organizations)
    await edit(instance, organizations, {"state": "locked"}, id=organization["id"])

    done = instance.run("verify")
    assert done.returncode == 1
    told = set(done.stderr.splitlines())
    assert told == {
        f"ostiary: end_users {first['org_id']}/{first['id']}: details does not hold",
        f"ostiary: end_users {second['org_id']}/{second['id']}: name_index does not hold",
        f"ostiary: tags {one['org_id']}/{one['id']}: details does not hold",
        next(line for line in told if line.endswith("/key-000001: row_mac does not hold")),
        f"ostiary: organizations {organization['id']}: row_mac does not hold",
    }
    assert done.stdout.endswith("5 rows are broken\n")
    for inside in ("end-user-", "tag-", "alias-", "sk-"):
        assert inside not in done.stdout + done.stderr


@pytest.mark.attack("CRY-02")
@pytest.mark.parametrize(("table", "column"), [(models, "params"), (credentials, "secret")])
async def test_cry_02_a_credential_under_another_rows_origin_is_found(
    instance: Instance, table: Table, column: str
) -> None:
    one, other = await some(instance, table, 2)
    await edit(instance, table, {column: other[column]}, id=one["id"])
    done = instance.run("verify", "--json")
    assert done.stdout, done.stderr
    assert done.returncode == 1
    named = [(found["table"], found["row"]) for found in msgspec.json.decode(done.stdout)["findings"]]
    assert named == [(table.name, f"{one['org_id']}/{one['id']}")]


async def test_what_is_sealed_under_keys_that_are_nowhere_is_broken(instance: Instance, tmp_path: Path) -> None:
    other = Instance(tmp_path / "other")
    await filled(other, keys=1, end_users=3, models=1)
    (mine,), (theirs,) = await some(instance, end_users), await some(other, end_users)
    await edit(instance, end_users, {"details": theirs["details"]}, id=mine["id"])
    done = instance.run("verify", "--json")
    assert done.stdout, done.stderr
    assert [found["what"] for found in msgspec.json.decode(done.stdout)["findings"]] == ["details"]


async def test_the_status_names_keys_and_ages_and_shows_none(instance: Instance) -> None:
    done = instance.run("status", "--count", "--json")
    assert done.returncode == 0, done.stderr
    status = msgspec.json.decode(done.stdout)
    assert (status["region"], status["kind"], status["rotating"]) == ("local", "local", False)
    assert status["source"] == str(instance.directory / "master.key")
    assert [slot["state"] for slot in status["slots"]] == ["active"]
    assert len(status["scopes"]) == 4
    counted = [key["values"] for keys in status["scopes"].values() for key in keys if key["purpose"] == "db"]
    assert sum(counted) == msgspec.json.decode(instance.run("verify", "--json").stdout)["values"]
    assert (instance.directory / "master.key").read_text().strip() not in done.stdout


async def test_without_a_keystore_no_command_makes_one(tmp_path: Path) -> None:
    empty = Instance(tmp_path / "empty")
    for words in (["status"], ["verify"], ["rotate"], ["shred", "--due"]):
        done = empty.run(*words)
        assert done.returncode == 1
        assert "there is no keystore" in done.stderr
    assert not list(tmp_path.rglob("*.db")) + list(tmp_path.rglob("master.key*"))
