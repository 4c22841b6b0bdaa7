"""What users of the test kit rely on: the gateway starts, says why it does not, and ends with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import eventually, running_gateway
from ostiary.testing.provider import FakeProvider

A_USERS_TEST = """
pytest_plugins = ["ostiary.testing.plugin"]

def test_my_application(ostiary_gateway, ostiary_provider, ostiary_key, ostiary_model):
    body = {"model": ostiary_model, "messages": [{"role": "user", "content": "nonce-77"}]}
    status, answer = ostiary_gateway.call("POST", "/v1/chat/completions", body, key=ostiary_key)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "nonce-77"
    assert len(ostiary_provider.seen(ostiary_model)) == 1
"""


def test_a_gateway_that_cannot_start_says_why() -> None:
    with pytest.raises(ChildProcessError, match=r"model_list"), running_gateway("model_list: 7\n"):
        pass


def test_leaving_ends_the_process_and_removes_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-developer")
    with running_gateway({"model_list": []}) as gateway:
        environment = Path(f"/proc/{gateway.process.pid}/environ").read_bytes()
        assert b"sk-of-the-developer" not in environment
        data = gateway.data_dir
        assert data.is_dir()
    assert gateway.process.poll() == 0
    assert not data.exists()


def test_a_killed_gateway_is_gone_and_its_data_stays_where_asked(provider: FakeProvider, tmp_path: Path) -> None:
    config = configuration(deployment("m", provider.url))
    with running_gateway(config, data_dir=tmp_path / "data") as gateway:
        key = gateway.key()
        gateway.kill()
        assert gateway.process.poll() == -9
    with running_gateway(config, data_dir=tmp_path / "data") as gateway:
        assert gateway.call("POST", "/v1/chat/completions", {"model": "m", "messages": []}, key=key)[0] == 200


def test_the_plug_in_serves_a_users_own_suite(tmp_path: Path) -> None:
    path = tmp_path / "conftest_free" / "test_mine.py"
    path.parent.mkdir()
    path.write_text(A_USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_eventually_gives_the_value_or_says_what_it_last_saw() -> None:
    answers = iter([0, 0, 7])
    assert eventually(lambda: next(answers)) == 7
    with pytest.raises(AssertionError, match="None"):
        eventually(lambda: None, 0.05)
