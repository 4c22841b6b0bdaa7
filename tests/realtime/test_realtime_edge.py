"""A WebSocket on a connection of the edge: what is held counts, and what is left behind is nothing."""

from __future__ import annotations

import asyncio

from talk_kit import handshake

from edge.raw import App, Doorman, EdgeServer, RawClient
from ostiary.gateway.duplex import Duplex, DuplexInbound
from ostiary.gateway.edge_rules import EdgeLimits
from ostiary.gateway.ports import Inbound
from ostiary.wire.framing.websocket import (
    BROKEN,
    TRY_LATER,
    Closing,
    WebSocketFramer,
    encode_frame,
)


class Hall:
    """A door that takes every WebSocket and remembers what came."""

    def __init__(self) -> None:
        self.duplex: Duplex | None = None
        self.heard: list[bytes] = []
        self.ended = asyncio.Event()
        self.code = 0

    async def serve(self, inbound: Inbound) -> None:
        assert isinstance(inbound, DuplexInbound)
        self.duplex = inbound.accept(inbound.handshake(), b"x-hall: 1\r\n", self, largest=10_000_000, silence=30)
        self.duplex.begin()
        await self.ended.wait()

    def on_message(self, payload: bytes, *, text: bool) -> None:
        self.heard.append(payload)

    def on_end(self, code: int, reason: str) -> None:
        self.code = code
        self.ended.set()

    def on_blocked(self) -> None: ...
    def on_writable(self) -> None: ...
    def on_stopping(self) -> None: ...


def opening() -> bytes:
    return "\r\n".join(["GET /ws HTTP/1.1", "Host: gateway.test", *handshake(None), "", ""]).encode()


async def opened(server: EdgeServer) -> RawClient:
    client = await server.connect()
    await client.send(opening())
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"x-hall: 1" in head
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # the answer that belongs to the key, RFC 6455, section 1.3
    return client


async def test_messages_that_are_not_whole_count_among_the_bodies_held() -> None:
    door, hall = Doorman(), Hall()
    door.routes["/ws"] = hall.serve
    limits = EdgeLimits(linger_seconds=0.2, bodies_total=200_000)
    async with EdgeServer(door, App(), limits).running() as server:
        client = await opened(server)
        await client.send(encode_frame(1, b"x" * 1_000_000, b"mask")[:500_000])
        framer, found = WebSocketFramer(masked=False), []
        while not found:
            found = framer.feed(await asyncio.wait_for(client.reader.read(65536), 10))
        assert isinstance(found[0], Closing)
        assert found[0].code == TRY_LATER
        await asyncio.wait_for(hall.ended.wait(), 10)
        await client.close()
        # what it held is free again
        second = Hall()
        door.routes["/ws"] = second.serve
        again = await opened(server)
        whole = encode_frame(1, b"y" * 150_000, b"mask")
        await again.send(whole[:100_000], whole[100_000:], encode_frame(8, b"", b"mask"))
        await asyncio.wait_for(second.ended.wait(), 10)
        assert second.heard == [b"y" * 150_000]
        await again.close()


async def test_a_client_that_vanishes_is_told_of() -> None:
    door, hall = Doorman(), Hall()
    door.routes["/ws"] = hall.serve
    async with EdgeServer(door, App(), EdgeLimits()).running() as server:
        client = await opened(server)
        client.reset()
        await asyncio.wait_for(hall.ended.wait(), 10)
        assert hall.code == BROKEN
