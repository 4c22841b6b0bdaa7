"""What is kept of responses stands nowhere in clear; and where nothing is to be kept, nothing is there at all.

The sinks are those of `test_stored_canaries`: files, logs of changes, dumps, temporary files, backups and output.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kit_stored import Planter, scan
from kit_worlds import World, world

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, eventually
from ostiary.testing.provider import FakeProvider
from ostiary.testing.script import Script

KEEP = {"keep": {"seconds": 3600}}


@dataclass
class Said:
    """A world in which conversations were had, and the canaries in them."""

    world: World
    plant: Planter
    keeps: bool
    key: str
    last: str
    answers: list[str]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["kept", "default"])
def said(
    request: pytest.FixtureRequest, engine: str, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Said]:
    row = deployment("*", provider.url)
    row["litellm_params"]["model"] = "hosted_vllm/*"
    own: dict[str, Any] = {"ledger": {"flush_seconds": 0.05}, **({"responses": KEEP} if request.param else {})}
    config = configuration(row, router_settings={"num_retries": 0, "disable_cooldowns": True}, ostiary=own)
    with world(engine, config, tmp_path_factory.mktemp(engine), "--log-level", "DEBUG") as made:
        plant = Planter()
        key = made.gateway.key()
        last, answers = talk(made.gateway, provider, plant, key, keeps=request.param)
        eventually(lambda: len(made.gateway.records()) >= 4)
        made.save()
        yield Said(made, plant, request.param, key, last, answers)


def talk(gateway: Gateway, provider: FakeProvider, plant: Planter, key: str, *, keeps: bool) -> tuple[str, list[str]]:
    """Four turns, whole and streamed, a canary in everything that is said; the last response, and the answers."""
    last, answers = "", []
    for turn in range(4):
        model, answer = plant(f"model {turn}"), plant(f"answer {turn}")
        answers.append(answer)
        provider.script(model, Script(text=answer))
        fields: dict[str, Any] = {
            "model": model,
            "input": [
                {"role": "user", "content": plant(f"prompt {turn}")},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": plant(f"call {turn}")},
                {"type": "function_call_output", "call_id": "c", "output": plant(f"result {turn}")},
            ],
            "instructions": plant(f"instructions {turn}"),
            "metadata": {"note": plant(f"metadata {turn}")},
            "safety_identifier": plant(f"user {turn}"),
            "tools": [{"type": "function", "name": "f", "description": plant(f"tool {turn}"), "parameters": {}}],
            "stream": bool(turn % 2),
        }
        if keeps and last:
            fields["previous_response_id"] = last
        status, document = gateway.call("POST", "/v1/responses", fields, key=key)
        assert status == 200, document
        if isinstance(document, str):
            document = json.loads(document.rstrip().rpartition("data: ")[2])["response"]
        assert document["store"] is keeps
        last = document["id"]
        gateway.call("GET", f"/v1/responses/{last}/input_items?limit=100&after={plant(f'query {turn}')}", key=key)
        assert len(provider.seen(model)) == 1
    return last, answers


def test_prv_01_nothing_that_was_said_is_found(said: Said) -> None:
    assert scan(said.plant, said.world.sinks()) == []


def test_what_was_kept_is_there_for_its_owner_or_not_at_all(said: Said) -> None:
    gateway = said.world.gateway
    status, items = gateway.call("GET", f"/v1/responses/{said.last}/input_items?limit=100", key=said.key)
    shown = json.dumps(items)
    if said.keeps:
        assert status == 200
        assert all(said.plant.planted[f"{what} {turn}"] in shown for what in ("prompt", "result") for turn in range(4))
        assert all(answer in shown for answer in said.answers[:-1])
    else:
        assert status == 404
        assert said.plant.mark not in shown
    assert count(said.world) == (4 if said.keeps else 0)


def test_prv_01_nothing_is_found_after_a_crash_either(said: Said) -> None:
    """The last of the module: what was only in a log of changes stays there."""
    said.world.gateway.kill()
    assert scan(said.plant, said.world.sinks(), digested=lambda _place: False) == []


def count(world: World) -> int:
    """How many responses the database holds."""
    if world.server is not None:
        return int(world.server.sql("SELECT count(*) FROM responses", "ostiary")[0][0])
    return rows(world.gateway.data_dir)


def rows(data_dir: Path) -> int:
    database = sqlite3.connect(f"file:{data_dir}/ostiary.db?mode=ro", uri=True)
    try:
        return int(database.execute("SELECT count(*) FROM responses").fetchone()[0])
    finally:
        database.close()
