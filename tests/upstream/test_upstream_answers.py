"""What a provider says in good order arrives as it was said, however it was cut into packets."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_provider import GET, HELLO, QUICK, Peer, ScriptedProvider

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.fault import Origin as Whose
from ostiary.gateway.upstream.connection import Connection
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.response import Response

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"10\r\ndata: {'a': 1}\n\n\r\n7;ext=v\r\ndata: x\r\n2\r\n\n\n\r\n0\r\nTrailer: t\r\n\r\n"
)
CHUNKED_BODY = b"data: {'a': 1}\n\ndata: x\n\n"
LENGTH = b"HTTP/1.1 201 Created\r\nX-A: 1\r\nX-a: 2\r\nContent-Length: 11\r\n\r\nhello world"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + LENGTH


class Pipe:
    """A transport without a network."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    abort = close
    pause_reading = resume_reading = lambda self: None


class Nobody:
    """A pool that keeps nothing."""

    def release(self, connection: Connection, seconds: float | None) -> None: ...
    def forget(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Told:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.ends = 0
        self.faults: list[Fault] = []

    def on_data(self, data: bytes) -> None:
        self.data.append(data)

    def on_end(self) -> None:
        self.ends += 1

    def on_fault(self, fault: Fault) -> None:
        self.faults.append(fault)


def receive(pieces: list[bytes], *, eof: bool = False) -> tuple[Any, ...]:
    """What comes of these packets: status, headers, body, how often the end and faults were told."""
    loop = asyncio.new_event_loop()
    try:
        connection = Connection(Nobody(), loop)
        connection.connection_made(Pipe())  # type: ignore[arg-type]
        answer = connection.begin(GET, b"", QUICK, loop.time() + 10)
        told = Told()
        response: Response | None = None
        for piece in pieces:
            connection.data_received(piece)
            if response is None and answer.done() and answer.exception() is None:
                response = answer.result()
                response.attach(told)
        if eof:
            connection.eof_received()
        if response is None:
            error = answer.exception() if answer.done() else None
            return (error.kind if isinstance(error, Fault) else None,)
        faults = [fault.kind for fault in told.faults]
        return response.status, response.headers, b"".join(told.data), told.ends, faults, connection.usable
    finally:
        loop.close()


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, INTERIM], ids=["length", "chunked", "interim"])
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_split_of_the_bytes_gives_the_same_answer(answer: bytes, cuts: list[int]) -> None:
    whole = receive([answer])
    assert whole[3:] == (1, [], True)
    assert receive(split(answer, cuts)) == whole
    assert receive([answer[i : i + 1] for i in range(len(answer))]) == whole


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_give_an_answer_or_a_fault_and_nothing_else(garbage: bytes, http: bool) -> None:
    receive([b"HTTP/1.1 200 OK\r\n" + garbage if http else garbage], eof=True)


def test_several_chunks_of_one_packet_are_told_once() -> None:
    head, body = CHUNKED.split(b"\r\n\r\n", 1)
    loop = asyncio.new_event_loop()
    connection = Connection(Nobody(), loop)
    connection.connection_made(Pipe())  # type: ignore[arg-type]
    answer = connection.begin(GET, b"", QUICK, loop.time() + 10)
    told = Told()
    connection.data_received(head + b"\r\n\r\n")
    answer.result().attach(told)
    connection.data_received(body)
    assert told.data == [CHUNKED_BODY]
    assert told.ends == 1
    loop.close()


async def test_an_answer_has_status_headers_and_body(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.once(LENGTH))
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    assert response.status == 201
    assert response.headers == [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"11")]
    assert response.header(b"x-a") == b"1"
    assert response.header(b"nothing") is None
    assert await response.read(11) == b"hello world"
    assert response.complete
    assert not response.close_delimited


async def test_a_body_that_came_with_the_head_is_read_without_suspending(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.once(HELLO))
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    with pytest.raises(StopIteration) as stop:
        response.read(100).send(None)
    assert stop.value.value == b"hello"


async def test_the_request_arrives_byte_for_byte(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    for size in (0, 10, 100_000, 3_000_000):
        head, body = b"POST /x HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % size, bytes(size)
        await (await upstream.send(origin, head, body, QUICK)).read(100)
        assert provider.requests[-1] == head + body
    assert provider.opened == 1


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_without_announced_end_ends_with_the_connection(
    upstream: Upstream, provider: ScriptedProvider, version: bytes
) -> None:
    origin = await provider.origin(provider.once(b"HTTP/%s 200 OK\r\nX: y\r\n\r\nuntil the end" % version))
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    assert await response.read(100) == b"until the end"
    assert response.complete
    assert response.close_delimited
    assert upstream.stats()[origin].idle == 0


async def test_an_announced_end_that_never_comes_is_a_truncation_however_the_connection_ends(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin()
    upstream.admit([origin])
    for reset in (False, True):
        provider.talk = provider.once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", reset=reset)
        with pytest.raises(Fault) as caught:
            await (await upstream.send(origin, GET, b"", QUICK)).read(100)
        assert caught.value.kind in ({Kind.TRUNCATED, Kind.CONNECT} if reset else {Kind.TRUNCATED})
        assert caught.value.origin is Whose.UPSTREAM


async def test_a_reset_makes_no_end_of_a_body_without_announced_end(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    heard = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await heard.wait()
        peer.reset()

    origin = await provider.origin(talk)
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    heard.set()
    with pytest.raises(Fault) as caught:
        await response.read(100)
    assert caught.value.kind is Kind.TRUNCATED
    assert not response.complete


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_a_body_ends_at_once(
    upstream: Upstream, provider: ScriptedProvider, status: bytes
) -> None:
    origin = await provider.origin(provider.once(b"HTTP/1.1 %s\r\n\r\n" % status, stay=True))
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    assert await response.read(0) == b""
    assert response.complete
    assert not response.close_delimited


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_an_answer_cut_at_any_byte_is_never_taken_for_whole(
    upstream: Upstream, provider: ScriptedProvider, answer: bytes
) -> None:
    origin = await provider.origin()
    upstream.admit([origin])
    head = answer.index(b"\r\n\r\n") + 4
    for cut in range(len(answer)):
        provider.talk = provider.once(answer[:cut])
        with pytest.raises(Fault) as caught:
            await (await upstream.send(origin, GET, b"", QUICK)).read(1000)
        assert caught.value.kind is (Kind.TRUNCATED if cut else Kind.CONNECT), cut
        assert caught.value.retry is (Retry.NEXT if cut else Retry.SAME)
        if cut >= head:
            told, response = Told(), await upstream.send(origin, GET, b"", QUICK)
            done = asyncio.Event()
            told.on_fault = lambda fault, told=told, done=done: (told.faults.append(fault), done.set())  # type: ignore[method-assign,assignment,misc]
            response.attach(told)
            await asyncio.wait_for(done.wait(), 2)
            assert [fault.kind for fault in told.faults] == [Kind.TRUNCATED]
            assert told.ends == 0
            assert (LENGTH[-11:] + CHUNKED_BODY).find(b"".join(told.data)) >= 0


async def test_an_early_refusal_is_heard_while_the_request_is_still_being_sent(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await peer.gone()

    origin = await provider.origin(talk)
    upstream.admit([origin])
    body = bytes(50_000_000)
    head = b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % len(body)
    response = await upstream.send(origin, head, body, QUICK)
    assert response.status == 413
    assert await response.read(100) == b"big"
    await provider.until(lambda: provider.closed == 1)
    assert upstream.stats()[origin].idle == 0
