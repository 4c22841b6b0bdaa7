"""What goes over the wire of an open session: hostile frames, floods, slow readers, silence, places."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest
from talk_kit import Call, RawTalk, RealtimeProvider, handshake, listening

from ostiary.testing.gateway import Gateway
from ostiary.wire.framing.websocket import (
    BAD_DATA,
    BINARY,
    CLOSE,
    CONTINUATION,
    NORMAL,
    NOT_TEXT,
    PING,
    POLICY,
    PROTOCOL,
    TEXT,
    TOO_BIG,
    Closing,
    Message,
    Ping,
    Pong,
    encode_close,
    encode_frame,
)

MASK = b"mask"


async def opened(door: Gateway, **fields: Any) -> RawTalk:
    key = await asyncio.to_thread(lambda: door.key(**fields))
    return await RawTalk.opened(door, key)


HOSTILE = {
    "not masked": (encode_frame(TEXT, b"{}"), PROTOCOL),
    "reserved bit": (b"\xc1\x80mask", PROTOCOL),
    "unknown opcode": (b"\x83\x80mask", PROTOCOL),
    "not UTF-8": (encode_frame(TEXT, b"\xff\xfe", MASK), BAD_DATA),
    "goes on without a beginning": (encode_frame(CONTINUATION, b"{}", MASK), PROTOCOL),
    "too long": (b"\x81\xff" + (2**63 - 1).to_bytes(8) + MASK, TOO_BIG),
    "longer than the cap": (b"\x81\xff" + (200_000).to_bytes(8) + MASK, TOO_BIG),
    "too long in pieces": (
        encode_frame(TEXT, b"x" * 90_000, MASK, final=False) + encode_frame(CONTINUATION, b"x" * 90_000, MASK),
        TOO_BIG,
    ),
    "a long ping": (encode_frame(PING, b"x" * 126, MASK), PROTOCOL),
    "a close of one byte": (encode_frame(CLOSE, b"x", MASK), PROTOCOL),
    "binary": (encode_frame(BINARY, b"{}", MASK), NOT_TEXT),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", PROTOCOL),
}


@pytest.fixture
def own_settings() -> dict[str, Any]:
    return {"realtime": {"max_event_mb": 0.1, "max_sessions_per_key": 2, "max_sessions": 3}}


async def test_hostile_frames_end_their_session_and_no_other(door: Gateway, talker: RealtimeProvider) -> None:
    talker.play = listening
    bystander = await opened(door)
    await bystander.event("session.created")
    for number, (name, (stream, code)) in enumerate(HOSTILE.items(), 2):
        raw = await opened(door)
        raw.write(stream)
        assert (await raw.closing()).code == code, name
        assert await raw.next() is None, name
        await raw.over()
        call = await talker.call(number)
        await asyncio.wait_for(call.ended.wait(), 10)
        assert call.events == [], name
    bystander.send(type="input_audio_buffer.clear")
    await (await talker.call(1)).until("input_audio_buffer.clear")
    await bystander.over()
    assert "Traceback" not in door.output


async def test_any_bytes_leave_the_gateway_standing(door: Gateway, talker: RealtimeProvider) -> None:
    talker.play = listening
    key = await asyncio.to_thread(door.key)
    for length in (1, 2, 7, 14, 100, 5000):
        raw = await RawTalk.opened(door, key)
        raw.write(os.urandom(length))
        raw.writer.write_eof()
        while await raw.next() is not None:
            pass
        await raw.over()
    assert (await asyncio.to_thread(door.call, "GET", "/v1/models", None, key=key))[0] == 200
    assert "Traceback" not in door.output


@pytest.mark.parametrize("payload", ["[]", "{", "7", '{"type": 7}', "{}", '{"type":' + "[" * 500 + "]" * 500 + "}"])
async def test_what_is_no_event_is_answered_and_goes_nowhere(
    door: Gateway, talker: RealtimeProvider, payload: str
) -> None:
    talker.play = listening
    raw = await opened(door)
    raw.write(encode_frame(TEXT, payload.encode(), MASK))
    refused = await raw.event("error")
    assert refused["error"]["type"] == "bad_request_error"
    raw.send(type="input_audio_buffer.clear")
    call = await talker.call()
    await call.until("input_audio_buffer.clear")
    assert len(call.events) == 1
    await raw.over()


async def test_frames_in_any_pieces_are_one_event(door: Gateway, talker: RealtimeProvider) -> None:
    talker.play = listening
    raw = await opened(door)
    event = json.dumps({"type": "input_audio_buffer.append", "audio": "é" * 100}, ensure_ascii=False).encode()
    raw.write(encode_frame(TEXT, event[:50], MASK, final=False))
    raw.write(encode_frame(PING, b"are you there", MASK))
    raw.write(encode_frame(CONTINUATION, event[50:], MASK))
    call = await talker.call()
    assert (await call.until("input_audio_buffer.append"))["audio"] == "é" * 100
    seen = [await raw.next(), await raw.next()]
    assert Pong(b"are you there") in seen
    await raw.over()


async def test_what_comes_with_the_handshake_is_read(door: Gateway, talker: RealtimeProvider) -> None:
    talker.play = listening
    key = await asyncio.to_thread(door.key)
    reader, writer = await asyncio.open_connection(door.host, door.port)
    head = "\r\n".join(["GET /v1/realtime?model=talk HTTP/1.1", "Host: g", *handshake(key), "", ""])
    writer.write(head.encode() + encode_frame(TEXT, b'{"type":"early"}', MASK))
    assert b" 101 " in await reader.readuntil(b"\r\n")
    await (await talker.call()).until("early")
    writer.close()
    await writer.wait_closed()


async def test_a_close_is_answered_with_a_close(door: Gateway, talker: RealtimeProvider) -> None:
    raw = await opened(door)
    raw.write(encode_close(NORMAL, "done", MASK))
    assert await raw.closing() == Closing(NORMAL, "")
    assert await raw.next() is None
    await raw.over()


async def test_a_hostile_provider_ends_the_session_with_an_error(door: Gateway, talker: RealtimeProvider) -> None:
    async def hostile(call: Call) -> None:
        call.socket.transport.write(encode_frame(TEXT, b"x", MASK))  # a server does not mask
        await call.socket.wait_closed()

    talker.play = hostile
    raw = await opened(door)
    await raw.event("error")
    assert (await raw.closing()).code == 1011
    await raw.over()


async def test_places_are_counted_by_key_and_in_all(door: Gateway, talker: RealtimeProvider) -> None:
    talker.play = listening
    key, other = await asyncio.to_thread(door.key), await asyncio.to_thread(door.key)
    mine = [await RawTalk.opened(door, key) for _ in range(2)]
    third, head = await RawTalk.ask(door, *handshake(key))
    assert " 429 " in head
    yours = await RawTalk.opened(door, other)
    fourth, head = await RawTalk.ask(door, *handshake(other))
    assert " 503 " in head
    for raw in mine:
        raw.cut()
    for call in talker.calls[:2]:
        await asyncio.wait_for(call.ended.wait(), 10)
    again = await RawTalk.opened(door, key)
    for raw in (third, fourth, yours, again):
        await raw.over()


async def test_a_key_of_one_request_at_once_has_one_session(door: Gateway, talker: RealtimeProvider) -> None:
    key = await asyncio.to_thread(lambda: door.key(max_parallel_requests=1))
    raw = await RawTalk.opened(door, key)
    await raw.event("session.created")
    raw.send(type="response.create")  # within the session it has its one request
    await raw.event("response.done")
    second, head = await RawTalk.ask(door, *handshake(key))
    assert " 429 " in head
    await second.over()
    await raw.over()


def resident_kib(gateway: Gateway) -> int:
    with open(f"/proc/{gateway.process.pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def test_dos_05_a_client_that_does_not_read_stops_its_provider_and_holds_no_memory(
    door: Gateway, talker: RealtimeProvider
) -> None:
    piece, number = "A" * 50_000, 2000  # 100 MB
    sent = 0
    stuck, go_on = asyncio.Event(), asyncio.Event()

    async def flood(call: Call) -> None:
        nonlocal sent
        for index in range(number):
            sending = asyncio.ensure_future(call.send(type="response.output_audio.delta", delta=piece, at=index))
            done, _ = await asyncio.wait({sending}, timeout=None if go_on.is_set() else 1.0)
            if not done:
                stuck.set()
                await sending
            sent += 1
        await call.socket.wait_closed()

    talker.play = flood
    before = resident_kib(door)
    raw = await opened(door)
    await asyncio.wait_for(stuck.wait(), 30)
    assert sent < number / 2
    assert resident_kib(door) - before < 24 * 1024
    go_on.set()
    for index in range(number):
        got = await raw.next()
        assert isinstance(got, Message)
        assert json.loads(got.payload)["at"] == index
    assert resident_kib(door) - before < 32 * 1024
    await raw.over()


async def test_a_client_that_sends_nothing_but_junk_is_shown_out(door: Gateway, talker: RealtimeProvider) -> None:
    raw = await opened(door)
    before = resident_kib(door)
    raw.write(encode_frame(TEXT, b"junk", MASK) * 50_000)
    errors = 0
    while isinstance(got := await raw.next(), Message):
        errors += json.loads(got.payload)["type"] == "error"
    assert isinstance(got, Closing)
    assert got.code == POLICY
    assert 100 <= errors <= 110
    assert resident_kib(door) - before < 16 * 1024
    await raw.over()


class TestSilence:
    @pytest.fixture
    def own_settings(self) -> dict[str, Any]:
        return {"realtime": {"silence_seconds": 0.3}}

    async def test_a_silent_client_is_pinged_and_then_gone(self, door: Gateway, talker: RealtimeProvider) -> None:
        talker.play = listening
        raw = await opened(door)
        await raw.event("session.created")
        assert await raw.next() == Ping(b"")
        assert await raw.next() is None
        await asyncio.wait_for((await talker.call()).ended.wait(), 10)
        await raw.over()

    async def test_a_client_that_answers_pings_stays(self, door: Gateway, talker: RealtimeProvider) -> None:
        talker.play = listening
        raw = await opened(door)
        await raw.event("session.created")
        for _ in range(4):
            assert await raw.next() == Ping(b"")
            raw.write(encode_frame(0xA, b"", MASK))
        raw.send(type="still.here")
        await (await talker.call()).until("still.here")
        await raw.over()


class TestLongest:
    @pytest.fixture
    def own_settings(self) -> dict[str, Any]:
        return {"realtime": {"session_seconds": 0.5}}

    async def test_a_session_has_an_end(self, door: Gateway, talker: RealtimeProvider) -> None:
        talker.play = listening
        raw = await opened(door)
        assert (await raw.closing()).code == 1001
        await raw.over()
