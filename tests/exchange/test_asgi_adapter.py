"""The plain ASGI adapter keeps the promises of `Inbound`, with a scripted server and with a real one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from kit import Room, ask, deployment, room, run, snapshot
from kit_client import CLIENT_KEY
from kit_provider import DONE, EVENTS, STREAM, USAGE, Play, broken, chunk, reply

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import BodyKind, Endpoint, Operation
from ostiary.core.record import Outcome
from ostiary.gateway.asgi import UNSENT, AsgiInbound, asgi_app
from ostiary.gateway.ports import Inbound, Route

GPT = snapshot(deployment("gpt"))


class Server:
    """An ASGI server's side of one request: gives `pieces` of a body, and leaves when told."""

    def __init__(self, *pieces: bytes, method: str = "POST", path: str = "/v1/chat/completions", **scope: Any) -> None:
        authorization = (b"Authorization", b"Bearer " + CLIENT_KEY.encode())
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [authorization, (b"content-type", b"application/json")],
            "client": ("192.0.2.7", 4711),
            **scope,
        }
        self.pieces = [*pieces]
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.slow: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self.gone_at_send = False
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        if self.pieces:
            self.taken += 1
            body = self.pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self.pieces)}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.slow()
        if self.gone_at_send:
            raise OSError("the client has left")
        self.sent.append(dict(message))

    async def call(self, app: Any) -> Server:
        await app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def head(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def whole(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def over(policy: Any, plays: tuple[Play, ...], work: Callable[[Room, Any], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        with room(policy, *plays) as made:
            return await work(made, asgi_app(made.door))

    return run(go())


def test_a_request_goes_through_and_its_answer_comes_back() -> None:
    async def work(made: Room, app: Any) -> None:
        body = ask()
        server = await Server(body[:10], body[10:]).call(app)
        assert (server.status, server.whole) == (200, True)
        assert server.head[b"content-length"] == b"%d" % len(server.body)
        assert json.loads(server.body)["id"] == "chatcmpl-1"
        assert made.record.outcome is Outcome.COMPLETED

    over(GPT, (reply(),), work)


def test_a_stream_is_sent_piece_by_piece() -> None:
    async def work(made: Room, app: Any) -> None:
        server = await Server(ask(stream=True)).call(app)
        assert [message["body"] for message in server.sent[1:]] == [step for step in STREAM if step != USAGE] + [b""]
        assert server.whole
        assert server.head[b"content-type"] == EVENTS[1]

    over(GPT, (Play(*STREAM),), work)


def test_a_client_that_leaves_cancels_the_exchange_at_once() -> None:
    async def work(made: Room, app: Any) -> None:
        play = Play(chunk("a"), 1000.0, *STREAM[1:])
        made.upstream.plays = [play]
        server = Server(ask(stream=True))
        asyncio.get_running_loop().call_later(5, server.left.set)
        began = asyncio.get_running_loop().time()
        await server.call(app)
        assert asyncio.get_running_loop().time() - began < 5.1
        assert play.aborted
        assert not server.whole
        assert made.record.outcome is Outcome.CLIENT_GONE

    over(GPT, (), work)


def test_a_server_that_says_so_by_an_error_means_the_same() -> None:
    async def work(made: Room, app: Any) -> None:
        server = Server(ask(stream=True))
        server.gone_at_send = True
        await server.call(app)
        assert made.record.outcome is Outcome.CLIENT_GONE

    over(GPT, (Play(chunk("a"), 1000.0),), work)


def test_an_answer_that_is_given_up_ends_in_an_exception() -> None:
    async def work(made: Room, app: Any) -> None:
        body = b'{"model":"gpt","input":"four"}'
        server = Server(body, path="/v1/audio/speech")
        with pytest.raises(ConnectionAbortedError):
            await server.call(app)
        assert not server.whole
        assert made.record.outcome is Outcome.TRUNCATED

    over(GPT, (Play(b"ID3", 1.0, broken(), headers=[(b"content-type", b"audio/mpeg")]),), work)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_413(announced: bool) -> None:
    async def work(made: Room, app: Any) -> None:
        server = Server(*[b"x" * 1_000_000] * 40)
        if announced:
            server.scope["headers"].append((b"content-length", b"40000000"))
        await server.call(app)
        assert server.status == 413
        assert server.taken < 40
        assert made.record.fault == "too_large"

    over(GPT, (), work)


def test_a_body_that_does_not_come_is_408() -> None:
    async def work(made: Room, app: Any) -> None:
        server = Server(b"{", b"")
        server.pieces.pop()

        async def receive() -> dict[str, Any]:
            if server.pieces:
                return {"type": "http.request", "body": server.pieces.pop(), "more_body": True}
            await server.left.wait()
            return {"type": "http.disconnect"}

        server.receive = receive  # type: ignore[method-assign]
        await server.call(app)
        assert server.status == 408

    over(GPT, (), work)


def test_a_client_that_does_not_read_holds_the_provider() -> None:
    async def work(made: Room, app: Any) -> None:
        play = Play(*[b"data: {}\n\n" * 2000] * 40, chunk("", "stop"), DONE)
        made.upstream.plays = [play]
        server = Server(ask(stream=True))
        server.slow = lambda: asyncio.sleep(1.0)
        await server.call(app)
        assert play.held > 3
        assert server.whole
        assert server.body.endswith(DONE)

    over(GPT, (), work)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/nothing", 404), ("GET", "/", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/v1//x", 400)],
)
def test_what_is_not_the_data_planes_gets_an_envelope(method: str, path: str, status: int) -> None:
    async def work(made: Room, app: Any) -> None:
        server = await Server(method=method, path=path).call(app)
        assert (server.status, server.whole) == (status, True)
        assert json.loads(server.body)["error"]["code"] == str(status)
        assert server.head.get(b"allow") == (b"POST" if status == 405 else None)
        assert made.settled == []

    over(GPT, (), work)


def test_it_can_be_mounted_below_a_path() -> None:
    async def work(made: Room, app: Any) -> None:
        path = "/ai/v1/chat/completions"
        server = await Server(ask(), path=path, raw_path=path.encode(), root_path="/ai").call(app)
        assert server.status == 200

    over(GPT, (reply(),), work)


@pytest.mark.parametrize("value", [b"a\r\nx-api-key: b", b"a\nb", b"a\x00", b"\x01"])
def test_net_19_a_server_that_lets_control_bytes_in_is_not_believed(value: bytes) -> None:
    async def work(made: Room, app: Any) -> None:
        server = Server(ask())
        server.scope["headers"].append((b"openai-beta", value))
        await server.call(app)
        assert server.status == 400
        assert made.upstream.sent == []

    over(GPT, (), work)


def test_a_header_with_an_underscore_is_no_header() -> None:
    async def work(made: Room, app: Any) -> None:
        server = Server(ask())
        server.scope["headers"] = [(b"x_api_key", CLIENT_KEY.encode()), (b"api_key", CLIENT_KEY.encode())]
        await server.call(app)
        assert server.status == 401

    over(GPT, (), work)


def test_the_servers_start_and_stop_are_answered_and_nothing_else_is_spoken() -> None:
    async def work(made: Room, app: Any) -> None:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])
        said: list[str] = []

        async def receive() -> dict[str, Any]:
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            said.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        with pytest.raises(ValueError, match="HTTP only"):
            await app({"type": "websocket"}, receive, send)

    over(GPT, (), work)


# --- the promises of Inbound, one by one ---


class Told:
    """A door that does with the inbound what a test says."""

    def __init__(self, act: Callable[[Inbound], Awaitable[None]]) -> None:
        self.act = act

    def route(self, method: bytes, path: str) -> Route:
        return Route(Endpoint("x", Operation.RAW, "GET", path, BodyKind.NONE))

    async def serve(self, inbound: Inbound, route: Route) -> None:
        await self.act(inbound)


def told(act: Callable[[Inbound], Awaitable[None]], *pieces: bytes, **scope: Any) -> Server:
    async def go() -> Server:
        return await Server(*(pieces or (b"",)), **scope).call(asgi_app(Told(act)))

    return run(go())


HEAD = b"content-type: text/plain\r\n"


@pytest.mark.parametrize(("method", "status", "length"), [("HEAD", 200, b"3"), ("GET", 204, None), ("GET", 304, None)])
def test_an_answer_without_a_body_has_none(method: str, status: int, length: bytes | None) -> None:
    async def act(inbound: Inbound) -> None:
        inbound.answer(status, HEAD, b"abc")
        assert inbound.started

    server = told(act, method=method)
    assert (server.body, server.head.get(b"content-length"), server.whole) == (b"", length, True)


def test_a_start_is_held_back_and_may_be_replaced() -> None:
    async def act(inbound: Inbound) -> None:
        inbound.start(200, HEAD)
        assert not inbound.started
        inbound.answer(500, HEAD, b"x")

    assert told(act).status == 500


def test_an_empty_write_sends_the_head() -> None:
    async def act(inbound: Inbound) -> None:
        inbound.start(200, HEAD)
        inbound.write(b"")
        assert inbound.started
        with pytest.raises(RuntimeError):
            inbound.start(200, HEAD)
        inbound.end()
        inbound.end()
        with pytest.raises(RuntimeError):
            inbound.write(b"late")

    assert told(act).whole


def test_a_counted_answer_is_neither_longer_nor_shorter_than_it_said() -> None:
    async def longer(inbound: Inbound) -> None:
        inbound.start(200, HEAD, 3)
        with pytest.raises(ValueError, match="longer"):
            inbound.write(b"four")
        inbound.write(b"abc")
        inbound.end()

    assert told(longer).body == b"abc"

    async def shorter(inbound: Inbound) -> None:
        inbound.start(200, HEAD, 3)
        inbound.write(b"ab")
        await asyncio.sleep(1)
        inbound.end()

    with pytest.raises(ConnectionAbortedError):
        told(shorter)


@pytest.mark.parametrize("act", ["write", "end"])
def test_nothing_is_written_before_the_start(act: str) -> None:
    async def early(inbound: Inbound) -> None:
        with pytest.raises(RuntimeError):
            inbound.write(b"x") if act == "write" else inbound.end()
        inbound.answer(200, HEAD, b"")

    assert told(early).whole


def test_a_head_that_frames_the_message_is_refused() -> None:
    async def act(inbound: Inbound) -> None:
        for head in (b"content-length: 3\r\n", b"a: b", b"a: b\r\n\r\n", b"connection: close\r\n"):
            with pytest.raises(ValueError, match="head"):
                inbound.start(200, head)
        inbound.answer(200, HEAD, b"")

    assert told(act).whole


def test_a_door_that_leaves_no_answer_cuts_the_connection() -> None:
    async def act(inbound: Inbound) -> None:
        await inbound.body(10)

    with pytest.raises(ConnectionAbortedError):
        told(act)


def test_drain_waits_until_the_client_reads_and_no_longer_than_it_is_there() -> None:
    seen: list[str] = []

    async def act(inbound: Inbound) -> None:
        inbound.on_blocked = lambda: seen.append("blocked")
        inbound.on_writable = lambda: seen.append("writable")
        inbound.start(200, HEAD)
        inbound.write(b"x" * (UNSENT + 1))
        assert not inbound.writable
        await inbound.drain()
        assert inbound.writable
        inbound.write(b"x" * (UNSENT + 1))
        inbound.end()
        await inbound.drain()

    assert len(told(act).body) == 2 * UNSENT + 2
    assert seen == ["blocked", "writable", "blocked"]


def test_a_client_that_has_gone_is_told_nothing_more() -> None:
    async def go() -> None:
        server = Server(b"")
        inbound = AsgiInbound(server.scope, server.receive, server.send)
        assert inbound.peer == "192.0.2.7"
        server.left.set()
        await inbound.listen()
        assert inbound.gone
        for act in (lambda: inbound.start(200, HEAD), lambda: inbound.write(b""), inbound.end, inbound.abort):
            act()
        inbound.answer(200, HEAD, b"x")
        await inbound.deliver()
        await inbound.drain()
        assert server.sent == []

    run(go())


def test_a_body_that_nobody_asked_for_is_not_taken_for_ever() -> None:
    async def act(inbound: Inbound) -> None:
        await asyncio.sleep(1)
        with pytest.raises(Fault) as fault:
            await inbound.body(10)
        assert fault.value.kind is Kind.TOO_LARGE
        inbound.answer(413, HEAD, b"")

    server = told(act, *[b"x" * 50_000] * 100)
    assert server.taken <= 3


# --- over a real server ---


async def test_a_stock_server_serves_it_cuts_what_is_given_up_and_sees_who_leaves() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    policy = snapshot(deployment("gpt"))
    cut = Play(b"ID3", 0.05, broken(), headers=[(b"content-type", b"audio/mpeg")])
    left = Play(chunk("a"), 30.0)
    with room(policy, Play(*STREAM), cut, left) as made:
        config = uvicorn.Config(asgi_app(made.door), log_config=None, lifespan="on", ws="none")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        port = listener.getsockname()[1]
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            for path, body, whole in (
                ("/v1/chat/completions", ask(stream=True), True),
                ("/v1/audio/speech", b'{"model":"gpt","input":"x"}', False),
            ):
                received = await _exchanged(port, _request(path, body))
                assert received.endswith(b"0\r\n\r\n") == whole
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_request("/v1/chat/completions", ask(stream=True)))
            await reader.readuntil(b"data: ")
            writer.close()
            for _ in range(500):
                if len(made.settled) == 3:
                    break
                await asyncio.sleep(0.01)
        finally:
            server.should_exit = True
            await running
        outcomes = [record.outcome for record in made.settled]
        assert outcomes == [Outcome.COMPLETED, Outcome.TRUNCATED, Outcome.CLIENT_GONE]


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {CLIENT_KEY}\r\n"
    return (
        f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        + body
    )


async def _exchanged(port: int, request: bytes) -> bytes:
    """All that comes for a request until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    received = await reader.read()
    writer.close()
    return received
