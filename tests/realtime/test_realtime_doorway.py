"""Who may open a WebSocket, and how: the handshake, origins, keys in subprotocols. Nothing here reaches a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk_kit import RawTalk, handshake

from ostiary.core.fault import Fault
from ostiary.gateway.duplex import judge
from ostiary.gateway.realtime import asked_model
from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway

FRIEND = "https://chat.example"
# nobody listens there: what is let in is answered with 502
NOWHERE = "http://127.0.0.1:1/v1"


@pytest.fixture(scope="module")
def porch() -> Iterator[Gateway]:
    config = configuration(
        deployment("talk", NOWHERE, info={"mode": "realtime"}),
        router_settings={"num_retries": 0, "disable_cooldowns": True},
        ostiary={"edge": {"allowed_origins": [FRIEND]}, "realtime": {"max_sessions_per_key": 1}},
    )
    with running_gateway(config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def guest(porch: Gateway) -> str:
    return porch.key()


def status(head: str) -> int:
    return int(head.split(" ")[1])


async def asked(porch: Gateway, *lines: str, target: str = "/v1/realtime?model=talk") -> str:
    talk, head = await RawTalk.ask(porch, *lines, target=target)
    await talk.over()
    return head


LET_IN = 502
CORPUS = {
    "no upgrade": ({"connection": None, "upgrade": None}, 426),
    "upgrade without connection": ({"connection": None}, 426),
    "connection without upgrade": ({"upgrade": None}, 426),
    "another protocol": ({"upgrade": "h2c"}, 426),
    "two protocols": ({"upgrade": "websocket, h2c"}, 426),
    "no version": ({"sec_websocket_version": None}, 426),
    "version 8": ({"sec_websocket_version": "8"}, 426),
    "two versions": ({"sec_websocket_version": "13, 8"}, 426),
    "no key": ({"sec_websocket_key": None}, 400),
    "short key": ({"sec_websocket_key": "YWJj"}, 400),
    "a key that is no base64": ({"sec_websocket_key": "!" * 24}, 400),
    "a body": ({"content_length": "5"}, 400),
    "a chunked body": ({"transfer_encoding": "chunked"}, 400),
    "a foreign origin": ({"origin": "https://evil.example"}, 403),
    "an origin that begins like one": ({"origin": FRIEND + ".evil.example"}, 403),
    "the origin over http": ({"origin": "http://chat.example"}, 403),
    "no origin of its own": ({"origin": "null"}, 403),
    "an empty origin": ({"origin": ""}, 403),
    "an unknown subprotocol": ({"sec_websocket_protocol": "mqtt"}, 400),
    "a subprotocol twice": ({"sec_websocket_protocol": "realtime, realtime"}, 400),
    "a subprotocol of blanks": ({"sec_websocket_protocol": "realtime, a b"}, 400),
    "an announced key that is none": ({"sec_websocket_protocol": "realtime, openai-insecure-api-key."}, 400),
    "no credential": ({"authorization": None}, 401),
    "a wrong credential": ({"authorization": "Bearer sk-nobody"}, 401),
    "another key beside it": ({"sec_websocket_protocol": "realtime, openai-insecure-api-key.sk-other"}, 400),
    "another carrier beside it": ({"x_api_key": "sk-other"}, 400),
    "as it should be": ({}, LET_IN),
    "words in other cases": ({"connection": "keep-alive, uPGRADE", "upgrade": "WebSocket"}, LET_IN),
    "an origin that is let in": ({"origin": FRIEND}, LET_IN),
    "extensions, which are not spoken": ({"sec_websocket_extensions": "permessage-deflate"}, LET_IN),
}


@pytest.mark.parametrize("name", CORPUS)
async def test_the_handshake_is_judged_strictly(porch: Gateway, guest: str, name: str) -> None:
    changed, wanted = CORPUS[name]
    head = await asked(porch, *handshake(guest, **changed))
    assert status(head) == wanted
    assert " 101 " not in head
    if wanted == 426:
        assert "upgrade: websocket" in head
        assert "sec-websocket-version: 13" in head


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", 400),
        ("upgrade: websocket", 400),
        ("origin: https://chat.example", 403),
        ("sec-websocket-version: 13", 400),
    ],
)
async def test_what_stands_twice_is_refused(porch: Gateway, guest: str, line: str, wanted: int) -> None:
    twice = [*handshake(guest), line]
    if line.startswith("origin"):
        twice.append("origin: https://evil.example")
        wanted = 400
    assert status(await asked(porch, *twice)) == wanted


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("GET /v1/realtime?model=talk HTTP/1.0", 426),
        ("POST /v1/realtime?model=talk HTTP/1.1", 405),
        ("HEAD /v1/realtime?model=talk HTTP/1.1", 405),
        ("GET /v1/realtime HTTP/1.1", 400),
        ("GET /v1/realtime?model=talk&model=other HTTP/1.1", 400),
        ("GET /v1/realtime?model=talk&call_id=rtc_1 HTTP/1.1", 400),
        ("GET /v1/realtime?model=talk&intent=transcription HTTP/1.1", 400),
        ("GET /openai/realtime?api-version=2025-04-01-preview&deployment=talk HTTP/1.1", LET_IN),
        ("GET /openai/v1/realtime?model=talk HTTP/1.1", LET_IN),
        ("GET /realtime?model=talk HTTP/1.1", LET_IN),
    ],
)
async def test_the_ways_in(porch: Gateway, guest: str, target: str, wanted: int) -> None:
    assert status(await asked(porch, *handshake(guest), target=target)) == wanted


async def test_a_browser_may_carry_its_key_in_a_subprotocol(porch: Gateway, guest: str) -> None:
    offered = f"realtime, openai-insecure-api-key.{guest}, openai-beta.realtime-v1"
    alone = handshake(None, sec_websocket_protocol=offered, origin=FRIEND)
    assert status(await asked(porch, *alone)) == LET_IN
    both = handshake(guest, sec_websocket_protocol=offered)
    assert status(await asked(porch, *both)) == LET_IN  # the same key twice is one credential
    two = f"realtime, openai-insecure-api-key.{guest}, openai-insecure-api-key.sk-other"
    assert status(await asked(porch, *handshake(None, sec_websocket_protocol=two))) == 400
    assert guest not in porch.output


async def test_a_key_without_the_route_is_refused(porch: Gateway) -> None:
    key = await asyncio.to_thread(lambda: porch.key(allowed_routes=["/v1/chat/completions"]))
    assert status(await asked(porch, *handshake(key))) == 403
    key = await asyncio.to_thread(lambda: porch.key(allowed_routes=["/v1/realtime"]))
    assert status(await asked(porch, *handshake(key))) == LET_IN


async def test_an_upgrade_on_any_other_path_is_ignored(porch: Gateway, guest: str) -> None:
    assert status(await asked(porch, *handshake(guest), target="/v1/models")) == 200


async def test_the_connection_serves_on_after_a_refusal(porch: Gateway, guest: str) -> None:
    talk, head = await RawTalk.ask(porch, *handshake(guest, sec_websocket_version="8"))
    assert status(head) == 426
    length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
    await talk.reader.readexactly(length)
    talk.write(f"GET /v1/models HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {guest}\r\n\r\n".encode())
    assert b" 200 " in await talk.reader.readuntil(b"\r\n")
    await talk.over()


@given(st.lists(st.tuples(st.sampled_from([
    b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol", b"origin",
    b"openai-beta",
]), st.one_of(st.binary(max_size=40), st.sampled_from([
    b"Upgrade", b"websocket", b"13", b"dGhlIHNhbXBsZSBub25jZQ==", b"realtime",
]))), max_size=9))  # fmt: skip
def test_any_headers_give_a_handshake_or_a_refusal(headers: list[tuple[bytes, bytes]]) -> None:
    fault, found = None, None
    try:
        found = judge("GET", headers, frozenset(), modern=True, bodiless=True)
    except Fault as refusal:
        fault = refusal
    if found is None:
        assert fault is not None
        assert fault.status in (400, 403, 426)
    else:
        assert len([name for name, _ in headers if name == b"sec-websocket-key"]) == 1
        assert found.subprotocol in (b"", b"realtime")


@given(st.binary(max_size=60))
def test_any_query_gives_a_model_or_a_refusal(query: bytes) -> None:
    fault, model = None, ""
    try:
        model = asked_model(query)
    except Fault as refusal:
        fault = refusal
    assert bool(model) is (fault is None)
    assert fault is None or fault.status == 400
