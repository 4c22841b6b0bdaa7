"""NET-16, NET-18, NET-22: one request on the wire is one request behind the edge, or none."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from edge.raw import HOST, App, Doorman, EdgeServer, request
from edge.smuggling import CORPUS, HEADS, HIDDEN, post
from ostiary.gateway.edge import edge_protocol
from ostiary.gateway.edge_rules import EdgeLimits


def refused_once(received: bytes) -> bool:
    """One answer, a refusal that closes, and nothing behind it."""
    return (
        received.count(b"HTTP/1.1 ") == 1
        and received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))
        and b"\r\nconnection: close\r\n" in received
    )


def assert_nothing_served(door: Doorman, app: App) -> None:
    assert not door.seen
    assert not app.seen


async def test_net_16_an_ambiguous_request_is_refused_and_the_connection_closed(
    server: EdgeServer, door: Doorman, app: App
) -> None:
    answers = {name: await server.exchange(attack) for name, attack in CORPUS.items()}
    assert {name: answer for name, answer in answers.items() if not refused_once(answer)} == {}
    assert_nothing_served(door, app)


async def test_net_16_byte_by_byte_makes_no_difference(server: EdgeServer, door: Doorman, app: App) -> None:
    async def drip(attack: bytes) -> bytes:
        return await server.exchange(*[attack[i : i + 1] for i in range(len(attack))])

    answers = dict(zip(CORPUS, await asyncio.gather(*map(drip, CORPUS.values())), strict=True))
    assert {name: answer for name, answer in answers.items() if not refused_once(answer)} == {}
    assert_nothing_served(door, app)


class Line(asyncio.Transport):
    """A transport in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.over = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.over
        self.sent += data

    def write_eof(self) -> None:
        self.over = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.over = True

    abort = close

    def is_closing(self) -> bool:
        return self.over

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


@pytest.mark.parametrize("name", CORPUS)
async def test_net_16_any_split_in_two_makes_no_difference(name: str, door: Doorman, app: App) -> None:
    attack = CORPUS[name]
    config = uvicorn.Config(app, log_config=None)
    edge = edge_protocol(door, EdgeLimits())
    for cut in range(1, len(attack)):
        state = ServerState()
        connection = edge(config, state, {}, asyncio.get_running_loop())
        line = Line()
        connection.connection_made(line)
        for piece in (attack[:cut], attack[cut:]):
            connection.data_received(piece)
            for _ in range(3):  # the door's task starts, gets what has come, and answers
                await asyncio.sleep(0)
        assert refused_once(line.sent), line.sent
        assert line.over
        connection.connection_lost(None)
    assert_nothing_served(door, app)


@pytest.mark.parametrize("name", ["CL and TE", "chunk extension", "CL twice, other"])
@pytest.mark.parametrize("path", [b"/v1/echo", b"/app"])
async def test_net_16_behind_a_good_request_only_the_good_one_is_answered(
    name: str, path: bytes, server: EdgeServer, door: Doorman, app: App
) -> None:
    attack = request("/v1/echo", b"good") + CORPUS[name].replace(b"/v1/echo", path)
    received = await server.exchange(attack)
    assert received.count(b"HTTP/1.1 200 ") == 1
    assert received.count(b"HTTP/1.1 400 ") == 1
    assert [seen.body for seen in door.seen] == [b"good"]
    assert not app.seen


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Length: 3\r\n", b"abc"),
        (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        (b"Transfer-Encoding:\tchunked\r\n", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        (b"Content-Length: 3\r\nContent_Length: 99\r\nTransfer_Encoding: chunked\r\n", b"abc"),
    ],
)
async def test_net_16_what_follows_a_good_body_is_the_next_request(
    headers: bytes, body: bytes, server: EdgeServer, door: Doorman
) -> None:
    client = await server.connect()
    for split in (False, True):
        wire = post(headers, body) + request(body=b"next")
        await client.send(*([wire[i : i + 1] for i in range(len(wire))] if split else [wire]))
        assert (await client.answer()).body == b"abc"
        assert (await client.answer()).body == b"next"
    assert all(b"_" not in name for name, _ in door.seen[0].headers)
    await client.close()


async def test_net_16_a_victim_on_another_connection_gets_his_own_answer(server: EdgeServer) -> None:
    victim = await server.connect()
    for name, attack in CORPUS.items():
        attacker, _ = await asyncio.gather(server.exchange(attack), victim.send(request(body=name.encode())))
        assert (await victim.answer()).body == name.encode()
        assert name.encode() not in attacker
    await victim.close()


async def test_net_18_transfer_encoding_of_http_1_0_is_refused(server: EdgeServer, door: Doorman, app: App) -> None:
    assert refused_once(await server.exchange(HEADS["TE in HTTP/1.0"]))
    assert_nothing_served(door, app)


@pytest.mark.parametrize("path", ["/v1/echo", "/app"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
async def test_net_18_an_upgrade_is_ignored(path: str, protocol: bytes, server: EdgeServer) -> None:
    client = await server.connect()
    offer = b"connection: upgrade, http2-settings\r\nupgrade: " + protocol + b"\r\nhttp2-settings: AAMAAABkAAQ\r\n"
    await client.send(request(path, b"abc", headers=offer) + request(path, b"def"))
    assert (await client.answer()).body == b"abc"
    assert (await client.answer()).body == b"def"
    await client.close()


async def test_net_18_connection_cannot_strip_a_credential(server: EdgeServer, door: Doorman) -> None:
    client = await server.connect()
    await client.send(
        request(headers=b"authorization: Bearer k\r\nconnection: authorization, x-api-key\r\nx-api-key: s\r\n")
    )
    assert (await client.answer()).status == 200
    assert (b"authorization", b"Bearer k") in door.seen[0].headers
    assert (b"x-api-key", b"s") in door.seen[0].headers
    await client.close()


async def test_net_18_expect_is_answered_when_the_body_is_asked_for(server: EdgeServer) -> None:
    client = await server.connect()
    for path in ("/v1/echo", "/app"):
        wire = request(path, b"abc", headers=b"expect: 100-Continue\r\n")
        await client.send(wire[:-3])
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).body == b"abc"
    await client.close()


@pytest.mark.parametrize("path", ["/v1/echo", "/app"])
async def test_net_18_expect_is_not_answered_when_the_body_has_begun(path: str, server: EdgeServer) -> None:
    client = await server.connect()
    wire = request(path, b"abc", headers=b"expect: 100-continue\r\n")
    await client.send(wire[:-1])
    await client.send(wire[-1:])
    assert (await client.answer()).status == 200
    await client.send(request(path, b"", headers=b"expect: 100-continue\r\n"))
    assert (await client.answer()).status == 200
    await client.close()


async def test_net_18_expect_of_http_1_0_is_ignored(server: EdgeServer) -> None:
    wire = post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc", line=b"POST /v1/echo HTTP/1.0\r\n")
    client = await server.connect()
    await client.send(wire[:-3])
    await client.send(wire[-3:])
    answer = await client.answer()
    assert (answer.status, answer.closes) == (200, True)
    await client.close()


@pytest.mark.parametrize("value", [b"", b"200-ok", b"100-continue, 100-continue", b"100-continue;x"])
async def test_net_18_any_other_expectation_is_refused(value: bytes, server: EdgeServer, door: Doorman) -> None:
    received = await server.exchange(request(body=b"abc", headers=b"expect: " + value + b"\r\n") + HIDDEN)
    assert received.startswith(b"HTTP/1.1 417 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert not door.seen


async def test_net_18_a_refusal_without_asking_for_the_body_ends_the_connection(
    server: EdgeServer, door: Doorman
) -> None:
    door.limit = 2
    received = await server.exchange(request(body=b"abc", headers=b"expect: 100-continue\r\n")[:-3])
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received
    assert b"100 Continue" not in received


async def test_net_22_other_methods_are_refused(server: EdgeServer, door: Doorman, app: App) -> None:
    for method in ("TRACE", "CONNECT", "PROPFIND", "PURGE", "LINK", "QUERY", "FOO", "get", "Post"):
        for path in ("/v1/echo", "/app"):
            assert refused_once(await server.exchange(request(path, method=method) + HIDDEN)), method
    assert_nothing_served(door, app)


async def test_net_22_a_method_of_8_kb_is_refused(server: EdgeServer, door: Doorman) -> None:
    for tail in (b" /v1/echo HTTP/1.1\r\n" + HOST + b"\r\n", b""):
        received = await server.exchange(b"A" * 8300 + tail)
        assert received.split(b" ")[1] in (b"405", b"414")
    assert not door.seen


async def test_net_22_the_tunnel_of_connect_is_never_opened(server: EdgeServer) -> None:
    received = await server.exchange(b"CONNECT upstream.test:443 HTTP/1.1\r\nHost: upstream.test:443\r\n\r\n" + HIDDEN)
    assert received.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n" in received
    assert received.count(b"HTTP/1.1 ") == 1


async def test_net_22_where_only_the_method_is_wrong_the_door_says_so(server: EdgeServer) -> None:
    received = await server.exchange(request("/v1/only-post", method="GET"))
    assert received.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: POST\r\n" in received


async def test_the_methods_of_the_api_pass(server: EdgeServer) -> None:
    client = await server.connect()
    for method, path in product(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"], ["/v1/echo", "/app"]):
        await client.send(request(path, b"abc", method=method))
        answer = await client.answer(method=method)
        assert answer.status == 200
        assert answer.headers["content-length"] == "3"
    await client.close()
