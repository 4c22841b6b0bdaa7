"""What the README shows works as it stands there: the first lines, the configuration, every curl."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import blocks

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.config.load import load
from ostiary.control.compile import compile_snapshot
from ostiary.testing.gateway import Gateway, running_gateway

README = "README.md"
LISTENS = "127.0.0.1:4000"
# A curl that tells its arguments instead of sending anything: the shell's quoting is the real one.
TELLING_CURL = "curl() { for word in \"$@\"; do printf '%s\\0' \"$word\"; done; printf '\\036\\0'; }\n"
VARIABLES = {"OPENAI_API_KEY": "sk-of-a-provider", "OSTIARY_ADMIN_KEY": "sk-0f1e2d3c4b5a69788796a5b4c3d2e1f0"}


def curls(script: str, **variables: str) -> list[list[str]]:
    """The arguments of each curl of a shell script, after the shell has read it."""
    lines = [line for line in script.splitlines() if not line.startswith("export ")]
    told = subprocess.run(
        ["sh", "-eu", "-c", TELLING_CURL + "\n".join(lines)],
        env={"PATH": os.environ["PATH"], **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [call.split("\0")[:-1] for call in told.split("\036\0")[:-1]]


def answer_to(words: list[str], gateway: Gateway) -> tuple[int, bytes]:
    """Do what curl would do with these arguments, at the gateway instead of the address that the README names."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("url")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data")
    parser.add_argument("-N", action="store_true")
    asked = parser.parse_args(words)
    url = urlsplit(asked.url)
    assert url.netloc == LISTENS
    link = http.client.HTTPConnection(gateway.host, gateway.port, timeout=10)
    headers = {name: value.strip() for name, _, value in (header.partition(":") for header in asked.headers)}
    try:
        method = "GET" if asked.data is None else "POST"
        link.request(method, asked.url.removeprefix(f"http://{LISTENS}"), asked.data, headers)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


@pytest.fixture(scope="module")
def fresh() -> Iterator[Gateway]:
    """A gateway as `make run` starts it the first time: no configuration, no admin key."""
    with running_gateway(env={"OSTIARY_ADMIN_KEY": ""}) as gateway:
        gateway.admin_key = gateway.wait_for(r"admin key \(shown once, keep it\): (\S+)$")[1]
        yield gateway


def test_the_first_lines_are_the_two_commands_and_a_call() -> None:
    first, second = blocks(README, "sh")[:2]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make run", "make test"]
    assert second.count("curl ") == 1


def test_every_curl_works_in_order_against_a_first_start(fresh: Gateway) -> None:
    key, seen = "", 0
    for script in blocks(README, "sh"):
        for words in curls(script, ADMIN=fresh.admin_key, KEY=key) if "curl " in script else []:
            status, body = answer_to(words, fresh)
            assert (words[-1], status) == (words[-1], 200), body
            seen += 1
            if "/key/generate" in " ".join(words):
                key = json.loads(body)["key"]
    assert seen == (Path(__file__).parents[2] / README).read_text().count(f"http://{LISTENS}") - 1  # the base URL
    assert fresh.call("GET", "/v1/models", key=key)[0] == 401  # the last one blocked it


def test_the_configuration_loads_and_compiles_without_a_problem(tmp_path: Path) -> None:
    (written,) = blocks(README, "yaml")
    path = tmp_path / "config.yaml"
    path.write_text(written)
    loaded = load(str(path), VARIABLES)
    compiled = compile_snapshot(loaded, (), load_providers(), load_models(), revision=1, admin_digest=b"")
    assert (loaded.problems, compiled.problems) == ((), ())
    assert set(compiled.snapshot.groups) == {"gpt-4o-mini", "local"}
    assert {finding.status.value for finding in loaded.findings} == {"used"}
    assert {d.price_state.value for d in compiled.snapshot.deployments.values()} == {"listed", "free"}
