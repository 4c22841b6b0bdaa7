"""A scripted provider on a real socket: reads a request, lets the stage judge it, sends the answer. It must not judge.

Its streams come in pieces that end anywhere, as the network cuts them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.agents.stage import Stage, WrongRequestError
from tests.agents.voice import Answer, Request, Voice

PIECE = 173  # bytes


class Provider:
    """A voice and the stage that it plays on; what passes is kept under `wire`, one file for each direction."""

    def __init__(self, voice: Voice, stage: Stage, wire: Path) -> None:
        self.voice = voice
        self.stage = stage
        self.wire = wire
        self.url = ""
        self.requests = 0
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        """The answer to a request."""
        with self._lock:
            self.requests += 1
            name = f"{self.requests:03d}"
        head = "".join(f"{key}: {value}\n" for key, value in request.headers.items())
        (self.wire / f"{name}.request.txt").write_text(f"POST {request.path}?{request.query}\n{head}")
        (self.wire / f"{name}.request.json").write_bytes(request.raw)
        try:
            asked = self.voice.read(request)
            turn, stated, number = self.stage.play(asked)
            answer = self.voice.tell(turn, stated, number, stream=asked.stream)
        except (WrongRequestError, KeyError, IndexError, TypeError, ValueError) as wrong:
            words = f"the scripted provider complains of request {name}: {wrong!r}"
            self.stage.complaints.append(words)
            answer = self.voice.refuse(words)
        (self.wire / f"{name}.answer").write_bytes(answer.body)
        return answer


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    provider: Provider

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.provider.answer(Request(path, query, headers, raw))
        self.send_response(answer.status)
        self.send_header("content-type", answer.content_type)
        if answer.content_type == "application/json":
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for start in range(0, len(answer.body), PIECE):
            piece = answer.body[start : start + PIECE]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server calls
        """Nothing is logged."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def playing(provider: Provider) -> Iterator[str]:
    """Let a provider play; the address of its API."""
    door = type("Door", (_Door,), {"provider": provider})
    with _Server(("127.0.0.1", 0), door) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="scripted-provider", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{provider.voice.base}"
        finally:
            server.shutdown()
            thread.join()
