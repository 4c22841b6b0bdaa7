"""`kill -9` at any moment: what was finished is on record at its price, what was open is closed at an estimate."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary.testing.factories import DEFAULT_COST, chat, configuration, deployment
from ostiary.testing.gateway import Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, request
from ostiary.testing.script import Script

ROUNDS = 50
HELD = "kill-held"


class Witness:
    """What callers know for certain: the answers they have received whole, and those that had begun."""

    def __init__(self) -> None:
        self.finished: set[str] = set()
        self.begun: set[str] = set()


async def traffic(gateway: Gateway, key: str, witness: Witness, enough: int, dice: random.Random) -> None:
    """Mixed load until `enough` answers have been received whole; then the process is killed among the others."""
    full = asyncio.Event()

    async def caller(model: str, stream: bool) -> None:
        with contextlib.suppress(ConnectionError, AssertionError):
            async with RawConnection(gateway.url) as link:
                while True:
                    await link.send(request("POST", "/v1/chat/completions", chat(model, stream=stream), key=key))
                    if model == HELD:
                        begun = await link.receive(until=2, seconds=30)
                        if begun.status:  # else the kill came first
                            witness.begun.add(begun.header("x-litellm-call-id") or "")
                    answer = await link.receive(seconds=30)
                    if not answer.complete:
                        return
                    assert answer.status == 200
                    witness.finished.add(answer.header("x-litellm-call-id") or "")
                    if len(witness.finished) >= enough:
                        full.set()

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(caller("kill", dice.random() < 0.5 or number == 0))
        for _ in range(2):
            group.create_task(caller(HELD, True))
        group.create_task(_kill(gateway, full, witness))


async def _kill(gateway: Gateway, full: asyncio.Event, witness: Witness) -> None:
    await asyncio.wait_for(full.wait(), 30)
    gateway.kill()


@pytest.fixture(scope="module")
def config(provider: FakeProvider) -> Iterator[dict[str, object]]:
    provider.script(HELD, Script(hold=3))
    yield configuration(deployment("kill", provider.url), deployment(HELD, provider.url))
    provider.release(HELD)


@pytest.mark.slow
@pytest.mark.attack("AVL-01")
def test_avl_01_fifty_kills_lose_no_finished_request_and_leave_none_open(
    config: dict[str, object], tmp_path: Path
) -> None:
    dice = random.Random(20261123)
    data, witness, key = tmp_path / "data", Witness(), ""
    for number in range(ROUNDS):
        with running_gateway(config, data_dir=data) as gateway:
            key = key or gateway.key()
            enough = len(witness.finished) + dice.randint(1, 25)
            asyncio.run(traffic(gateway, key, witness, enough, dice))
        assert len(witness.finished) >= number

    with running_gateway(config, data_dir=data) as gateway:
        certain = witness.finished | witness.begun

        def rows_of_all() -> dict[str, dict[str, Any]]:
            rows = {row["request_id"]: row for row in gateway.records(api_key=key)}
            return {} if certain - rows.keys() else rows

        rows = eventually(rows_of_all, 10, every=0.2)
        for call in witness.finished:
            assert rows[call]["metadata"]["outcome"] == "completed"
            assert rows[call]["spend"] == pytest.approx(DEFAULT_COST)
        interrupted = [row for call, row in rows.items() if call not in witness.finished]
        assert all(row["metadata"]["outcome"] != "open" for row in interrupted)
        assert all(rows[call]["spend"] > 0 for call in witness.begun - witness.finished)
        # conservation: what the key has spent is what its records say, to the nanodollar
        total = sum(round(row["spend"] * 1e9) for row in rows.values())
        spend = gateway.admin("GET", f"/key/info?key={key}")["info"]["spend"]
        assert round(spend * 1e9) == total


@pytest.mark.attack("AVL-01")
def test_avl_01_the_database_is_whole_after_a_kill_while_keys_are_written(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made: list[str] = []
    for _ in range(5):
        with running_gateway(data_dir=data) as gateway:

            def write(gateway: Gateway = gateway) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    while True:
                        made.append(gateway.key(key_alias=secrets.token_hex(8)))

            writer = threading.Thread(target=write)
            before = len(made)
            writer.start()
            eventually(lambda before=before: len(made) >= before + 5, 10)  # type: ignore[misc]
            gateway.kill()
            writer.join()
    for path in data.rglob("*.db"):
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with running_gateway(data_dir=data) as gateway:
        for key in made:  # whatever was answered is there
            assert gateway.admin("GET", f"/key/info?key={key}")["info"]["key_alias"]
