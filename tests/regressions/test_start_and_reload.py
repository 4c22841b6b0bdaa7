"""What keeps the gateway from starting is said in one line, and what a reload cannot do is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ostiary.cli.reload import needs_restart, refuse_nothing
from ostiary.cli.server import ListenError, listen_on
from ostiary.config.load import load
from ostiary.config.shapes import EdgeSettings, GeneralSettings, Loaded, OstiarySettings, UpstreamSettings
from ostiary.control.compile import demo_deployment
from ostiary.core.fault import FAULTS, Fault, Kind
from ostiary.core.secret import Secret
from ostiary.core.snapshot import EMPTY, PolicySnapshot
from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import running_gateway
from ostiary.testing.provider import FakeProvider

KEY = "ab" * 16 + "0123456789abcdef" * 2


def refused(directory: Path, port: int = 0, **environment: str) -> str:
    """What `ostiary serve` says when it does not start, without the log's lines."""
    command = [sys.executable, "-m", "ostiary.cli.main", "serve", "--port", str(port)]
    env = {"PATH": os.environ["PATH"], "OSTIARY_DATA_DIR": str(directory), **environment}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=10, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert '"event":"message"' not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    return line


def test_a_port_in_use_is_found_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(tmp_path / "data", port) == f"ostiary: port {port} on 127.0.0.1 is in use"
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_for_a_start_is_nobody_elses() -> None:
    (first,) = listen_on("127.0.0.1", 0)
    with first, pytest.raises(ListenError, match="in use"):
        listen_on("127.0.0.1", first.getsockname()[1])


def test_a_data_directory_that_is_a_file_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert refused(tmp_path / "data").endswith("is a file, not a directory")


def test_a_damaged_database_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "ostiary.db").write_bytes(bytes(range(1, 256)) * 32)
    assert "damaged" in refused(tmp_path, OSTIARY_MASTER_KEY=KEY)


@pytest.mark.parametrize("remains", ["ostiary.db", "journal"])
def test_a_lost_master_key_is_asked_for_by_name(tmp_path: Path, remains: str) -> None:
    (tmp_path / remains).mkdir()
    said = refused(tmp_path)
    assert str(tmp_path / "master.key") in said
    assert "restore the file" in said
    assert not (tmp_path / "master.key").exists()


@pytest.mark.parametrize("remains", ["ostiary.db", "journal"])
def test_a_lost_keystore_is_asked_for_by_name(tmp_path: Path, remains: str) -> None:
    (tmp_path / remains).mkdir()
    said = refused(tmp_path, OSTIARY_MASTER_KEY=KEY)
    assert str(tmp_path / "keystore.db") in said
    assert "ostiary restore --keystore" in said
    assert not (tmp_path / "keystore.db").exists()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (Loaded(ostiary=OstiarySettings(edge=EdgeSettings(max_headers=9))), "ostiary.edge.max_headers"),
        (
            Loaded(ostiary=OstiarySettings(upstream=UpstreamSettings(pool_per_origin=9))),
            "ostiary.upstream.pool_per_origin",
        ),
        (Loaded(ostiary=OstiarySettings(drain_seconds=9)), "ostiary.drain_seconds"),
        (Loaded(general=GeneralSettings(key_header="x-k")), "general_settings.litellm_key_header_name"),
        (Loaded(general=GeneralSettings(database_url=Secret("sqlite:///x"))), "general_settings.database_url"),
    ],
)
def test_a_setting_that_is_read_once_is_named(changed: Loaded, name: str) -> None:
    assert needs_restart(Loaded(), changed) == [name]
    assert needs_restart(changed, changed) == []


def test_an_admin_key_that_is_changed_needs_no_restart_and_one_that_is_taken_away_does() -> None:
    first, second = (Loaded(general=GeneralSettings(admin_key=Secret(text))) for text in ("sk-a", "sk-b"))
    assert needs_restart(first, second) == []
    assert needs_restart(first, Loaded()) == ["general_settings.master_key"]


@pytest.mark.parametrize("path", ["/v1/models", "/key/list"])
def test_a_changed_admin_key_is_the_only_one_after_a_reload(provider: FakeProvider, path: str) -> None:
    first, second = (f"sk-{name}-master-key-8f3b1c9e7a5d2046" for name in ("first", "second"))
    rows = [deployment("m", provider.url)]
    config = [configuration(*rows, general_settings={"master_key": key}) for key in (first, second)]
    with running_gateway(config[0], env={"OSTIARY_ADMIN_KEY": ""}) as gateway:
        assert [gateway.call("GET", path, key=key)[0] for key in (first, second)] == [200, 401]
        gateway.configure(config[1])
        gateway.wait_for("configuration reloaded")
        assert [gateway.call("GET", path, key=key)[0] for key in (first, second)] == [401, 200]


def test_only_what_the_configuration_names_is_missed() -> None:
    configured, demo = _with("m"), msgspec.structs.replace(EMPTY, deployments={"demo": demo_deployment()})
    with pytest.raises(Fault) as caught:
        refuse_nothing(configured, demo, ())
    assert "names no deployment" in caught.value.public
    refuse_nothing(demo, demo, ())
    refuse_nothing(demo, configured, ())
    refuse_nothing(configured, configured, ())
    refuse_nothing(_with("stored"), demo, {"stored"})  # the store's are not the file's to name


def _with(name: str) -> PolicySnapshot:
    deployment = msgspec.structs.replace(demo_deployment(), id=name, scheme="https")
    return msgspec.structs.replace(EMPTY, deployments={name: deployment})


def test_a_value_of_the_wrong_kind_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("router_settings: {num_retries: many}\n")
    assert [one.setting for one in load(str(path), {}).findings] == ["router_settings.num_retries"]


def test_retries_that_never_happen_are_not_called_used(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("router_settings: {retry_policy: {BadRequestErrorRetries: 3}}\n")
    (found,) = load(str(path), {}).findings
    assert found.status == "inert"


def test_stopping_is_not_a_missing_database() -> None:
    assert FAULTS[Kind.STOPPING] == (503, "internal_server_error")
