"""DOS-03, DOS-05, DOS-06: nobody gets more of the edge than its limits give: not time, not memory, not connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import time

import pytest

from edge.raw import HOST, App, Doorman, EdgeServer, RawClient, request
from ostiary.gateway.edge_rules import EdgeLimits, source_of
from ostiary.gateway.ports import Inbound

HEAD = b"POST /v1/echo HTTP/1.1\r\n" + HOST


@pytest.fixture
def limits() -> EdgeLimits:
    return EdgeLimits(head_seconds=0.4, body_seconds=0.4, idle_seconds=0.5, linger_seconds=0.2)


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def drip(client: RawClient, wire: bytes, pause: float) -> None:
    """Send a byte at a time until the server has enough of it."""
    with contextlib.suppress(ConnectionError):
        for i in range(len(wire)):
            await client.send(wire[i : i + 1])
            await asyncio.sleep(pause)


async def lateness(server: EdgeServer, rounds: int) -> float:
    """The median time of an exchange, in seconds."""
    client = await server.connect()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await client.send(request(body=b"x" * 300))
        await client.answer()
        times.append(time.perf_counter() - begun)
    await client.close()
    return statistics.median(times)


# --- time ---


async def test_dos_05_a_head_that_drips_is_cut_at_its_deadline(server: EdgeServer, door: Doorman) -> None:
    client = await server.connect()
    begun = time.perf_counter()
    dripping = asyncio.create_task(drip(client, HEAD + b"x: " + b"y" * 1000, 0.02))
    received = await client.rest()
    assert 0.3 < time.perf_counter() - begun < 2
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in received
    assert not door.seen
    dripping.cancel()
    await client.close()


@pytest.mark.parametrize("framing", [b"content-length: 1000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\nfff\r\n"])
@pytest.mark.parametrize("path", [b"/v1/echo", b"/app"])
async def test_dos_05_a_body_that_drips_is_cut_at_its_deadline(path: bytes, framing: bytes, server: EdgeServer) -> None:
    client = await server.connect()
    begun = time.perf_counter()
    await client.send(HEAD.replace(b"/v1/echo", path) + framing)
    dripping = asyncio.create_task(drip(client, b"y" * 1000, 0.02))
    received = await client.rest()
    assert 0.3 < time.perf_counter() - begun < 2
    assert received.startswith(b"HTTP/1.1 408 ")
    dripping.cancel()
    await client.close()


async def test_dos_05_a_large_body_gets_time_in_proportion(server: EdgeServer, door: Doorman) -> None:
    door.limit = 256 * 1024
    client = await server.connect()
    body = b"y" * (128 * 1024)  # announced: two more seconds
    wire = request(body=body)
    await client.send(wire[:1000])
    await asyncio.sleep(0.7)
    await client.send(wire[1000:])
    assert (await client.answer()).body == body
    await client.close()


async def test_dos_05_a_silent_connection_is_closed_without_a_word(server: EdgeServer) -> None:
    fresh, used = await server.connect(), await server.connect()
    await used.send(request(body=b"a"))
    await used.answer()
    assert await fresh.closed()
    assert await used.closed()
    await fresh.close()
    await used.close()


async def test_dos_05_the_second_head_has_its_own_deadline(server: EdgeServer) -> None:
    client = await server.connect()
    await client.send(request(body=b"a"))
    await client.answer()
    await asyncio.sleep(0.3)
    await client.send(HEAD[:-5])
    await asyncio.sleep(0.25)  # more than head_seconds since the first request, less since this one began
    await client.send(HEAD[-5:] + b"\r\n")
    assert (await client.answer()).status == 200
    await client.close()


async def test_dos_05_a_running_exchange_has_no_deadline_of_the_edge(server: EdgeServer, door: Doorman) -> None:
    async def slow(inbound: Inbound) -> None:
        await asyncio.sleep(0.8)
        inbound.answer(200, b"", b"slow")

    door.routes["/v1/slow"] = slow
    client = await server.connect()
    await client.send(request("/v1/slow"))
    assert (await client.answer()).body == b"slow"
    await client.close()


async def test_dos_05_a_body_nobody_asks_for_cannot_hide_that_the_client_has_gone(
    server: EdgeServer, door: Doorman
) -> None:
    async def deaf(inbound: Inbound) -> None:
        await asyncio.Event().wait()

    door.routes["/v1/deaf"] = deaf
    client = await server.connect()
    with contextlib.suppress(ConnectionError):
        await client.send(request("/v1/deaf", b"y" * 200_000)[:-1])
    await door.entered.wait()
    client.reset()  # unseen while reading is paused, until the body's deadline
    await asyncio.wait_for(door.cancelled.wait(), 6)


async def test_dos_05_half_open_connections_do_not_slow_the_others(door: Doorman, app: App) -> None:
    async with EdgeServer(door, app, EdgeLimits(head_seconds=1.0, linger_seconds=0.2)).running() as server:
        alone = await lateness(server, 50)
        half_open = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(500)]
        for sock in half_open:
            sock.setblocking(False)
            sock.send(HEAD + b"x: y")
        beside = await lateness(server, 50)
        assert beside < 2 * alone + 0.005
        loop = asyncio.get_running_loop()
        received = await asyncio.gather(*(loop.sock_recv(sock, 4096) for sock in half_open))
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in received)
        for sock in half_open:
            sock.close()
        while server.server.server_state.connections:
            await asyncio.sleep(0.01)


async def test_dos_05_an_answer_that_is_not_taken_is_not_kept_for_ever(server: EdgeServer, door: Doorman) -> None:
    async def large(inbound: Inbound) -> None:
        inbound.answer(200, b"", b"z" * 8_000_000)

    door.routes["/v1/large"] = large
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(request("/v1/large"))
        await door.entered.wait()
        while server.server.server_state.connections:  # idle_seconds
            await asyncio.sleep(0.01)


# --- size ---


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (HEAD + b"x: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (HEAD + b"".join(b"x%d: y\r\n" % i for i in range(100)) + b"\r\n", 431),
        (HEAD + b"cookie: " + b"y" * 65_536 + b"\r\n\r\n", 431),
        (HEAD + b"x: y\r\n" * 6000, 431),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET /a?" + b"a" * 8190 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET /" + b"a" * 9000, 414),
        (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"A" * 1_000_000, 431),
    ],
)
async def test_dos_06_a_head_over_its_caps_is_refused(
    wire: bytes, status: int, server: EdgeServer, door: Doorman
) -> None:
    received = await server.exchange(wire)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert received.count(b"HTTP/1.1 ") == 1
    assert not door.seen


async def test_dos_06_the_caps_are_exact(server: EdgeServer) -> None:
    limits = EdgeLimits()
    client = await server.connect()
    full = limits.head - len(HEAD) - len(b"x: \r\n\r\n")
    within = [
        HEAD + b"x: " + b"y" * full + b"\r\n\r\n",
        HEAD + b"x: y\r\n" * 99 + b"\r\n",
        b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    ]
    for wire in within:
        await client.send(wire[:-1])  # one byte short, so that what is incomplete is counted too
        await asyncio.sleep(0.02)
        await client.send(wire[-1:])
        assert (await client.answer()).status == 200
    await client.close()
    over = HEAD + b"x: " + b"y" * (full + 1) + b"\r\n\r\n"
    assert (await server.exchange(over[:-1], over[-1:])).startswith(b"HTTP/1.1 431 ")


async def test_dos_06_sixty_megabytes_of_header_take_no_memory(server: EdgeServer) -> None:
    before = resident()
    client = await server.connect()
    sent = 0
    with contextlib.suppress(ConnectionError):
        await client.send(HEAD + b"x: ")
        for _ in range(60):
            await client.send(b"y" * 1024 * 1024)
            sent += 1
    assert sent < 60
    assert resident() - before < 20 * 1024 * 1024
    await client.close()


# --- bodies ---


@pytest.mark.parametrize("path", ["/v1/echo", "/app"])
async def test_dos_03_a_declared_body_over_the_limit_is_refused_before_it_is_read(
    path: str, server: EdgeServer, door: Doorman
) -> None:
    client = await server.connect()
    await client.send(HEAD.replace(b"/v1/echo", path.encode()) + b"content-length: 999999999\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.closes) == (413, True)
    assert await client.closed()
    await client.close()


@pytest.mark.parametrize("path", ["/v1/echo", "/app"])
async def test_dos_03_a_chunked_body_is_counted(path: str, door: Doorman, app: App) -> None:
    door.limit = 100_000
    async with EdgeServer(door, app, EdgeLimits(app_body=100_000, linger_seconds=0.2)).running() as server:
        client = await server.connect()
        await client.send(HEAD.replace(b"/v1/echo", path.encode()) + b"transfer-encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                await client.send(b"4000\r\n" + b"y" * 0x4000 + b"\r\n")
                sent += 0x4000
        assert sent < 10_000 * 0x4000
        assert not door.seen
        assert not app.seen
        await client.close()


async def test_dos_03_the_one_who_sends_too_much_learns_it(server: EdgeServer, door: Doorman) -> None:
    door.limit = 10
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"b\r\n01234567890\r\n0\r\n\r\n"
    client = await server.connect()
    for wire in (chunked, request(body=b"01234567890")):
        await client.send(wire)  # all here: the framing stays known, the connection can be used again
        answer = await client.answer()
        assert (answer.status, answer.closes) == (413, False)
    await client.close()


async def test_dos_03_a_body_of_just_the_limit_is_taken(server: EdgeServer, door: Doorman) -> None:
    door.limit = 300_000
    client = await server.connect()
    body = bytes(range(256)) * 1171 + b"x" * 224
    for wire in (
        request(body=body),
        HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    ):
        await client.send(wire)
        assert (await client.answer()).body == body
    await client.close()


async def test_dos_03_a_length_that_lies_never_becomes_a_request(server: EdgeServer, door: Doorman) -> None:
    client = await server.connect()
    await client.send(HEAD + b"content-length: 10\r\n\r\nabc")
    client.reset()
    await door.cancelled.wait()
    assert not door.seen


# --- connections ---


async def test_dos_05_connections_are_capped_in_all_and_for_each_source(door: Doorman, app: App) -> None:
    for limits in (
        EdgeLimits(connections=3, linger_seconds=0.1),
        EdgeLimits(connections_per_source=3, linger_seconds=0.1),
    ):
        async with EdgeServer(door, app, limits).running() as server:
            clients = [await server.connect() for _ in range(3)]
            for client in clients:
                await client.send(request(body=b"in"))
                assert (await client.answer()).body == b"in"
            received = await server.exchange(request(body=b"out"))
            assert received.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in received
            await clients.pop().close()
            while len(server.server.server_state.connections) > 2:
                await asyncio.sleep(0.01)
            again = await server.connect()
            await again.send(request(body=b"again"))
            assert (await again.answer()).body == b"again"
            for client in [*clients, again]:
                await client.close()
    assert [seen.body for seen in door.seen] == [b"in", b"in", b"in", b"again"] * 2


async def test_dos_03_what_is_sent_during_an_exchange_is_bounded(server: EdgeServer, door: Doorman) -> None:
    async def never(inbound: Inbound) -> None:
        await asyncio.Event().wait()

    door.routes["/v1/never"] = never
    client = await server.connect()
    with contextlib.suppress(ConnectionError):
        await client.send(request("/v1/never"))
        for _ in range(100):
            await client.send(b"G" * 65536)
    await asyncio.wait_for(door.cancelled.wait(), 2)
    await client.close()


def test_a_source_is_an_ipv4_address_or_an_ipv6_network() -> None:
    assert source_of("192.0.2.7") == ("192.0.2.7", "192.0.2.7")
    assert source_of("::ffff:192.0.2.7") == ("192.0.2.7", "192.0.2.7")
    assert source_of("2001:db8::1") == ("2001:db8::1", "2001:0db8:0000:0000")
    assert source_of("fe80::1%eth0") == ("fe80::1", "fe80:0000:0000:0000")


@pytest.mark.parametrize("chunked", [False, True])
async def test_dos_03_the_bodies_held_at_once_are_bounded_in_all(door: Doorman, app: App, chunked: bool) -> None:
    body = b"y" * 100_000
    wire = request(body=body)
    if chunked:
        wire = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    holding, go_on = asyncio.Event(), asyncio.Event()

    async def hold(inbound: Inbound) -> None:
        await inbound.body(1_000_000)
        holding.set()
        await go_on.wait()
        inbound.answer(200, b"", b"held")

    door.routes["/v1/hold"] = hold
    limits = EdgeLimits(bodies_total=150_000, linger_seconds=0.2)
    async with EdgeServer(door, app, limits).running() as server:
        first = await server.connect()
        await first.send(request("/v1/hold", body=body))
        await holding.wait()
        second = await server.connect()
        with contextlib.suppress(ConnectionError):
            await second.send(wire)
        refused = await second.answer()
        assert (refused.status, refused.body) == (503, b"overloaded")
        small = await server.connect()
        await small.send(request(body=b"y" * 1000))
        assert (await small.answer()).status == 200, "small bodies are bounded by the number of connections"
        go_on.set()
        assert (await first.answer()).body == b"held"
        third = await server.connect()
        await third.send(wire)
        assert (await third.answer()).body == body
        for client in (first, second, small, third):
            await client.close()
