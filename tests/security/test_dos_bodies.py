"""Bodies made to hurt a parser are refused cheaply, in words, and leave no trace in memory."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from process_figures import MEGABYTE, cpu_seconds, resident

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer, fetch


async def post(gateway: Gateway, key: str, body: bytes, **kwargs: object) -> RawAnswer:
    return await fetch(gateway.url, "POST", "/v1/chat/completions", body, key=key, seconds=30, **kwargs)


def nest(kind: str, depth: int) -> bytes:
    opening, closing = {"array": (b"[", b"]"), "object": (b'{"a":', b"}"), "mixed": (b'[{"a":', b"}]")}[kind]
    count = depth // 2 if kind == "mixed" else depth
    return opening * count + b"0" + closing * count


@pytest.mark.parametrize("depth", [65, 1_000, 1_000_000])
@pytest.mark.parametrize("kind", ["array", "object", "mixed"])
@pytest.mark.parametrize("place", ["field", "messages", "whole"])
async def test_dos_01_deep_nesting_is_refused_without_growing(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, depth: int, kind: str, place: str
) -> None:
    deep = nest(kind, depth)
    body = {
        "field": b'{"model":"%b","messages":[],"x":%b}' % (model.encode(), deep),
        "messages": b'{"model":"%b","messages":[{"role":"user","content":%b}]}' % (model.encode(), deep),
        "whole": deep,
    }[place]
    await post(gateway, key, chat(model))
    before, requests = resident(gateway.process.pid), len(provider.requests)
    answer = await post(gateway, key, body)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "bad_request_error"
    assert len(provider.requests) == requests
    assert resident(gateway.process.pid) - before < 20 * MEGABYTE
    assert "RecursionError" not in gateway.output


async def test_dos_01_a_depth_within_the_limit_passes(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    body = b'{"model":"%b","messages":[],"x":%b}' % (model.encode(), nest("mixed", 40))
    assert (await post(gateway, key, body)).status == 200
    assert provider.seen(model)[-1].body == body


async def test_dos_01_json_within_a_string_is_a_string(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[" * 100_000}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]
    body = chat(model, messages=messages)
    assert (await post(gateway, key, body)).status == 200
    assert provider.seen(model)[-1].body == body


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_dos_01_a_packed_body_is_not_unpacked(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, packing: str
) -> None:
    bomb = nest("array", 1_000_000)
    packed = zlib.compress(bomb) if packing == "deflate" else gzip.compress(bomb)
    before = resident(gateway.process.pid)
    answer = await post(gateway, key, packed, headers=[("content-encoding", packing)])
    assert answer.status in (400, 415)
    assert resident(gateway.process.pid) - before < 20 * MEGABYTE


REFUSED = {
    "nan": b'{"model":"%b","messages":[],"temperature":NaN}',
    "infinity": b'{"model":"%b","messages":[],"temperature":-Infinity}',
    "plus": b'{"model":"%b","messages":[],"seed":+1}',
    "leading zero": b'{"model":"%b","messages":[],"seed":01}',
    "hex": b'{"model":"%b","messages":[],"seed":0x10}',
    "trailing comma": b'{"model":"%b","messages":[],}',
    "single quotes": b"{'model':'%b','messages':[]}",
    "comment": b'{"model":"%b",/* */"messages":[]}',
    "two values": b'{"model":"%b","messages":[]}{}',
    "cut": b'{"model":"%b","messages":[',
    "bom": b'\xef\xbb\xbf{"model":"%b","messages":[]}',
    "latin-1": b'{"model":"%b","messages":[],"user":"\xe9"}',
    "overlong": b'{"model":"%b","messages":[],"user":"\xc0\xaf"}',
    "raw surrogate": b'{"model":"%b","messages":[],"user":"\xed\xa0\x80"}',
    "control": b'{"model":"%b","messages":[],"user":"\x01"}',
    "nul": b'{"model":"%b","messages":[]}\x00',
    "cap of 20 digits": b'{"model":"%b","messages":[],"max_tokens":99999999999999999999}',
    "cap of 5000 digits": b'{"model":"%b","messages":[],"max_tokens":' + b"9" * 5000 + b"}",
    "cap of a million digits": b'{"model":"%b","messages":[],"max_tokens":' + b"9" * 10**6 + b"}",
    "huge cap": b'{"model":"%b","messages":[],"max_tokens":1e400}',
    "cap in words": b'{"model":"%b","messages":[],"max_tokens":"5"}',
    "stream in words": b'{"model":"%b","messages":[],"stream":"yes"}',
    "model as a list": b'{"model":["%b"],"messages":[]}',
    "model as a number": b'{"model":1,"messages":[],"x":"%b"}',
    "array": b'["%b"]',
    "string": b'"%b"',
    "nothing": b"",
    "a million quotes": b'{"model":"%b","messages":[],"x":"' + b"\\" * 999_999 + b"}",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_dos_02_what_is_no_json_or_no_sensible_number_is_refused_cheaply(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, name: str
) -> None:
    body = REFUSED[name].replace(b"%b", model.encode())
    requests, spent = len(provider.requests), cpu_seconds(gateway.process.pid)
    for _ in range(5):
        answer = await post(gateway, key, body)
        assert answer.status == 400, answer.body
        assert answer.json()["error"]["type"] == "bad_request_error"
        assert len(answer.body) < 1000
    assert len(provider.requests) == requests
    assert (cpu_seconds(gateway.process.pid) - spent) / 5 < 0.05


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
async def test_dos_02_other_encodings_are_refused(gateway: Gateway, key: str, model: str, encoding: str) -> None:
    assert (await post(gateway, key, chat(model).decode().encode(encoding))).status == 400


ODD = {
    "negative cap": b'"max_tokens":-1',
    "integer of 19 digits": b'"x":9223372036854775808',
    "integer of 5000 digits": b'"x":' + b"7" * 5000,
    "minus zero": b'"x":-0',
    "float beyond range": b'"x":1e400',
    "lone surrogate": b'"x":"\\ud800"',
    "name of a megabyte": b'"' + b"k" * 10**6 + b'":0',
    "a million names": b",".join(b'"k%d":0' % n for n in range(10**6)),
    "a million brackets": b'"x":[' + b",".join([b"[]"] * 500_000) + b"]",
    "a million escapes": b'"x":"' + b"\\n" * 500_000 + b'"',
}


@pytest.mark.parametrize("name", ODD)
async def test_dos_02_odd_but_lawful_json_is_passed_as_it_is_or_refused_in_bounded_time(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, name: str
) -> None:
    body = b'{"model":"%b","messages":[],' % model.encode() + ODD[name] + b"}"
    before, spent = resident(gateway.process.pid), cpu_seconds(gateway.process.pid)
    answer = await post(gateway, key, body)
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert provider.requests[-1].body == body
    assert cpu_seconds(gateway.process.pid) - spent < 0.3  # nobody else waits longer than that
    assert resident(gateway.process.pid) - before < 200 * MEGABYTE
    assert gateway.call("GET", "/health/liveliness")[0] == 200


async def test_dos_02_keys_chosen_to_collide_cost_no_more_than_others(gateway: Gateway, key: str, model: str) -> None:
    # the same small hash for a table keyed by the first bytes or by the length alone
    names = [f"{n:08d}"[::-1] + "x" * 24 for n in range(100_000)]
    body = json.dumps({"model": model, "messages": []} | dict.fromkeys(names, 0)).encode()
    spent = cpu_seconds(gateway.process.pid)
    assert (await post(gateway, key, body)).status in (200, 400)
    assert cpu_seconds(gateway.process.pid) - spent < 0.5
