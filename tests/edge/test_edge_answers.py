"""What goes out on an edge connection: streams, counted answers, refusals of malformed heads, failures of the door."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edge.raw import HOST, Doorman, EdgeServer, request
from ostiary.core.fault import Fault, Kind
from ostiary.gateway.edge_rules import EdgeLimits
from ostiary.gateway.ports import Inbound

# --- answers ---


async def test_a_stream_comes_in_chunks_and_its_head_with_the_first(server: EdgeServer, door: Doorman) -> None:
    states: list[bool] = []

    async def stream(inbound: Inbound) -> None:
        inbound.start(502, b"x-first: attempt\r\n", 5)
        inbound.start(200, b"content-type: text/event-stream\r\n")  # nothing is out yet: it may be taken back
        states.append(inbound.started)
        inbound.write(b"data: 1\n\n")
        states.append(inbound.started)
        inbound.write(b"")
        inbound.write(b"data: 2\n\n")
        inbound.end()
        inbound.end()

    door.routes["/v1/stream"] = stream
    client = await server.connect()
    for _ in range(2):
        await client.send(request("/v1/stream"))
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"data: 1\n\ndata: 2\n\n")
        assert answer.headers["transfer-encoding"] == "chunked"
    assert states == [False, True] * 2
    await client.close()


async def test_an_answer_can_take_the_place_of_a_start_that_is_not_out(server: EdgeServer, door: Doorman) -> None:
    async def change(inbound: Inbound) -> None:
        inbound.start(200, b"x-old: 1\r\n", 100)
        inbound.answer(503, b"x-new: 1\r\n", b"sorry")

    door.routes["/v1/change"] = change
    client = await server.connect()
    for _ in range(2):
        await client.send(request("/v1/change"))
        answer = await client.answer()
        assert (answer.status, answer.body, "x-old" in answer.headers) == (503, b"sorry", False)
    await client.close()


async def test_a_head_held_back_is_sent_by_an_empty_write(server: EdgeServer, door: Doorman) -> None:
    go_on = asyncio.Event()

    async def stream(inbound: Inbound) -> None:
        inbound.start(200, b"")
        inbound.write(b"")
        await go_on.wait()
        inbound.end()

    door.routes["/v1/stream"] = stream
    client = await server.connect()
    await client.send(request("/v1/stream"))
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    go_on.set()
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"
    await client.close()


async def test_an_answer_of_known_length_is_counted(server: EdgeServer, door: Doorman) -> None:
    async def counted(inbound: Inbound) -> None:
        inbound.start(200, b"", 6)
        inbound.write(b"abc")
        inbound.write(b"def")
        inbound.end()

    async def short(inbound: Inbound) -> None:
        inbound.start(200, b"", 6)
        inbound.write(b"abc")
        inbound.end()

    async def long(inbound: Inbound) -> None:
        inbound.start(200, b"", 2)
        inbound.write(b"abc")

    door.routes |= {"/v1/counted": counted, "/v1/short": short, "/v1/long": long}
    client = await server.connect()
    await client.send(request("/v1/counted") * 2)
    assert [(await client.answer()).body for _ in range(2)] == [b"abcdef"] * 2
    await client.close()
    received = await server.exchange(request("/v1/short") + request())
    assert received.count(b"HTTP/1.1 ") <= 1
    assert b"0\r\n\r\n" not in received
    assert (await server.exchange(request("/v1/long"))).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)])
async def test_answers_without_a_body_have_none(method: str, status: int, server: EdgeServer, door: Doorman) -> None:
    async def whole(inbound: Inbound) -> None:
        inbound.answer(status, b"", b"body")

    async def pieces(inbound: Inbound) -> None:
        inbound.start(status, b"", 4)
        inbound.write(b"body")
        inbound.end()

    async def unknown(inbound: Inbound) -> None:
        inbound.start(status, b"")
        inbound.write(b"body")
        inbound.end()

    door.routes |= {"/v1/whole": whole, "/v1/pieces": pieces, "/v1/unknown": unknown}
    client = await server.connect()
    for path in ("/v1/whole", "/v1/pieces", "/v1/unknown"):
        await client.send(request(path, method=method))
        answer = await client.answer(method=method)
        assert answer.status == status
        assert "transfer-encoding" not in answer.headers
        assert answer.headers.get("content-length") == (None if method == "GET" or path == "/v1/unknown" else "4")
    await client.send(request(body=b"in step"))
    assert (await client.answer()).body == b"in step"
    await client.close()


async def test_http_1_0_gets_its_stream_unchunked_up_to_the_close(server: EdgeServer, door: Doorman) -> None:
    async def stream(inbound: Inbound) -> None:
        inbound.start(200, b"")
        inbound.write(b"one ")
        inbound.write(b"two")
        inbound.end()

    door.routes["/v1/stream"] = stream
    received = await server.exchange(b"GET /v1/stream HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST + b"\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    assert body == b"one two"
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    received = await server.exchange(b"GET /app HTTP/1.0\r\n" + HOST + b"\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")


async def test_an_answer_that_is_cut_cannot_be_taken_for_whole(server: EdgeServer, door: Doorman) -> None:
    finished = asyncio.Event()

    async def cut(inbound: Inbound) -> None:
        inbound.start(200, b"")
        inbound.write(b"half")
        await asyncio.sleep(0.01)
        inbound.abort()
        inbound.abort()
        await inbound.drain()
        await asyncio.sleep(0.05)  # its own cut does not cancel it
        finished.set()

    door.routes["/v1/cut"] = cut
    received = await server.exchange(request("/v1/cut"))
    assert received.endswith(b"4\r\nhalf\r\n")
    await asyncio.wait_for(finished.wait(), 1)
    assert not door.cancelled.is_set()


async def test_a_large_answer_arrives_whole(server: EdgeServer, door: Doorman) -> None:
    body = bytes(range(256)) * 40_000

    async def large(inbound: Inbound) -> None:
        inbound.answer(200, b"", body)

    door.routes["/v1/large"] = large
    client = await server.connect()
    for close in (b"", b"connection: close\r\n"):
        await client.send(request("/v1/large", headers=close))
        assert (await client.answer()).body == body
    assert await client.closed()
    await client.close()


@pytest.mark.parametrize(
    "head",
    [
        b"x: a\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"\r\nx: a\r\n",
        b"x: a\nset-cookie: b\r\n",
        b"x: a\rb\r\n",
        b"x: a\x00\r\n",
        b"x: a\x7f\r\n",
        b"x: a",
        b"x: a\r\n b\r\n",
        b"x : a\r\n",
        b"x\r\n",
        b": a\r\n",
        "x\u0131: a\r\n".encode(),
        b"Content-Length: 3\r\n",
        b"x: a\r\ntransfer-encoding: chunked\r\n",
        b"connection: keep-alive\r\n",
        b"date: now\r\n",
    ],
)
async def test_net_19_a_head_that_would_say_more_than_its_lines_never_goes_out(
    head: bytes, server: EdgeServer, door: Doorman
) -> None:
    async def answer(inbound: Inbound) -> None:
        with pytest.raises(ValueError, match="malformed"):
            inbound.start(200, head)
        inbound.answer(200, head, b"body")

    door.routes["/v1/answer"] = answer
    received = await server.exchange(request("/v1/answer"))
    assert received.startswith(b"HTTP/1.1 500 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"body" not in received
    assert b"set-cookie" not in received


@pytest.mark.parametrize("status", [99, 101, 199, 600, 999])
async def test_a_status_that_ends_nothing_never_goes_out(status: int, server: EdgeServer, door: Doorman) -> None:
    async def answer(inbound: Inbound) -> None:
        inbound.answer(status, b"", b"")

    door.routes["/v1/answer"] = answer
    assert (await server.exchange(request("/v1/answer"))).startswith(b"HTTP/1.1 500 ")


# --- what the door may do wrong ---


async def test_a_door_that_fails_is_answered_for(
    server: EdgeServer, door: Doorman, capsys: pytest.CaptureFixture[str]
) -> None:
    async def bug(inbound: Inbound) -> None:
        raise LookupError("canary-4711")

    async def late_bug(inbound: Inbound) -> None:
        inbound.start(200, b"")
        inbound.write(b"half")
        raise LookupError("canary-4711")

    async def silent(inbound: Inbound) -> None:
        await inbound.body(10)

    async def wrong_order(inbound: Inbound) -> None:
        for act in (lambda: inbound.write(b"a"), inbound.end):
            with pytest.raises(RuntimeError, match="between"):
                act()
        inbound.answer(200, b"", b"fine")
        with pytest.raises(RuntimeError, match="begun"):
            inbound.answer(200, b"", b"twice")
        with pytest.raises(RuntimeError, match="between"):
            inbound.write(b"more")
        inbound.abort()
        raise LookupError("canary-4711")

    door.routes |= {"/v1/bug": bug, "/v1/late": late_bug, "/v1/silent": silent, "/v1/wrong": wrong_order}
    for path in ("/v1/bug", "/v1/silent"):
        received = await server.exchange(request(path))
        assert received.startswith(b"HTTP/1.1 500 ")
        assert b'"code":"500"' in received
        assert b"connection: close" in received
    assert (await server.exchange(request("/v1/late"))).endswith(b"half\r\n")
    client = await server.connect()
    await client.send(request("/v1/wrong") + request(body=b"next"))
    assert [(await client.answer()).body for _ in range(2)] == [b"fine", b"next"]
    await client.close()
    logged = capsys.readouterr().err
    assert '"error":"LookupError","at":"bug:' in logged
    assert "canary" not in logged


async def test_the_body_can_be_asked_for_twice(server: EdgeServer, door: Doorman) -> None:
    async def twice(inbound: Inbound) -> None:
        assert await inbound.body(10) == await inbound.body(3) == b"abc"
        try:
            await inbound.body(2)
        except Fault as fault:
            inbound.answer(fault.status, b"", str(fault.kind == Kind.TOO_LARGE).encode())

    door.routes["/v1/twice"] = twice
    client = await server.connect()
    await client.send(request("/v1/twice", b"abc"))
    answer = await client.answer()
    assert (answer.status, answer.body) == (413, b"True")
    await client.close()


async def test_a_broken_body_fails_an_exchange_that_already_waits_for_it(server: EdgeServer, door: Doorman) -> None:
    client = await server.connect()
    head = b"POST %b HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
    await client.send(head % b"/v1/echo")
    await door.entered.wait()
    await client.send(b"3\r\nabcXX")
    answer = await client.answer()
    assert (answer.status, answer.body, answer.closes) == (400, b"malformed", True)
    await client.close()


async def test_a_broken_body_cuts_an_application_that_has_begun_to_answer(door: Doorman) -> None:
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    async with EdgeServer(door, app, EdgeLimits(body_seconds=0.3)).running() as server:
        for after in (b"zz\r\n", b""):  # broken; or late
            begun.clear()
            client = await server.connect()
            await client.send(b"POST /app HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n")
            await begun.wait()
            await client.send(after)
            assert (await client.rest()).endswith(b"5\r\nbegun\r\n")
            await client.close()
