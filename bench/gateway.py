"""Ostiary as the subject of the bench: with a priced model, a key that has every limit, and the journal on."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from bench.rig import MODEL, Rig, Subject, free_port

ADMIN_KEY = "sk-ost-bench-administrator-0123456789abcdef"
# Every limit is checked and none is reached.
LIMITS = {"max_budget": 1e6, "budget_duration": "30d", "rpm_limit": 10**9, "tpm_limit": 10**12}


def start(rig: Rig, name: str, *, upstream: int | None = None, data: Path | None = None) -> Subject:
    """Start a gateway on its own core, not yet awaited, with the administrator's key as its key.

    Args:
        rig: the bench.
        name: of its files and in messages.
        upstream: port of the provider; the rig's by default.
        data: its data directory; a new one by default.
    """
    port = free_port()
    deployment = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://127.0.0.1:{upstream or rig.upstream_port}/v1",
        "api_key": "sk-upstream",
        "input_cost_per_token": 1.5e-7,
        "output_cost_per_token": 6e-7,
    }
    config = rig.folder / f"{name}.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": deployment}]}))
    command = [sys.executable, "-m", "ostiary.cli.main", "serve", "--config", str(config)]
    environment = {"OSTIARY_DATA_DIR": str(data or rig.folder / f"{name}-data"), "OSTIARY_ADMIN_KEY": ADMIN_KEY}
    return rig.start(
        name, [*command, "--host", "127.0.0.1", "--port", str(port)], port, ADMIN_KEY, environment=environment
    )


def ready(rig: Rig, name: str, *, upstream: int | None = None, data: Path | None = None) -> Subject:
    """A gateway that answers, with a virtual key of its own."""
    subject = start(rig, name, upstream=upstream, data=data)
    subject.await_answer()
    subject.key = make_keys(subject, 1)[0]
    subject.await_answer()
    return subject


def make_keys(subject: Subject, count: int) -> list[str]:
    """New virtual keys, by the management API. `subject.key` is the administrator's."""
    made = []
    for _ in range(count):
        status, answer = subject.post("/key/generate", {"models": [MODEL], **LIMITS})
        if status != 200:
            raise RuntimeError(f"/key/generate answers {status}: {answer.decode(errors='replace')}")
        made.append(str(json.loads(answer)["key"]))
    return made


def multiply_keys(data: Path, count: int) -> None:
    """Fill the store of a stopped gateway up to `count` keys, each like the newest but for what must be unique.

    They are there to be passed over: nobody shows them, and their MACs, which are copies too, would not fit.
    """
    with closing(sqlite3.connect(data / "ostiary.db")) as store, store:
        store.row_factory = sqlite3.Row
        [present] = store.execute("SELECT count(*) FROM virtual_keys").fetchone()
        fresh = [(f"{number:08d}-{os.urandom(8).hex()}", os.urandom(32)) for number in range(count - present)]
        model = _newest(store, "virtual_keys", "SELECT * FROM virtual_keys ORDER BY created_at DESC LIMIT 1")
        _copy(
            store,
            "virtual_keys",
            ({**model, "id": id_, "digest": digest, "alias_index": None} for id_, digest in fresh),
        )
        model = _newest(store, "key_digests", "SELECT * FROM key_digests LIMIT 1")
        _copy(store, "key_digests", ({**model, "key_id": id_, "digest": digest} for id_, digest in fresh))


def _newest(store: sqlite3.Connection, table: str, query: str) -> dict[str, object]:
    row = store.execute(query).fetchone()
    if row is None:
        raise RuntimeError(f"{table} has no row to copy")
    return dict(row)


def _copy(store: sqlite3.Connection, table: str, rows: Iterator[dict[str, object]]) -> None:
    first = next(rows, None)
    if first is None:
        return
    columns, places = ", ".join(first), ", ".join(f":{column}" for column in first)
    store.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", chain([first], rows))
