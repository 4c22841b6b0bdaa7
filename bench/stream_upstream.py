"""A provider that streams: chunks at a fixed pace, each its own write, then usage and `[DONE]`. It must not think.

usage: python -m bench.stream_upstream PORT CHUNKS MILLISECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop
from bench.rig import ANSWER, MODEL

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n{ANSWER}".encode()


def event(**fields: object) -> bytes:
    """One chunk of a chat stream as a server-sent event in an HTTP chunk."""
    chunk = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000, "model": MODEL, **fields}
    data = f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"
    return f"{len(data):x}\r\n{data}\r\n".encode()


def script(chunks: int) -> list[bytes]:
    """The writes of one stream."""
    deltas = [
        event(choices=[{"index": 0, "delta": {"content": f" token{i}"}, "logprobs": None, "finish_reason": None}])
        for i in range(chunks)
    ]
    stop = event(choices=[{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
    counts = {"prompt_tokens": 97, "completion_tokens": chunks, "total_tokens": chunks + 97}
    return [HEAD, *deltas, stop + event(choices=[], usage=counts) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"]


class Upstream(asyncio.Protocol):
    """Answers each request with the script, or with one JSON answer where no stream is asked for."""

    transport: asyncio.Transport

    def __init__(self, writes: list[bytes], seconds: float) -> None:
        self.writes, self.seconds = writes, seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self.parser = httptools.HttpRequestParser(self)
        self.streaming = False

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.streaming = self.streaming or b'"stream": true' in body or b'"stream":true' in body

    def on_message_complete(self) -> None:
        if self.streaming:
            self.streaming = False
            self.step(0)
        else:
            self.transport.write(PLAIN)

    def step(self, number: int) -> None:
        """Write one part of the script and come back for the next."""
        if not self.transport.is_closing():
            self.transport.write(self.writes[number])
            if number + 1 < len(self.writes):
                asyncio.get_running_loop().call_later(self.seconds, self.step, number + 1)


async def serve(port: int, chunks: int, milliseconds: float) -> None:
    """Serve until stopped."""
    writes = script(chunks)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(writes, milliseconds / 1000), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
