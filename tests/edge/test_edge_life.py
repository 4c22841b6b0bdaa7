"""NET-17, NET-19 and the life of a connection: order, leaving, backpressure, endings and what the door may do wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.raw import HOST, App, Doorman, EdgeServer, RawClient, request
from ostiary.core.fault import Fault, Kind
from ostiary.gateway.edge_rules import EdgeLimits
from ostiary.gateway.ports import Inbound

# --- order ---


async def test_net_17_a_hundred_pipelined_requests_of_both_kinds_are_answered_in_order(
    server: EdgeServer, door: Doorman, app: App
) -> None:
    async def uneven(inbound: Inbound) -> None:
        body = await inbound.body(100)
        await asyncio.sleep(0.002 * (int(body) % 3))
        inbound.start(200, b"")
        inbound.write(body)
        inbound.end()

    door.routes["/v1/uneven"] = uneven
    paths = ("/v1/echo", "/app", "/v1/uneven")
    client = await server.connect()
    await client.send(b"".join(request(paths[i % 3], b"%d" % i) for i in range(100)))
    assert [(await client.answer()).body for _ in range(100)] == [b"%d" % i for i in range(100)]
    await client.close()


async def test_net_17_each_request_is_judged_by_its_own_credentials(server: EdgeServer, door: Doorman) -> None:
    async def guarded(inbound: Inbound) -> None:
        allowed = (b"authorization", b"Bearer good") in inbound.headers
        inbound.answer(200 if allowed else 401, b"", b"")

    door.routes["/v1/guarded"] = guarded
    client = await server.connect()
    keys = [b"good", b"bad", b"", b"good"]
    headers = [b"authorization: Bearer %b\r\n" % key if key else b"" for key in keys]
    await client.send(b"".join(request("/v1/guarded", headers=header) for header in headers))
    assert [(await client.answer()).status for _ in keys] == [200, 401, 401, 200]
    await client.close()


async def test_net_17_a_refusal_with_the_body_unread_ends_the_connection(server: EdgeServer, door: Doorman) -> None:
    async def refuse(inbound: Inbound) -> None:
        inbound.answer(401, b"", b"no")

    door.routes["/v1/refuse"] = refuse
    client = await server.connect()
    await client.send(request("/v1/refuse", b"all here"))
    assert not (await client.answer()).closes
    await client.send(request("/v1/refuse", b"x" * 100)[:-1])
    answer = await client.answer()
    assert (answer.status, answer.closes) == (401, True)
    await client.send(b"x" + request())
    assert await client.closed()
    await client.close()


async def test_net_17_an_application_that_answers_early_ends_the_connection_too(server: EdgeServer, app: App) -> None:
    client = await server.connect()
    await client.send(request("/app/early", b"x" * 100)[:-1])
    app.go_on.set()
    assert (await client.answer()).status == 200
    await client.send(b"x" + request())
    assert await client.closed()
    await client.close()


async def test_net_17_after_close_is_asked_for_nothing_more_is_served(server: EdgeServer, door: Doorman) -> None:
    for path in ("/v1/echo", "/app"):
        received = await server.exchange(
            request(path, b"a", headers=b"connection: foo, Close\r\n") + request(body=b"b")
        )
        assert received.count(b"HTTP/1.1 200 ") == 1
    assert [seen.body for seen in door.seen] == [b"a"]


async def test_a_connection_is_used_again_and_again(server: EdgeServer) -> None:
    client = await server.connect()
    for i in range(50):
        await client.send(request(("/v1/echo", "/app")[i % 2], b"%d" % i))
        answer = await client.answer()
        assert (answer.body, answer.closes, "date" in answer.headers) == (b"%d" % i, False, True)
    assert server.server.server_state.total_requests == 50
    await client.close()


# --- leaving ---


@pytest.mark.parametrize("farewell", ["fin", "reset"])
async def test_a_client_that_leaves_cancels_its_exchange_at_once(
    farewell: str, server: EdgeServer, door: Doorman
) -> None:
    seen: list[bool] = []

    async def stream(inbound: Inbound) -> None:
        try:
            inbound.start(200, b"")
            inbound.write(b"first")
            await asyncio.Event().wait()
        finally:
            seen.append(inbound.gone)
            inbound.write(b"into the void")
            inbound.end()
            inbound.answer(200, b"", b"")
            inbound.start(200, b"")
            inbound.abort()

    door.routes["/v1/stream"] = stream
    client = await server.connect()
    await client.send(request("/v1/stream", b"abc"))
    await client.reader.readuntil(b"first\r\n")
    if farewell == "fin":
        await client.close()
    else:
        client.reset()
    await asyncio.wait_for(door.cancelled.wait(), 1)
    assert seen == [True]


async def test_a_client_that_leaves_while_its_body_is_awaited_cancels_its_exchange(
    server: EdgeServer, door: Doorman
) -> None:
    client = await server.connect()
    await client.send(request(body=b"x" * 300_000)[:-1])
    await door.entered.wait()
    await client.close()
    await asyncio.wait_for(door.cancelled.wait(), 1)


async def test_a_client_that_leaves_the_application_is_told_to_it(server: EdgeServer, app: App) -> None:
    client = await server.connect()
    await client.send(request("/app/wait", b"x"))
    await app.entered.wait()
    await client.close()
    await asyncio.wait_for(app.gone.wait(), 1)


async def test_requests_that_wait_behind_a_client_that_left_are_never_served(server: EdgeServer, door: Doorman) -> None:
    async def never(inbound: Inbound) -> None:
        await asyncio.Event().wait()

    door.routes["/v1/never"] = never
    client = await server.connect()
    await client.send(request("/v1/never") + request(body=b"waiting"))
    await door.entered.wait()
    await client.close()
    await door.cancelled.wait()
    await asyncio.sleep(0)
    assert not door.seen


async def test_an_exchange_that_has_answered_may_finish_its_work_though_the_client_leaves(
    server: EdgeServer, door: Doorman
) -> None:
    left, settled = asyncio.Event(), asyncio.Event()

    async def settle_late(inbound: Inbound) -> None:
        inbound.answer(200, b"", b"")
        await left.wait()
        settled.set()

    door.routes["/v1/late"] = settle_late
    client = await server.connect()
    await client.send(request("/v1/late"))
    await client.answer()
    await client.close()
    while server.server.server_state.connections:
        await asyncio.sleep(0.01)
    left.set()
    await asyncio.wait_for(settled.wait(), 1)
    assert not door.cancelled.is_set()


# --- backpressure ---


async def test_dos_07_a_client_that_does_not_read_holds_its_exchange_back(server: EdgeServer, door: Doorman) -> None:
    calls: list[str] = []
    written = 0
    blocked, done = asyncio.Event(), asyncio.Event()
    piece = b"z" * 16_384

    async def flood(inbound: Inbound) -> None:
        nonlocal written
        inbound.on_blocked = lambda: (calls.append("blocked"), blocked.set())[0]
        inbound.on_writable = lambda: calls.append("writable")
        inbound.start(200, b"")
        while written < 40_000_000:
            inbound.write(piece)
            written += len(piece)
            if not inbound.writable:
                await inbound.drain()
                assert inbound.writable
        inbound.end()
        await inbound.drain()
        done.set()

    door.routes["/v1/flood"] = flood
    client = await server.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(request("/v1/flood"))
    await blocked.wait()
    held = written
    await asyncio.sleep(0.1)
    assert written - held < 8_000_000  # no more than the socket buffers of the kernel
    assert written < 20_000_000
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    answer = await client.answer()
    assert len(answer.body) >= 40_000_000
    await done.wait()
    assert calls[:2] == ["blocked", "writable"]
    await client.close()


async def test_dos_07_a_client_that_leaves_while_held_back_cancels_the_exchange(
    server: EdgeServer, door: Doorman
) -> None:
    async def flood(inbound: Inbound) -> None:
        inbound.start(200, b"")
        while True:
            inbound.write(b"z" * 65_536)
            await inbound.drain()

    door.routes["/v1/flood"] = flood
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(request("/v1/flood"))
        await door.entered.wait()
        await asyncio.sleep(0.05)
        assert not door.cancelled.is_set()
    await asyncio.wait_for(door.cancelled.wait(), 1)


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


# --- the end of the server ---


async def test_avl_01_a_shutdown_closes_idle_connections_and_lets_answers_end(door: Doorman, app: App) -> None:
    go_on = asyncio.Event()

    async def stream(inbound: Inbound) -> None:
        inbound.start(200, b"")
        inbound.write(b"begun ")
        await go_on.wait()
        inbound.write(b"ended")
        inbound.end()

    async def slow(inbound: Inbound) -> None:
        await go_on.wait()
        inbound.answer(200, b"", b"slow")

    door.routes |= {"/v1/stream": stream, "/v1/slow": slow}
    async with EdgeServer(door, app, EdgeLimits(), timeout_graceful_shutdown=10).running() as server:
        idle, streaming, waiting, asking = [await server.connect() for _ in range(4)]
        await idle.send(request(body=b"in time"))
        await idle.answer()
        await streaming.send(request("/v1/stream") + request(body=b"too late"))
        await streaming.reader.readuntil(b"begun \r\n")
        await waiting.send(request("/v1/slow"))
        await asking.send(request("/app/early"))
        await app.entered.wait()
        stopping = asyncio.create_task(server.server.shutdown())
        assert await idle.closed()
        go_on.set()
        app.go_on.set()
        assert (await streaming.rest()) == b"5\r\nended\r\n0\r\n\r\n"
        for client in (waiting, asking):
            answer = await client.answer()
            assert (answer.status, answer.closes) == (200, True)
            assert await client.closed()
        for client in (idle, streaming, waiting, asking):
            await client.close()
        await stopping
    assert [seen.body for seen in door.seen] == [b"in time"]


async def test_avl_01_an_exchange_that_outlives_the_drain_is_told_so(door: Doorman, app: App) -> None:
    async def never(inbound: Inbound) -> None:
        await asyncio.Event().wait()

    async def endless(inbound: Inbound) -> None:
        inbound.start(200, b"")
        inbound.write(b"half")
        await asyncio.Event().wait()

    door.routes |= {"/v1/never": never, "/v1/endless": endless}
    async with EdgeServer(door, app, EdgeLimits(), timeout_graceful_shutdown=1).running() as server:
        waiting, streaming = await server.connect(), await server.connect()
        await waiting.send(request("/v1/never"))
        await streaming.send(request("/v1/endless"))
        await streaming.reader.readuntil(b"half\r\n")
        stopping = asyncio.create_task(server.server.shutdown())
        answer = await waiting.answer()
        assert (answer.status, answer.closes) == (503, True)
        assert await streaming.rest() == b""
        await waiting.close()
        await streaming.close()
        await stopping


async def test_avl_01_a_connection_that_was_refused_does_not_hold_a_shutdown_up(
    server: EdgeServer, door: Doorman
) -> None:
    client = await server.connect()
    await client.send(b"nonsense\r\n\r\n")
    assert (await client.answer()).status == 400
    await asyncio.wait_for(server.server.shutdown(), 2)
    await client.close()


# --- over TLS ---


def self_signed(folder: Path) -> tuple[str, str]:
    """A certificate for localhost and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


async def test_over_tls_answers_refusals_and_leaving_are_the_same(door: Doorman, app: App, tmp_path: Path) -> None:
    async def never(inbound: Inbound) -> None:
        await asyncio.Event().wait()

    door.routes["/v1/never"] = never
    certificate, key = self_signed(tmp_path)
    trust = ssl.create_default_context(cafile=certificate)
    limits = EdgeLimits(linger_seconds=0.2)
    async with EdgeServer(door, app, limits, ssl_certfile=certificate, ssl_keyfile=key).running() as server:

        async def connect() -> RawClient:
            streams = await asyncio.open_connection("127.0.0.1", server.port, ssl=trust, server_hostname="localhost")
            return RawClient(*streams)

        client = await connect()
        for path in ("/v1/echo", "/app"):
            await client.send(request(path, b"x" * 100_000))
            assert (await client.answer()).body == b"x" * 100_000
        await client.send(b"POST /v1/echo HTTP/1.1\r\n" + HOST + b"content-length: 9999999\r\n\r\nabc")
        assert (await client.answer()).status == 413
        assert await client.closed()
        await client.close()
        client = await connect()
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.answer()).status == 400
        assert await client.closed()
        await client.close()
        client = await connect()
        door.entered.clear()
        await client.send(request("/v1/never"))
        await door.entered.wait()
        client.reset()
        await asyncio.wait_for(door.cancelled.wait(), 1)
