"""What the fake provider shall do with a request, as values. It must not do any of it: `provider` plays the scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

BEFORE_HEAD = -1  # `Script.hold`: not even a status line


@dataclass(frozen=True)
class Tokens:
    """The usage that an answer states. `prompt` includes `cached`, `completion` includes `reasoning`."""

    prompt: int = 10
    completion: int = 5
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Script:
    """How one request is answered. The default is a well-behaved provider.

    An *event* is one server-sent event of a stream, `[DONE]` included; an answer that is not a stream counts as one.

    Args:
        status: HTTP status; from 400 on, the answer is an error body.
        headers: further header lines of the answer.
        body: the answer's body in place of the one that the endpoint would give.
        text: the answer's text; None echoes the nonce of the question, or greets.
        pieces: how many chunks with text a stream has.
        tokens: the usage stated.
        usage: whether usage is stated at all.
        finish: `finish_reason` of a text answer.
        delay_head: seconds before the status line.
        delay_event: seconds before each event.
        hold: after this many events (0: after the head, `BEFORE_HEAD`: at once) wait for `FakeProvider.release`.
        cut_event: break the connection after this many events.
        cut_byte: break the connection after this many bytes of the answer, head included.
        insert: (n, bytes): put these bytes into the stream before event n.
        raw: bytes in place of the whole answer, head included; the connection is closed after them.
        length: what Content-Length claims, in place of the truth; makes a stream unchunked.
        gzip: whether the body is compressed, asked for or not.
        close: whether the connection is closed after the answer.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    text: str | None = None
    pieces: int = 3
    tokens: Tokens = Tokens()
    usage: bool = True
    finish: str = "stop"
    delay_head: float = 0.0
    delay_event: float = 0.0
    hold: int | None = None
    cut_event: int | None = None
    cut_byte: int | None = None
    insert: tuple[tuple[int, bytes], ...] = ()
    raw: bytes | None = None
    length: int | None = None
    gzip: bool = False
    close: bool = False


def error_body(message: str, type_: str, code: str | None, param: str | None = None) -> bytes:
    """An error in the envelope of the OpenAI API."""
    return json.dumps({"error": {"message": message, "type": type_, "param": param, "code": code}}).encode()


def rejected(retry_after: float | None = None) -> Script:
    """429, with `Retry-After` in seconds where given."""
    headers = () if retry_after is None else (("retry-after", f"{retry_after:g}"),)
    body = error_body("Too many requests.", "requests", "rate_limit_exceeded")
    return Script(status=429, headers=headers, body=body)


OK = Script()
SERVER_ERROR = Script(status=500, body=error_body("The server had an error.", "server_error", None))
OVERLOADED = Script(status=503, body=error_body("Overloaded.", "server_error", None))
BAD_KEY = Script(status=401, body=error_body("Incorrect API key.", "invalid_request_error", "invalid_api_key"))
BAD_REQUEST = Script(
    status=400, body=error_body("Unsupported value.", "invalid_request_error", "unsupported_value", "temperature")
)
CONTEXT_WINDOW = Script(
    status=400,
    body=error_body(
        "The input exceeds this model's context length.", "invalid_request_error", "context_length_exceeded", "messages"
    ),
)
CONTENT_FILTER = Script(
    status=400,
    body=error_body("The content management policy was triggered.", "invalid_request_error", "content_filter"),
)
NOT_FOUND = Script(status=404, body=error_body("No such model.", "invalid_request_error", "model_not_found"))
MALFORMED_EVENT = Script(insert=((1, b'data: {"id": "chatcmpl-1", "choices": [\n\n'),))
ERROR_EVENT = Script(insert=((2, b"data: " + error_body("Broke down.", "server_error", None) + b"\n\n"),), cut_event=2)
GARBAGE = Script(raw=b"\x16\x03\x01 this is no status line\r\n\r\n")
REDIRECT = Script(status=307, headers=(("location", "http://127.0.0.1:9/v1/chat/completions"),), body=b"")
ENDLESS_HEADERS = Script(raw=b"HTTP/1.1 200 OK\r\n" + b"x-filler: " + b"a" * 8_000_000)

# Scripts that a model's name chooses where the test sets none: for providers in a process of their own.
BY_NAME: Mapping[str, Script] = MappingProxyType(
    {
        "fake-429": rejected(1),
        "fake-500": SERVER_ERROR,
        "fake-503": OVERLOADED,
        "fake-401": BAD_KEY,
        "fake-context-window": CONTEXT_WINDOW,
        "fake-content-filter": CONTENT_FILTER,
        "fake-garbage": GARBAGE,
        "fake-redirect": REDIRECT,
        "fake-gzip": Script(gzip=True),
        "fake-cut": Script(cut_event=2),
        "fake-stall": Script(hold=2),
        "fake-silent": Script(hold=BEFORE_HEAD),
        "fake-slow": replace(OK, delay_event=0.05, pieces=20),
    }
)
