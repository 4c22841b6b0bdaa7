"""Opening a store: made once, private, and refused when it is not ours."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.fault import Fault, Kind
from ostiary.core.secret import Secret
from ostiary.store import migrate
from ostiary.store.database import connect
from ostiary.store.instance import open_store
from ostiary.store.models import ModelRepository
from ostiary.store.rows import ModelRow
from ostiary.store.tables import metadata
from ostiary.vault.document import masked
from ostiary.vault.envelope import SealBroken
from ostiary.vault.keyring import Purpose
from ostiary.vault.master import MasterKey

MASTER = MasterKey(bytes(range(32)), "test")


class FixedClock:
    """Always the same time."""

    def now(self) -> float:
        return 1_790_000_000.0

    def monotonic(self) -> float:
        return 0.0


def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/ostiary.db"


async def test_the_first_start_makes_private_files_and_the_second_finds_the_same_instance(tmp_path: Path) -> None:
    first = await open_store(url(tmp_path), MASTER, FixedClock())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    await first.close()
    second = await open_store(url(tmp_path), MASTER, FixedClock(), region="local")
    assert (second.instance, second.region) == (first.instance, "local")
    assert second.keyring.key(Purpose.APIKEY_PEPPER) == first.keyring.key(Purpose.APIKEY_PEPPER)
    await second.close()


async def test_another_master_key_is_refused_by_name_and_nothing_is_overwritten(tmp_path: Path) -> None:
    await (await open_store(url(tmp_path), MASTER, FixedClock())).close()
    other = MasterKey(bytes(range(1, 33)), "OSTIARY_MASTER_KEY")
    with pytest.raises(Fault) as refused:
        await open_store(url(tmp_path), other, FixedClock())
    assert other.id in refused.value.public
    assert MASTER.id in refused.value.public
    await (await open_store(url(tmp_path), MASTER, FixedClock())).close()


async def test_another_region_is_refused(tmp_path: Path) -> None:
    await (await open_store(url(tmp_path), MASTER, FixedClock(), region="eu")).close()
    with pytest.raises(Fault) as refused:
        await open_store(url(tmp_path), MASTER, FixedClock(), region="us")
    assert "region eu" in refused.value.public


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    await (await open_store(url(tmp_path), MASTER, FixedClock())).close()
    raw = sqlite3.connect(tmp_path / "data" / "ostiary.db")
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    with pytest.raises(Fault) as refused:
        await open_store(url(tmp_path), MASTER, FixedClock())
    assert "9999" in refused.value.public
    assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    raw.close()


async def test_a_failed_migration_stops_the_start_and_is_undone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    raw = sqlite3.connect(tmp_path / "data" / "ostiary.db")
    raw.execute("CREATE TABLE usage_daily (mine TEXT)")
    raw.commit()
    with pytest.raises(Fault) as refused:
        await open_store(url(tmp_path), MASTER, FixedClock())
    assert "migration" in refused.value.public
    assert raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("usage_daily",)]
    raw.close()


@pytest.mark.parametrize(
    "wrong", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://u:canary@h/db", "mysql://h/db"]
)
async def test_urls_of_another_kind_are_refused_without_repeating_them(wrong: str) -> None:
    with pytest.raises(Fault) as refused:
        await open_store(wrong, MASTER, FixedClock())
    assert "canary" not in refused.value.public


async def test_a_file_that_is_no_database_and_a_directory_are_unavailable(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ostiary.db").write_bytes(b"not a database, but a text of some length" * 100)
    with pytest.raises(Fault) as refused:
        await open_store(url(tmp_path), MASTER, FixedClock())
    assert refused.value.kind is Kind.UNAVAILABLE
    with pytest.raises(Fault):
        await open_store(f"sqlite:///{tmp_path}/data", MASTER, FixedClock())


def test_the_stamp_names_the_newest_migration() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations")))
    assert scripts.get_heads() == [migrate.HEAD]


async def test_migrations_make_exactly_the_tables_the_code_knows(tmp_path: Path) -> None:
    migrated = connect(f"sqlite:///{tmp_path}/migrated.db")
    async with migrated.write() as connection:
        await connection.run_sync(migrate._upgrade)
    async with migrated.read() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
        names = await _names(connection)
    await migrated.close()
    assert differences == []
    fresh = await open_store(url(tmp_path), MASTER, FixedClock())
    async with fresh.database.read() as connection:
        assert await _names(connection) == names
    await fresh.close()


async def _names(connection: AsyncConnection) -> list[tuple[str, str]]:
    """Every table and index."""
    query = text("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2")
    return [(row[0], row[1]) for row in await connection.execute(query)]


def test_neither_an_empty_file_nor_a_current_schema_loads_alembic(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from ostiary.store.instance import open_store
from ostiary.vault.master import MasterKey
class Clock:
    def now(self): return 1.0
    def monotonic(self): return 1.0
async def main():
    await (await open_store(sys.argv[1], MasterKey(bytes(range(32)), "test"), Clock())).close()
asyncio.run(main())
print("alembic" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    said = [
        subprocess.run(
            [sys.executable, "-c", program, url(tmp_path)], capture_output=True, text=True, check=True, env=environment
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["False", "False"]


def model(**fields: object) -> ModelRow:
    given: dict[str, object] = {
        "id": "m1", "model_name": "gpt", "origin": "https://api.example:443", "model_info": {"mode": "chat"},
        "litellm_params": {"model": "openai/gpt-4o", "api_key": Secret("canary-credential")},
        "created_at": 1, "created_by": "admin", "updated_at": 1, "updated_by": "admin",
    } | fields  # fmt: skip
    return ModelRow(**given)  # type: ignore[arg-type]


async def test_models_come_back_and_their_credentials_are_nowhere_in_the_files(tmp_path: Path) -> None:
    store = await open_store(url(tmp_path), MASTER, FixedClock())
    models = ModelRepository(store.database, store.keyring.sealer(Purpose.ROW_SEAL))
    await models.add(model())
    changed = await models.change(model(model_name="gpt-2"), revision=1)
    assert await models.all() == [changed]
    (found,) = await models.all()
    assert "canary" not in repr(found)
    assert masked(found.litellm_params)["api_key"] == "****"
    with pytest.raises(Fault) as taken:
        await models.add(model())
    assert taken.value.status == 409
    with pytest.raises(Fault) as overtaken:
        await models.change(model(), revision=1)
    assert overtaken.value.status == 409
    for file in (tmp_path / "data").iterdir():
        assert b"canary-credential" not in file.read_bytes()
    assert await models.remove("m1")
    assert not await models.remove("m1")
    assert await models.get("m1") is None
    await store.close()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE models SET origin = 'https://evil.example:443' WHERE id = 'm1'",
        "UPDATE models SET revision = 2 WHERE id = 'm1'",
        "UPDATE models SET id = 'm3' WHERE id = 'm1'",
        "UPDATE models SET params = (SELECT params FROM models WHERE id = 'm2') WHERE id = 'm1'",
        "UPDATE models SET params = X'' WHERE id = 'm1'",
    ],
)
async def test_cry_02_and_aig_06_an_edited_row_does_not_open(tmp_path: Path, tampering: str) -> None:
    store = await open_store(url(tmp_path), MASTER, FixedClock())
    models = ModelRepository(store.database, store.keyring.sealer(Purpose.ROW_SEAL))
    await models.add(model())
    await models.add(model(id="m2"))
    async with store.database.write() as connection:
        await connection.exec_driver_sql(tampering)
    with pytest.raises(SealBroken):
        await models.all()
    await store.close()
