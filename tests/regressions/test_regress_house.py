"""Starting, reloading and changing models: what the operator is told, and what is in force afterwards."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ostiary.cli.bootstrap import build
from ostiary.cli.house import House, Options
from ostiary.control.compile import StoredModel
from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import running_gateway
from ostiary.testing.provider import FakeProvider

ADDRESS = "http://127.0.0.1:9/v1"
FIRST, SECOND = "sk-first-master-key-0123456789abcdef", "sk-second-master-key-9876543210fedcba"


def serve(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ostiary serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "ostiary.cli.main", "serve", *arguments]
    env = {"PATH": os.environ["PATH"], "OSTIARY_DATA_DIR": str(directory / "data")}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=5, check=False)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = serve(tmp_path, "--port", port)
    assert ended.returncode == 2
    assert "ostiary: " in ended.stderr
    assert port in ended.stderr


@pytest.mark.parametrize("port", ["65536", "99999", "-1"])
def test_a_port_that_cannot_be_is_refused(tmp_path: Path, port: str) -> None:
    try:
        ended = serve(tmp_path, "--port", port)
    except subprocess.TimeoutExpired:
        pytest.fail("it listens, on another port")
    assert ended.returncode == 2
    assert "port" in ended.stderr


def test_no_master_key_is_made_beside_a_database_that_has_another(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_gateway(None, data_dir=data):
        pass
    (data / "master.key").unlink()
    ended = serve(tmp_path, "--port", "0")
    assert ended.returncode == 2
    assert not (data / "master.key").exists()


def test_a_changed_master_key_holds_after_a_reload_or_the_operator_is_told(provider: FakeProvider) -> None:
    rows = [deployment("m", provider.url)]
    with running_gateway(
        configuration(*rows, general_settings={"master_key": FIRST}), env={"OSTIARY_ADMIN_KEY": ""}
    ) as gateway:
        mark = gateway.lines()
        gateway.configure(configuration(*rows, general_settings={"master_key": SECOND}))
        gateway.wait_for("configuration (re|not re)loaded", after=mark)
        status, _ = gateway.call("GET", "/v1/models", key=SECOND)
        assert status == 200 or "master_key" in gateway.output


def test_a_file_that_is_caught_while_it_is_being_written_takes_no_model_away(provider: FakeProvider) -> None:
    """An editor truncates before it writes: an empty file is not a configuration without models."""
    with running_gateway(configuration(deployment("m", provider.url))) as gateway:
        mark = gateway.lines()
        gateway.configure("")
        gateway.wait_for("configuration (re|not re)loaded", after=mark)
        status, _ = gateway.call("GET", "/v1/models/m", key=gateway.admin_key)
        assert status == 200


def test_many_hang_ups_at_once_are_few_reloads(provider: FakeProvider) -> None:
    with running_gateway(configuration(deployment("m", provider.url))) as gateway:
        mark = gateway.lines()
        for _ in range(200):
            gateway.hang_up()
        gateway.wait_for("configuration reloaded", after=mark)
        gateway.terminate()
        assert gateway.wait() == 0
        assert gateway.output.count("configuration reloaded") <= 10


def test_a_reload_beside_a_new_model_keeps_both(tmp_path: Path) -> None:
    async def story() -> list[str]:
        house = await _house(tmp_path, "old")
        try:
            swap = house.compiler([_stored("added")])  # `/model/new` has compiled, and waits for its transaction
            _write(tmp_path, "old", "new")
            await house.reload()
            swap()
            return sorted(house.plane.snapshot.groups)
        finally:
            await house.close()

    assert asyncio.run(story()) == ["added", "new", "old"]


def test_a_new_model_beside_a_reload_keeps_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> list[str]:
        house = await _house(tmp_path, "old")
        compile_it = house.compile

        def slow(*arguments: Any) -> Any:
            """Compiles beside the loop, as a reload does; meanwhile `/model/new` is answered."""
            snapshot = compile_it(*arguments)
            asyncio.run_coroutine_threadsafe(add(), loop).result(5)
            return snapshot

        async def add() -> None:
            monkeypatch.undo()
            house.compiler([_stored("added")])()

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(house, "compile", slow)
        try:
            _write(tmp_path, "old", "new")
            await house.reload()
            return sorted(house.plane.snapshot.groups)
        finally:
            await house.close()

    assert asyncio.run(story()) == ["added", "new", "old"]


def test_a_change_during_a_reload_is_noticed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostiary.cli.house.RELOAD_SECONDS", 0.01)

    async def story() -> set[str]:
        house = await _house(tmp_path, "old")
        compile_it = house.compile

        def interrupted(*arguments: Any) -> Any:
            """The file is read; before its policy is in force, somebody writes it again."""
            monkeypatch.setattr(house, "compile", compile_it)
            snapshot = compile_it(*arguments)
            _write(tmp_path, "old", "first", "second")
            return snapshot

        monkeypatch.setattr(house, "compile", interrupted)
        watching = asyncio.create_task(house.watch_files())
        try:
            await asyncio.sleep(0)
            _write(tmp_path, "old", "first")
            for _ in range(100):
                await asyncio.sleep(0.02)
                if "second" in house.plane.snapshot.groups:
                    break
            return set(house.plane.snapshot.groups)
        finally:
            watching.cancel()
            await house.close()

    assert asyncio.run(story()) == {"old", "first", "second"}


def _write(directory: Path, *names: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(configuration(*(deployment(name, ADDRESS) for name in names))))
    return path


def _stored(name: str) -> StoredModel:
    row = deployment(name, ADDRESS)
    return StoredModel(f"id-{name}", name, row["litellm_params"], {})


async def _house(directory: Path, *names: str) -> House:
    options = Options(config=str(_write(directory, *names)), say=lambda _: None)
    return await build(options, {"OSTIARY_DATA_DIR": str(directory / "data")})
