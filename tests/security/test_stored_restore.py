"""What an operator does in the worst week: back up a gateway at work, and bring it up again elsewhere."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from kit_worlds import World, world

from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import eventually
from ostiary.testing.provider import FakeProvider

OTHER_ENGINE = {"sqlite": "postgresql", "postgresql": "sqlite"}


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(provider: FakeProvider) -> dict[str, object]:
    return configuration(deployment("*", provider.url), ostiary={"ledger": {"flush_seconds": 0.05}})


@pytest.fixture
def old(engine: str, config: dict[str, object], tmp_path: Path) -> Iterator[World]:
    with world(engine, config, tmp_path / "old") as made:
        yield made


def test_a_gateway_moves_to_the_other_engine_with_its_keys_records_and_sums(
    old: World, engine: str, config: dict[str, object], tmp_path: Path
) -> None:
    key = old.gateway.key(key_alias="the alias", user_id="somebody", tags=["t"], max_budget=5)
    assert old.gateway.call("POST", "/v1/chat/completions", json.loads(chat("m", user="end user")), key=key)[0] == 200
    records = eventually(lambda: old.gateway.records(api_key=key))
    old.save()
    info = old.gateway.admin("GET", f"/key/info?key={key}")["info"]
    with restored(old, OTHER_ENGINE[engine], config, tmp_path / "new") as new:
        again = new.gateway.admin("GET", f"/key/info?key={key}")["info"]
        assert {**again, "updated_at": None} == {**info, "updated_at": None}
        assert new.gateway.records(api_key=key) == records
        assert new.gateway.call("POST", "/v1/chat/completions", json.loads(chat("m")), key=key)[0] == 200
        assert new.gateway.call("POST", "/v1/chat/completions", json.loads(chat("m")), key=f"{key}x")[0] == 401


def restored(old: World, engine: str, config: dict[str, object], root: Path) -> AbstractContextManager[World]:
    """A gateway at another place, brought up from backups and the master key."""

    def bring_back(run: Callable[..., CompletedProcess[str]], data: Path) -> None:
        data.mkdir(mode=0o700)
        shutil.copy(old.gateway.data_dir / "master.key", data)
        backup = str(old.root / "main.backup")
        early = run("restore", backup)
        assert early.returncode == 1
        assert "restore --keystore" in early.stderr
        for words in (
            ("restore", "--keystore", str(old.root / "keystore.backup")),
            ("restore", "--check", backup),
            ("restore", backup),
        ):
            done = run(*words)
            assert done.returncode == 0, done.stderr

    return world(engine, config, root, before=bring_back)


def test_commands_refuse_in_one_line_and_change_nothing(old: World) -> None:
    old.save()
    main, keystore = old.root / "main.backup", old.root / "keystore.backup"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (main, keystore)} == {0o600}
    before = main.read_bytes()
    for words, expected in {
        ("backup", "main.backup"): "exists",
        ("backup", "--keystore", "keystore.backup"): "exists",
        ("backup", "nowhere/main.backup"): "cannot be written",
        ("restore", "main.backup"): "not empty",
        ("restore", "--keystore", "keystore.backup"): "already",
        ("restore", "keystore.backup"): "no backup",
        ("restore", "missing"): "cannot be read",
    }.items():
        done = old.run(*words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("ostiary: ")
        assert expected in done.stderr
    assert main.read_bytes() == before
    assert old.gateway.key()
