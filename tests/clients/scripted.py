"""A small provider on a real socket that speaks one dialect in words written after its documentation.

What it does is told by the model's name: `…text…`, `…tool…`, `…think…`, `…refuse…` or `…break…`. It judges what it is
asked as the real provider would, and answers 400 where it finds something wrong. It must not use the codecs.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import unquote

from lines import FINAL_PIECES, OVERLOADED, PIECES, Answer, Request, WrongRequestError, expect

SCENARIOS = ("text", "tool", "think", "refuse", "break")
CUT = 61  # bytes: the network cuts where it likes


class Voice(Protocol):
    """How one provider speaks; `base` is the path of its API base."""

    name: str
    base: str

    def serves(self, path: str) -> bool:
        """Whether this is a path of the dialect."""
        ...

    def asked(self, request: Request) -> tuple[str, bool]:
        """The model and whether a stream is wanted, of a request with the right credential.

        Raises:
            WrongRequestError: credential or shape is wrong.
        """
        ...

    def answered(self, request: Request, *, proven: bool) -> bool:
        """Whether the request holds the results of both calls.

        Raises:
            WrongRequestError: it holds them under wrong ids, or, where `proven` demands it, without the reasoning that
                led to the calls, and its proof where the provider gave one.
        """
        ...

    def text(self, pieces: tuple[str, ...], *, stream: bool) -> Answer:
        """An answer of text, with its usage."""
        ...

    def calls(self, *, thought: bool, stream: bool) -> Answer:
        """Two calls of the tool, for Paris and Oslo; `thought`: after reasoning, with a proof where it has them."""
        ...

    def refusal(self, status: int, words: str) -> Answer:
        """An error instead of an answer."""
        ...

    def broken(self) -> Answer:
        """A stream that fails after some text."""
        ...


class Provider:
    """One scripted provider of one or several dialects at one address: what it was asked, and had to complain of.

    A stream that breaks does so once `seen` is set: when its client has seen what comes before.
    """

    def __init__(self, voices: tuple[Voice, ...], port: int) -> None:
        self._voices = voices
        self.url = f"http://127.0.0.1:{port}{voices[0].base}"
        self.seen = threading.Event()
        self._requests: list[tuple[str, Request]] = []
        self._complaints: list[tuple[str, str]] = []

    def requests(self, mark: str) -> list[Request]:
        """The requests for models with this mark in their names."""
        return [request for model, request in list(self._requests) if mark in model]

    def complaints(self, mark: str) -> list[str]:
        """What was wrong with requests for models with this mark."""
        return [words for model, words in list(self._complaints) if mark in model]

    def play(self, request: Request) -> Answer:
        """The answer to a request."""
        model = f"{request.path} {request.body.get('model')}"
        voice = next((voice for voice in self._voices if voice.serves(request.path)), None)
        try:
            expect(voice, f"no such path: {request.path}")
            assert voice is not None
            model, stream = voice.asked(request)
            self._requests.append((model, request))
            return self._scene(voice, model, request, stream=stream)
        except (WrongRequestError, KeyError, ValueError, TypeError, IndexError) as wrong:
            self._complaints.append((model, f"{wrong!r} in {request.raw[:2000]!r}"))
            return (voice or self._voices[0]).refusal(400, f"the scripted provider complains: {wrong!r}")

    def _scene(self, voice: Voice, model: str, request: Request, *, stream: bool) -> Answer:
        scenario = re.search("|".join(SCENARIOS), model)
        expect(scenario, f"no scenario in the model's name {model!r}")
        assert scenario is not None
        match scenario[0]:
            case "tool" | "think" as name:
                proven = name == "think" and "-proof-" in model
                if voice.answered(request, proven=proven):
                    return voice.text(FINAL_PIECES, stream=stream)
                return voice.calls(thought=name == "think", stream=stream)
            case "refuse":
                return voice.refusal(429, OVERLOADED)
            case "break":
                expect(stream, "only a stream can break")
                return voice.broken()
        return voice.text(PIECES, stream=stream)


class _Door(BaseHTTPRequestHandler):
    """Reads one request, sends one answer; a stream in pieces that end anywhere."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    provider: Provider

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        path, _, query = self.path.partition("?")
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        request = Request("POST", path, query, headers, raw)
        request.body = json.loads(raw)
        self._send(self.provider.play(request))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("content-type", answer.content_type)
        for name, value in answer.headers:
            self.send_header(name, value)
        if not answer.stream:
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._stream(answer.body)
        if answer.then:
            self.provider.seen.wait(10.0)
            self._stream(answer.then)
        self.wfile.write(b"0\r\n\r\n")

    def _stream(self, data: bytes) -> None:
        for start in range(0, len(data), CUT):
            piece = data[start : start + CUT]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server calls
        """Nothing is logged."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def scripted(*voices: Voice) -> Iterator[Provider]:
    """A running provider."""
    door = type("Door", (_Door,), {})
    with _Server(("127.0.0.1", 0), door) as server:
        door.provider = provider = Provider(voices, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="scripted", daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()


def segment_of(path: str, before: str, after: str) -> str:
    """The one segment of a path between two others, decoded.

    Raises:
        WrongRequestError: the path is another one.
    """
    found = re.fullmatch(f"{re.escape(before)}([^/]+){re.escape(after)}", path)
    expect(found, f"the path {path!r} is not {before}…{after}")
    assert found is not None
    return unquote(found[1])
