"""CPU of the upstream client alone: µs per request against nginx, µs per streamed chunk against a scripted sender.

    python bench/upstream_micro.py [--seconds 4] [--connections 64] [--loop uvloop|asyncio] [--json FILE]

The client runs on core 0, its peers on core 1. nginx (Debian package nginx-light) answers 680 bytes of chat; a request
carries 1 kB. The floor is the same traffic through a bare protocol that counts bytes: what the loop and the kernel take
by themselves. Figures are CPU time of the client's process, user and system.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from ostiary.core.fault import Fault
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.upstream.origin import Origin
from ostiary.gateway.upstream.pool import Upstream

ANSWER = (
    '{"id":"chatcmpl-abc","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":'
    '{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":28}}'
) % ("word " * 96)
BODY = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % (b"x" * 966)
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nauthorization: Bearer sk-upstream\r\n"
    b"content-type: application/json\r\naccept-encoding: identity\r\ncontent-length: %d\r\n\r\n" % len(BODY)
)
TIMEOUTS = Timeouts()
CHUNKS = 200  # per stream
CHUNK_SECONDS = 0.005
NGINX = """
worker_processes 1; pid %(dir)s/nginx.pid; error_log stderr error; daemon off;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_body_buffer_size 2m;
  server { listen 127.0.0.1:%(port)d backlog=4096;
    location / { default_type application/json; return 200 '%(answer)s'; } } }
"""


class Count:
    """A sink that only counts."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.calls = 0

    def on_data(self, _data: bytes) -> None:
        self.calls += 1

    def on_end(self) -> None:
        self.done.set_result(None)

    def on_fault(self, fault: Fault) -> None:
        self.done.set_exception(fault)


class Bare(asyncio.Protocol):
    """The floor: writes a request when `more()` and the last answer has `size` bytes or ends with `tail`."""

    def __init__(
        self, more: Callable[[], bool], request: bytes, size: int, tail: bytes, done: Callable[[], None]
    ) -> None:
        self.more, self.request, self.size, self.tail, self.done = more, request, size, tail, done
        self.got = self.calls = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.go()

    def go(self) -> None:
        if self.more():
            self.transport.write(self.request)
        else:
            self.transport.close()
            self.done()

    def data_received(self, data: bytes) -> None:
        self.got += len(data)
        self.calls += 1
        if self.got >= self.size if self.size else data.endswith(self.tail):
            self.got = 0
            self.go()


async def requests(port: int, connections: int, seconds: float) -> float:
    """µs per request through the client."""
    origin = Origin("http", "127.0.0.1", port)
    upstream = Upstream(Sweeper(asyncio.get_running_loop()), [origin])
    count = 0

    async def worker(until: float) -> None:
        nonlocal count
        while time.monotonic() < until:
            response = await upstream.send(origin, HEAD, BODY, TIMEOUTS)
            body = await response.read(1 << 20)
            assert response.status == 200
            assert len(body) == len(ANSWER)
            count += 1

    async def run(span: float) -> None:
        until = time.monotonic() + span
        await asyncio.gather(*(worker(until) for _ in range(connections)))

    await run(0.5)
    count = 0
    before = time.process_time()
    await run(seconds)
    spent = time.process_time() - before
    await upstream.close()
    return spent / count * 1e6


async def bare_requests(port: int, connections: int, seconds: float) -> float:
    """µs per request of the floor."""
    count, left = 0, connections
    finished = asyncio.get_running_loop().create_future()
    until = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port)) as probe:
        probe.sendall(HEAD + BODY)
        size = len(probe.recv(65536))

    def more() -> bool:
        nonlocal count
        count += 1
        return time.monotonic() < until

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set_result(None)

    before = time.process_time()
    for _ in range(connections):
        await asyncio.get_running_loop().create_connection(
            lambda: Bare(more, HEAD + BODY, size, b"", done), "127.0.0.1", port
        )
    await finished
    return (time.process_time() - before) / count * 1e6


async def chunks(port: int, connections: int, seconds: float) -> float:
    """µs per arrival of streamed data through the client."""
    loop = asyncio.get_running_loop()
    origin = Origin("http", "127.0.0.1", port)
    upstream = Upstream(Sweeper(loop), [origin])
    arrivals = 0
    until = time.monotonic() + seconds

    async def worker() -> None:
        nonlocal arrivals
        while time.monotonic() < until:
            response = await upstream.send(origin, HEAD, BODY, TIMEOUTS)
            sink = Count(loop.create_future())
            response.attach(sink)
            await sink.done
            arrivals += sink.calls

    before = time.process_time()
    await asyncio.gather(*(worker() for _ in range(connections)))
    spent = time.process_time() - before
    await upstream.close()
    return spent / arrivals * 1e6


async def bare_chunks(port: int, connections: int, seconds: float) -> float:
    """µs per arrival of the floor."""
    left, protocols = connections, []
    finished = asyncio.get_running_loop().create_future()
    until = time.monotonic() + seconds

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set_result(None)

    def make() -> Bare:
        protocols.append(Bare(lambda: time.monotonic() < until, HEAD + BODY, 0, b"0\r\n\r\n", done))
        return protocols[-1]

    before = time.process_time()
    for _ in range(connections):
        await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    await finished
    return (time.process_time() - before) / sum(protocol.calls for protocol in protocols) * 1e6


class Sender(asyncio.Protocol):
    """Answers anything with a stream of `CHUNKS` chunks, each its own write."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, _data: bytes) -> None:
        self.left = CHUNKS
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        asyncio.get_running_loop().call_later(CHUNK_SECONDS, self.step)

    def step(self) -> None:
        if self.transport.is_closing():
            return
        row = b'data: {"id":"chatcmpl-abc","object":"chunk","choices":[{"index":0,"delta":{"content":" token"}}]}\n\n'
        self.left -= 1
        self.transport.write(b"%x\r\n%s\r\n" % (len(row), row) if self.left else b"0\r\n\r\n")
        if self.left:
            asyncio.get_running_loop().call_later(CHUNK_SECONDS, self.step)


async def serve_stream(port: int) -> None:
    """The sending side of the chunk figures."""
    server = await asyncio.get_running_loop().create_server(Sender, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as plug:
        return int(plug.getsockname()[1])


def await_port(port: int) -> None:
    """Until something listens there."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"nothing listens on port {port}")


def measure(run: Callable[[Coroutine[Any, Any, float]], float], arguments: argparse.Namespace) -> dict[str, float]:
    """All figures, with the peers started and ended."""
    web, stream = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "nginx.conf")
        conf.write_text(NGINX % {"dir": folder, "port": web, "answer": ANSWER})
        commands = [["nginx", "-p", folder, "-c", str(conf)], [sys.executable, __file__, "--serve", str(stream)]]
        peers = [subprocess.Popen(["taskset", "-c", "1", *command], stderr=subprocess.DEVNULL) for command in commands]
        try:
            await_port(web)
            await_port(stream)
            span, many = arguments.seconds, arguments.connections
            return {
                "request_us": run(requests(web, many, span)),
                "request_floor_us": run(bare_requests(web, many, span)),
                "chunk_us": run(chunks(stream, many, span)),
                "chunk_floor_us": run(bare_chunks(stream, many, span)),
            }
        finally:
            for peer in peers:
                peer.terminate()
                peer.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve_stream(arguments.serve))
        return
    os.sched_setaffinity(0, {0})
    figures = measure(uvloop.run if arguments.loop == "uvloop" else asyncio.run, arguments)
    for name, value in figures.items():
        print(f"{name:18} {value:7.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
