"""What callers and operators write is found nowhere in what is kept: not in files, logs of changes, dumps, temporary
files, backups or output, on either engine.

One canary for each text of the management API, each position of a prompt and each kind of answer. The fields are taken
from the API's own declarations: one that is added has no canary, and the test says so.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from kit_stored import Planter, scan
from kit_worlds import World, world
from sqlalchemy import String

from ostiary.control.access.keyfields import GenerateKey, RegenerateKey, UpdateKey
from ostiary.control.access.modelfields import NewModel
from ostiary.store.inventory import TABLES, entries, tables, text_measures, words
from ostiary.store.schema.columns import Class, class_of
from ostiary.testing import script as scripts
from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import Gateway, eventually
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, fetch, request
from ostiary.testing.script import BEFORE_HEAD, Script

# Fields of the API that hold no text of the caller's choice: numbers, times, yes and no, and words of ours.
NO_TEXT = {
    "duration", "max_budget", "soft_budget", "budget_duration", "spend", "rpm_limit", "tpm_limit",
    "max_parallel_requests", "blocked", "cancel_in_flight", "grace_period", "allowed_routes",
}  # fmt: skip
# Whose digests are searched as well: one search costs as many looks as there are canaries.
WITH_DIGESTS = ("generate:", "model:", "completed", "tag", "user", "prompt")
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|[0-9a-f-]{16,36}|-|admin|")


def no_digests(place: str) -> bool:
    """No digests."""
    return False


class Said:
    """A world in which everything has been said once, and the canaries for it."""

    def __init__(self, world: World, plant: Planter) -> None:
        self.world = world
        self.plant = plant


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def said(
    request: pytest.FixtureRequest, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Said]:
    plant = Planter()
    config = configuration(
        deployment("*", provider.url),
        router_settings={"num_retries": 0, "disable_cooldowns": True},
        ostiary={"ledger": {"flush_seconds": 0.05}, "upstream": {"first_byte_seconds": 0.5}},
    )
    root = tmp_path_factory.mktemp(request.param)
    with world(request.param, config, root, "--log-level", "DEBUG") as made:
        asyncio.run(say_everything(made.gateway, provider, plant))
        made.save()
        yield Said(made, plant)


async def say_everything(gateway: Gateway, provider: FakeProvider, plant: Planter) -> None:
    key = manage_keys(gateway, plant)
    manage_models(gateway, plant)
    await ask_everything(gateway, provider, plant, key)
    # what is kept is shown to those who may see it, when its record has reached the store
    eventually(lambda: plant.planted["request user"] in json.dumps(gateway.records(api_key=key)))
    shown = gateway.admin("GET", "/key/list?size=100&return_full_object=true")
    assert plant.planted["generate: alias"] in json.dumps(shown)
    assert len(plant.planted) > 80


def test_prv_01_cry_12_nothing_that_was_written_or_said_is_found(said: Said) -> None:
    hits = scan(said.plant, said.world.sinks(), digested=lambda place: place.startswith(WITH_DIGESTS))
    assert hits == []


def test_prv_01_nothing_is_found_after_a_crash_either(said: Said) -> None:
    said.world.gateway.kill()  # what was only in a log of changes stays there
    assert scan(said.plant, said.world.sinks(), digested=no_digests) == []


def test_prv_01_the_same_search_finds_what_is_put_there_on_purpose(said: Said) -> None:
    """The positive control, in the sinks of this very world."""
    leak = Planter()
    assert scan(leak, said.world.sinks(), no_digests) == []
    for name in ("data/journal/leak", "tmp/leak", "leak.backup"):
        (said.world.root / name).write_text(leak(name))
    if said.world.server is not None:
        said.world.server.sql(f"COMMENT ON TABLE usage IS '{leak('in the database')}'", "ostiary")
    found = " ".join(hit.place for hit in scan(leak, said.world.sinks(), no_digests))
    assert [place for place in leak.planted if place not in found] == []


def test_prv_11_there_is_no_cache_and_no_digest_of_a_prompt(said: Said) -> None:
    """Off is the only state: no table, column or file could hold an answer or the digest of a question."""
    assert not [entry for entry in entries() if "cache" in entry.column and entry.class_ is not Class.MEASURE]
    assert not [name for name in TABLES if "cache" in name]
    names = {str(path.relative_to(said.world.root)) for path in said.world.root.rglob("*") if path.is_file()}
    assert not [name for name in names if "cache" in name]


def test_cry_12_every_text_that_can_be_read_is_a_word_that_the_program_knows(said: Said) -> None:
    values = read_columns(said.world)
    known = words()
    wrong = {
        name: sorted(values[name] - known[name])
        for name in text_measures()
        if name in known and not name.startswith("keystore") and values[name] - known[name]
    }
    assert wrong == {}
    assert values["stamp.region"] == {"local"}
    assert values["usage.outcome"] >= {"completed", "failed"}


def test_cry_12_every_opaque_text_is_an_id_of_ours(said: Said) -> None:
    values = read_columns(said.world)
    opaque = [
        f"{table.name}.{column.name}"
        for table in tables()
        for column in table.c
        if class_of(column) is Class.OPAQUE and isinstance(column.type, String)
    ]
    texts = {name: [text for text in values[name] if isinstance(text, str)] for name in opaque if name in values}
    wrong = {name: value for name, found in texts.items() for value in found if not ID.fullmatch(value)}
    assert wrong == {}
    assert len(texts["usage.id"]) > 10


def manage_keys(gateway: Gateway, plant: Planter) -> str:
    """Every text of every field of a key, when it is made, changed and replaced; a key to go on with."""
    for verb in ("generate", "update", "regenerate"):
        key = gateway.key()
        body = key_fields(plant, verb)
        own = f"sk-{plant(f'{verb}: a key of its own')}{secrets.token_hex(8)}"
        body |= {"generate": {"key": own}, "update": {"key": key}, "regenerate": {"key": key, "new_key": own}}[verb]
        struct = {"generate": GenerateKey, "update": UpdateKey, "regenerate": RegenerateKey}[verb]
        fields = {field.name for field in msgspec.structs.fields(struct)}
        assert fields - NO_TEXT - set(body) == set()
        gateway.admin("POST", f"/key/{verb}", body)
    return gateway.key(user_id=plant("user of the key"), tags=[plant("tag of the key")], team_id=plant("its team"))


def key_fields(plant: Planter, verb: str) -> dict[str, Any]:
    def new(what: str) -> str:
        return plant(f"{verb}: {what}")

    return {
        "key_alias": new("alias"),
        "models": [new("model"), "openai/*"],
        "aliases": {new("alias of a model"): new("what it means")},
        "model_rpm_limit": {new("limited model"): 5},
        "model_tpm_limit": {new("limited by tokens"): 5000},
        "metadata": {new("name in metadata"): {"deep": [new("metadata")]}},
        "tags": [new("tag")],
        "user_id": new("user"),
        "team_id": new("team"),
        "organization_id": new("organisation"),
    }


def manage_models(gateway: Gateway, plant: Planter) -> None:
    """Every text of a stored deployment."""
    body = {
        "model_name": plant("model: name"),
        "litellm_params": {
            "model": f"openai/{plant('model: upstream')}",
            "api_key": plant("model: credential"),
            "api_base": f"http://127.0.0.1:9/{plant('model: path')}",
        },
        "model_info": {"id": plant("model: id"), "description": plant("model: description")},
    }
    assert {field.name for field in msgspec.structs.fields(NewModel)} == set(body)
    gateway.admin("POST", "/model/new", body)
    change = {"model_name": plant("model: new name"), "litellm_params": {"api_key": plant("model: new credential")}}
    gateway.admin("PATCH", f"/model/{plant.planted['model: id']}/update", change)


ANSWERS = {
    "completed": Script(),
    "upstream 400": scripts.BAD_REQUEST,
    "upstream 500": scripts.SERVER_ERROR,
    "garbage": scripts.GARBAGE,
    "cut": Script(cut_event=2),
    "malformed event": scripts.MALFORMED_EVENT,
    "error event": scripts.ERROR_EVENT,
    "packed": Script(gzip=True),
}


async def ask_everything(gateway: Gateway, provider: FakeProvider, plant: Planter, key: str) -> None:
    """Canaries in every position of a request, for every kind of answer, streamed and not."""
    for stream in (False, True):
        for case, script in ANSWERS.items():
            await ask(gateway, provider, plant, key, f"{case}, {'streamed' if stream else 'whole'}", script, stream)
    await run_out_of_time(gateway, provider, plant, key)
    await hang_up(gateway, provider, plant, key)
    headers = [("x-private", plant("header")), ("user-agent", plant("agent")), ("cookie", plant("cookie"))]
    body = chat(plant("model asked for"), plant("prompt"), user=plant("request user"), metadata={"x": plant("note")})
    path = f"/v1/chat/completions?q={plant('query')}"
    assert (await fetch(gateway.url, "POST", path, body, key=key, headers=headers)).status in (200, 400)
    for text in (b'{"model":"x","messages":[{"content":"%b"}', b'{"model":["%b"]}', b"%b"):
        said = plant(f"malformed {len(plant.planted)}").encode()
        assert (await fetch(gateway.url, "POST", "/v1/chat/completions", text % said, key=key)).status == 400
    await fetch(gateway.url, "POST", "/v1/chat/completions", b"{}", key=f"sk-{plant('unknown key')}")


async def ask(
    gateway: Gateway, provider: FakeProvider, plant: Planter, key: str, case: str, script: Script, stream: bool
) -> None:
    model, answer = plant(f"{case}: model"), plant(f"{case}: answer")
    body = script.body
    if body is not None and script.status >= 400:  # a provider that quotes the prompt in its error
        body = scripts.error_body(f"You wrote {plant(f'{case}: echo')}", "x", "y")
    raw = script.raw + answer.encode() if script.raw is not None else None
    provider.script(model, Script(**{**script.__dict__, "text": answer, "body": body, "raw": raw}))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": plant(f"{case}: tool call")}}
    function = {"name": "f", "description": plant(f"{case}: tool"), "parameters": {"type": "object", "properties": {}}}
    fields = {
        "messages": [
            {"role": "system", "content": plant(f"{case}: system")},
            {"role": "user", "content": plant(f"{case}: prompt")},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": plant(f"{case}: tool answer")},
        ],
        "tools": [{"type": "function", "function": function}],
        "user": plant(f"{case}: user"),
        "metadata": {"note": plant(f"{case}: metadata")},
        "stop": [plant(f"{case}: stop")],
    }
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, stream=stream, **fields), key=key)
    assert provider.seen(model), answer.body  # the canaries did travel


async def run_out_of_time(gateway: Gateway, provider: FakeProvider, plant: Planter, key: str) -> None:
    model = plant("timeout: model")
    provider.script(model, Script(hold=BEFORE_HEAD, text=plant("timeout: answer")))
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, plant("timeout: prompt")), key=key)
    assert answer.status == 504


async def hang_up(gateway: Gateway, provider: FakeProvider, plant: Planter, key: str) -> None:
    model = plant("hang-up: model")
    provider.script(model, Script(hold=2, text=plant("hang-up: answer")))
    async with RawConnection(gateway.url) as link:
        body = chat(model, plant("hang-up: prompt"), stream=True)
        await link.send(request("POST", "/v1/chat/completions", body, key=key))
        await provider.until(lambda: provider.seen(model) and provider.seen(model)[0].events_sent == 2)
    await provider.until(lambda: provider.seen(model)[0].outcome == "aborted")


def read_columns(world: World) -> dict[str, set[Any]]:
    """`table.column` -> every value that the main database holds, read past the gateway."""
    if world.server is None:
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(world.gateway.data_dir / "ostiary.db")) as database:
            return {
                f"{entry.table}.{entry.column}": {
                    row[0] for row in database.execute(f'SELECT DISTINCT "{entry.column}" FROM "{entry.table}"')
                }
                for entry in entries()
                if not entry.table.startswith("keystore")
            }
    return {
        f"{entry.table}.{entry.column}": {
            row[0] for row in world.server.sql(f'SELECT DISTINCT "{entry.column}" FROM "{entry.table}"', "ostiary")
        }
        for entry in entries()
        if not entry.table.startswith("keystore") and entry.class_ in (Class.MEASURE, Class.OPAQUE)
    }
