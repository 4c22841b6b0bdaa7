"""NET-17, NET-19 and the life of a connection: order, leaving, backpressure, endings and what the door may do wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.raw import HOST, App, Doorman, EdgeServer, RawClient, request
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
