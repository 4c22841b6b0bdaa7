"""Load that wrk cannot give: open-loop arrivals, streams, and a probe. Prints one line of JSON. It must not judge.

usage: python -m bench.load paced   PORT KEY RATE SECONDS [BYTES]   Poisson arrivals, latency from when each was due
       python -m bench.load streams PORT KEY CONNECTIONS STREAMS    streams one after another on each connection
       python -m bench.load probe   PORT SECONDS                    GET /health/liveliness every 2 to 6 ms
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools
import uvloop
from bench.rig import CHAT, MESSAGES, MESSAGES_PATH, MODEL, PATH


class Connection(asyncio.Protocol):
    """One kept-alive connection that carries one request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.done: Callable[[int], None] | None = None
        self.piece: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def send(self, request: bytes, done: Callable[[int], None], piece: Callable[[bytes], None] | None = None) -> None:
        """Send a request; `piece` gets each part of the answer's body, `done` its status at the end."""
        self.done, self.piece = done, piece
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if self.piece is not None:
            self.piece(body)

    def on_message_complete(self) -> None:
        done, self.done = self.done, None
        status = self.parser.get_status_code()
        self.parser = httptools.HttpResponseParser(self)
        if done is not None:
            # Later, so that the parser is not fed from within its own callback.
            asyncio.get_running_loop().call_soon(done, status)

    def connection_lost(self, failure: Exception | None) -> None:  # noqa: ARG002 (the protocol's signature)
        if self.done is not None:
            done, self.done = self.done, None
            done(0)


async def connect(port: int) -> Connection:
    """A new connection to the server."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def post(key: str, body: bytes, path: str = PATH) -> bytes:
    """The bytes of a chat request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the longest, in milliseconds."""
    ordered = sorted(seconds) or [0.0]

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3, 3)

    return {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


async def paced(port: int, key: str, rate: float, seconds: float, size: int) -> dict[str, object]:
    """Requests arrive whether or not the server keeps up; waiting for a free connection counts as latency."""
    loop = asyncio.get_running_loop()
    body = CHAT.encode()
    if size:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "word " * (size // 5)}]}).encode()
    request = post(key, body)
    idle = deque([await connect(port) for _ in range(64)])
    waiting: deque[float] = deque()
    took: list[float] = []
    bad = 0
    chance = random.Random(1)
    started = loop.time()
    due = started
    sent = 0
    finished = asyncio.Event()

    def dispatch() -> None:
        while idle and waiting:
            connection, since = idle.popleft(), waiting.popleft()

            def done(status: int, connection: Connection = connection, since: float = since) -> None:
                nonlocal bad
                took.append(time.perf_counter() - since)
                bad += status != 200
                idle.append(connection)
                dispatch()
                if len(took) == sent and loop.time() - started >= seconds:
                    finished.set()

            connection.send(request, done)

    while loop.time() - started < seconds:
        while due <= loop.time():
            waiting.append(time.perf_counter())
            sent += 1
            due += chance.expovariate(rate)
        dispatch()
        await asyncio.sleep(0.001)
    if len(took) < sent:
        await asyncio.wait_for(finished.wait(), 30)
    for connection in idle:
        connection.transport.close()
    return {"requests": sent, "bad": bad, **quantiles(took)}


async def streams(port: int, key: str, connections: int, total: int, *, translated: bool = False) -> dict[str, object]:
    """Read `total` streams, a new one on each connection as soon as one has ended."""
    body, path = (MESSAGES, MESSAGES_PATH) if translated else (CHAT, PATH)
    request = post(key, json.dumps({**json.loads(body), "stream": True}).encode(), path)
    first: list[float] = []
    chunks, bad, left, ended = 0, 0, total, 0
    finished = asyncio.Event()

    def go(connection: Connection) -> None:
        nonlocal left
        if not left:
            return
        left -= 1
        started = time.perf_counter()
        seen = False

        def piece(body: bytes) -> None:
            nonlocal chunks, seen
            if not seen:
                seen = True
                first.append(time.perf_counter() - started)
            chunks += body.count(b"data:")

        def done(status: int) -> None:
            nonlocal bad, ended
            bad += status != 200
            ended += 1
            if ended == total:
                finished.set()
            go(connection)

        connection.send(request, done, piece)

    opened = [await connect(port) for _ in range(connections)]
    started = time.perf_counter()
    for connection in opened:
        go(connection)
    await finished.wait()
    seconds = time.perf_counter() - started
    for connection in opened:
        connection.transport.close()
    return {"streams": total, "bad": bad, "chunks": chunks, "chunks_per_second": chunks / seconds, **quantiles(first)}


async def probe(port: int, seconds: float) -> dict[str, object]:
    """Ask for a sign of life again and again, on a connection of its own."""
    loop = asyncio.get_running_loop()
    chance = random.Random(2)
    connection = await connect(port)
    took: list[float] = []
    bad = 0
    ends = loop.time() + seconds
    while loop.time() < ends:
        answered: asyncio.Future[int] = loop.create_future()
        started = time.perf_counter()
        connection.send(b"GET /health/liveliness HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", answered.set_result)
        bad += await answered != 200
        took.append(time.perf_counter() - started)
        await asyncio.sleep(chance.uniform(0.002, 0.006))
    connection.transport.close()
    return {"requests": len(took), "bad": bad, **quantiles(took)}


def main(arguments: list[str]) -> None:
    """Run one kind of load."""
    match arguments:
        case ["paced", port, key, rate, seconds, *size]:
            work = paced(int(port), key, float(rate), float(seconds), int(size[0]) if size else 0)
        case ["streams", port, key, connections, total]:
            work = streams(int(port), key, int(connections), int(total))
        case ["translated-streams", port, key, connections, total]:
            work = streams(int(port), key, int(connections), int(total), translated=True)
        case ["probe", port, seconds]:
            work = probe(int(port), float(seconds))
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main(sys.argv[1:])
