"""Nothing said through the gateway, and no credential in clear, is found in anything that it leaves behind.

Canaries are planted in every place of a request and an answer that holds content, on the happy path and on every kind
of failure. Then all bytes of the data directory, all output and the metrics are searched, in the encodings in which
text commonly hides. A scan that never found anything proves nothing: the scanner is shown that it can find.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sqlite3
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary.testing import script as scripts
from ostiary.testing.factories import PROVIDER_KEY, chat, configuration, deployment
from ostiary.testing.gateway import ADMIN_KEY, Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, fetch, request
from ostiary.testing.script import BEFORE_HEAD, Script

TOKEN = "metrics-token-of-the-scan"


def disguises(canary: str) -> dict[str, bytes]:
    """The canary as the bytes of the encodings in which it might be stored."""
    raw = canary.encode()
    found = {
        "plain": raw,
        "utf-16": canary.encode("utf-16-le"),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "url": urllib.parse.quote(canary, safe="").encode(),
        "reversed": raw[::-1],
    }
    for shift in range(3):  # a text inside a longer base64 text starts at one of three offsets
        encoded = base64.b64encode(b"\0" * shift + raw)
        cut = -(-8 * shift // 6)
        found[f"base64+{shift}"] = encoded[cut : len(encoded) - 4]
    return found


def hits(canaries: dict[str, str], places: dict[str, bytes]) -> list[tuple[str, str, str]]:
    """(where, what, in which encoding) for every canary that is found."""
    return [
        (place, name, disguise)
        for place, data in places.items()
        for name, canary in canaries.items()
        for disguise, needle in disguises(canary).items()
        if needle in data
    ]


def left_behind(gateway: Gateway) -> dict[str, bytes]:
    """Everything the gateway keeps or says."""
    places = {str(path.relative_to(gateway.data_dir)): path.read_bytes() for path in _files(gateway.data_dir)}
    places["output"] = gateway.output.encode()
    asking = urllib.request.Request(f"{gateway.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(asking, timeout=5) as answer:
        places["metrics"] = answer.read()
    places["spend/logs"] = json.dumps(gateway.records()).encode()
    return places


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


class Planter:
    """Makes canaries and remembers them."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        self.planted[place] = f"canary{secrets.token_hex(12)}"
        return self.planted[place]


@pytest.fixture(scope="module")
def watched(provider: FakeProvider) -> Iterator[Gateway]:
    config = configuration(
        deployment("canary-*", provider.url),
        router_settings={"num_retries": 0, "disable_cooldowns": True},
        ostiary={"metrics": {"enabled": True, "token": TOKEN}, "ledger": {"flush_seconds": 0.05}},
    )
    with running_gateway(config, args=("--log-level", "DEBUG"), env={"PYTHONASYNCIODEBUG": "1"}) as gateway:
        yield gateway


def everything(plant: Planter, case: str) -> dict[str, Any]:
    """The fields of a request with a canary in every place for content."""
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{plant(case + ' image')}"}}
    function = {"name": "f", "description": plant(case + " tool"), "parameters": {"type": "object", "properties": {}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": plant(case + " arguments")}}
    return {
        "messages": [
            {"role": "system", "content": plant(case + " system")},
            {"role": "user", "content": [{"type": "text", "text": plant(case + " user")}, part]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": plant(case + " tool answer")},
        ],
        "tools": [{"type": "function", "function": function}],
        "metadata": {"note": plant(case + " metadata")},
        "stop": [plant(case + " stop")],
        "prediction": {"type": "content", "content": plant(case + " prediction")},
        "unknown_field": plant(case + " unknown"),
    }


ANSWERS = {
    "completed": Script(),
    "upstream 400": scripts.BAD_REQUEST,
    "upstream 401": scripts.BAD_KEY,
    "upstream 429": scripts.rejected(1),
    "upstream 500": scripts.SERVER_ERROR,
    "garbage": scripts.GARBAGE,
    "cut": Script(cut_event=2),
    "malformed event": scripts.MALFORMED_EVENT,
    "error event": scripts.ERROR_EVENT,
    "packed": Script(gzip=True),
}


@pytest.mark.parametrize("stream", [True, False])
async def test_prv_01_no_content_is_left_behind_whatever_happens(
    watched: Gateway, provider: FakeProvider, stream: bool
) -> None:
    plant = Planter()
    key = watched.key()
    for case, script in ANSWERS.items():
        said = plant(case + " answer")
        body = script.body
        if body is not None and script.status >= 400:  # a provider that quotes the prompt in its error
            body = scripts.error_body(f"You wrote {plant(case + ' echo')}", "x", "y")
        raw = script.raw + said.encode() if script.raw is not None else None
        model = f"canary-{secrets.token_hex(4)}"
        provider.script(model, Script(**{**script.__dict__, "text": said, "body": body, "raw": raw}))
        text = chat(model, stream=stream, **everything(plant, case))
        headers = [("user-agent", plant(case + " agent")), ("x-private", plant(case + " header"))]
        headers += [("cookie", plant(case + " cookie")), ("referer", f"http://x/?{plant(case + ' referer')}")]
        headers += [("traceparent", plant(case + " trace")), ("baggage", f"k={plant(case + ' baggage')}")]
        path = f"/v1/chat/completions?q={plant(case + ' query')}"
        await fetch(watched.url, "POST", path, text, key=key, headers=headers)
    for case, text in {
        "malformed": b'{"model":"canary-x","messages":[{"content":"%b"}',
        "wrong type": b'{"model":"canary-x","max_tokens":"%b"}',
        "duplicate": b'{"model":"canary-x","messages":"%b","messages":[]}',
        "refused field": b'{"model":"canary-x","messages":[],"api_base":"%b"}',
        "bad model": b'{"model":["%b"]}',
        "not json": b"%b",
    }.items():
        answer = await fetch(watched.url, "POST", "/v1/chat/completions", text % plant(case).encode(), key=key)
        assert answer.status == 400
        assert plant.planted[case].encode() not in answer.body
    await fetch(watched.url, "POST", "/v1/chat/completions", b"{}", key=f"sk-{plant('unknown key')}")
    await fetch(watched.url, "GET", f"/v1/{plant('path')}", key=key)
    for path, fields in {
        "/v1/embeddings": {"input": plant("embedding")},
        "/v1/completions": {"prompt": plant("prompt")},
        "/v1/moderations": {"input": plant("moderation")},
        "/v1/images/generations": {"prompt": plant("image prompt")},
        "/v1/audio/speech": {"input": plant("speech"), "voice": "alloy"},
        "/v1/rerank": {"query": plant("query"), "documents": [plant("document")]},
    }.items():
        await fetch(watched.url, "POST", path, json.dumps({"model": "canary-x", **fields}).encode(), key=key)
    for path, purpose in (("/v1/files", "assistants"), ("/v1/audio/transcriptions", "-"), ("/v1/images/edits", "-")):
        fields = {"model": "canary-x", "purpose": purpose, "prompt": plant(f"{path} prompt")}
        parts = [f'--b\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
        name = f'name="file"; filename="{plant(path + " file name")}"'
        parts.append(f"--b\r\ncontent-disposition: form-data; {name}\r\n\r\n{plant(path + ' file')}\r\n--b--\r\n")
        kind = [("content-type", "multipart/form-data; boundary=b")]
        answer = await fetch(watched.url, "POST", path, "".join(parts).encode(), key=key, headers=kind)
        assert answer.status == 200
    await _hang_up(watched, provider, key, plant)
    served = [seen.body.decode(errors="replace") for seen in provider.requests]
    assert any(plant.planted["completed user"] in body for body in served)  # the canaries did travel
    eventually(lambda: len(watched.records(api_key=key)) >= len(ANSWERS))
    assert hits(plant.planted, left_behind(watched)) == []


async def _hang_up(gateway: Gateway, provider: FakeProvider, key: str, plant: Planter) -> None:
    for hold in (BEFORE_HEAD, 2):
        model = f"canary-{secrets.token_hex(4)}"
        provider.script(model, Script(hold=hold, text=plant(f"hang-up answer {hold}")))
        async with RawConnection(gateway.url) as link:
            body = chat(model, plant(f"hang-up {hold}"), stream=True)
            await link.send(request("POST", "/v1/chat/completions", body, key=key))
            await provider.until(lambda: provider.seen(model) and provider.seen(model)[0].events_sent == max(hold, 0))  # noqa: B023
        await provider.until(lambda: provider.seen(model)[0].outcome == "aborted")  # noqa: B023


def test_prv_02_no_credential_is_left_behind_in_clear(watched: Gateway) -> None:
    key = watched.key(key_alias=f"a-{secrets.token_hex(4)}")
    own = f"sk-own-{secrets.token_hex(16)}"
    watched.key(key=own)
    stored = secrets.token_hex(16)
    watched.admin(
        "POST",
        "/model/new",
        {
            "model_name": "kept",
            "litellm_params": {"model": "openai/x", "api_key": stored, "api_base": "http://127.0.0.1:9"},
        },
    )
    info = watched.admin("GET", "/model/info")
    assert stored not in json.dumps(info)
    secrets_of_ours = {
        "virtual key": key,
        "own key": own,
        "secret part": key.rsplit("-", 1)[1],
        "plain digest": hashlib.sha256(key.encode()).hexdigest(),
        "admin key": ADMIN_KEY,
        "provider key": PROVIDER_KEY,
        "stored provider key": stored,
        "metrics token": TOKEN,
    }
    assert hits(secrets_of_ours, left_behind(watched)) == []
    digest = hashlib.sha256(key.encode()).digest()
    assert not any(digest in data for data in left_behind(watched).values())


def test_prv_01_the_scanner_finds_what_is_there(watched: Gateway, tmp_path: Path) -> None:
    """The positive control: the same scan, shown a canary in each encoding, in a file and inside a database."""
    canary = {"control": f"canary{secrets.token_hex(12)}"}
    for disguise, data in disguises(canary["control"]).items():
        assert (("f", "control", disguise)) in hits(canary, {"f": b"\x00before" + data + b"after"})
    for lead in ("", "a", "ab", "abc"):
        hidden = base64.b64encode(f'{lead}{{"content":"{canary["control"]}"}}'.encode())
        assert hits(canary, {"f": hidden})
    path = tmp_path / "control.db"
    database = sqlite3.connect(path)
    database.execute("create table t (x)")
    database.execute("insert into t values (?)", (canary["control"],))
    database.commit()
    database.close()
    assert hits(canary, {"db": path.read_bytes()})
    # and beside what the running product leaves: a name that it keeps is sealed, one put there in clear is found
    alias = f"canary{secrets.token_hex(12)}"
    watched.key(key_alias=alias)
    left = left_behind(watched)
    assert not hits({"alias": alias}, left)
    assert hits({"alias": alias}, {**left, "leak": alias.encode()})


def test_prv_05_metrics_keep_a_closed_set_of_labels(watched: Gateway) -> None:
    key = watched.key()

    def series() -> int:
        return left_behind(watched)["metrics"].count(b"\n")

    watched.call("POST", "/v1/chat/completions", {"model": "nothing-0", "messages": []}, key=key)
    before = series()
    for number in range(200):
        body = {"model": f"nothing-{number}-{secrets.token_hex(4)}", "messages": [], "user": f"u{number}"}
        watched.call("POST", "/v1/chat/completions", body, key=key)
        watched.call("GET", f"/v1/nowhere-{number}", key=key)
    assert series() - before < 50


def test_metrics_are_closed_without_their_token(watched: Gateway, key: str) -> None:
    assert watched.call("GET", "/metrics")[0] in (401, 403, 404)
    assert watched.call("GET", "/metrics", key=key)[0] in (401, 403, 404)
    assert watched.call("GET", "/metrics", key=TOKEN)[0] == 200
