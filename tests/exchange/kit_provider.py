"""The provider's side of an exchange under test: answers as scripts, and what was sent to get them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.upstream import origin
from ostiary.gateway.upstream.response import Response

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream")


class Play:
    """One scripted answer: a head after `wait` seconds, then steps: bytes, seconds, a call, a Fault; then the end.

    `raises` takes the place of the head.
    """

    def __init__(
        self,
        *steps: bytes | float | Fault | Callable[[], None],
        status: int = 200,
        headers: Sequence[tuple[bytes, bytes]] = (EVENTS,),
        wait: float = 0.0,
        raises: Fault | None = None,
        ends: bool = True,
    ) -> None:
        self.steps = steps
        self.status = status
        self.headers = list(headers)
        self.wait = wait
        self.raises = raises
        self.ends = ends
        self.aborted = False
        self.held = 0


class _Playing:
    """The source of a scripted response."""

    def __init__(self, play: Play, loop: asyncio.AbstractEventLoop) -> None:
        self._play = play
        self._loop = loop
        self._at = 0
        self._over = False
        self._held = False
        self._due = False
        self.response = Response(self, play.status, list(play.headers), close_delimited=False)
        loop.call_soon(self._step)

    def _step(self) -> None:
        play, response = self._play, self.response
        if self._over:
            return
        if self._held:
            self._due = True
            return
        if self._at == len(play.steps):
            if play.ends:
                self._over = True
                response.finish()
            return
        step = play.steps[self._at]
        self._at += 1
        if isinstance(step, Fault):
            self._over = True
            response.fail(step)
        elif isinstance(step, bytes):
            if response.sink is not None:
                response.sink.on_data(step)
            else:
                response.keep(step)
            self._loop.call_soon(self._step)
        elif callable(step):
            step()
            self._loop.call_soon(self._step)
        else:
            self._loop.call_later(step, self._step)

    def abort(self) -> None:
        self._over = True
        self._play.aborted = True

    def hold(self) -> None:
        self._play.held += 1
        self._held = True

    def unhold(self) -> None:
        self._held = False
        if self._due:
            self._due = False
            self._loop.call_soon(self._step)


class Sent(msgspec.Struct):
    """What reached the upstream client."""

    origin: origin.Origin
    head: bytes
    body: bytes
    timeouts: Timeouts
    at: float

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        lines = self.head.split(b"\r\n")
        assert lines[-2:] == [b"", b""]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:-2])]

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class Upstream:
    """The `Sender` of the plane: plays a script in order, or per host where given a mapping."""

    def __init__(self, *plays: Play) -> None:
        self.plays = list(plays)
        self.by_host: dict[str, list[Play]] = {}
        self.sent: list[Sent] = []
        self.admitted: frozenset[origin.Origin] = frozenset()

    async def send(
        self, origin: origin.Origin, head: bytes, body: bytes, timeouts: Timeouts, *, idempotent: bool
    ) -> Response:
        loop = asyncio.get_running_loop()
        self.sent.append(Sent(origin, head, body, timeouts, loop.time()))
        plays = self.by_host.get(origin.host, self.plays)
        assert plays, "the exchange sent more than the script has answers for"
        play = plays.pop(0)
        if play.wait:
            await asyncio.sleep(play.wait)
        if play.raises is not None:
            raise play.raises
        return _Playing(play, loop).response

    def admit(self, origins: frozenset[origin.Origin]) -> None:
        self.admitted = origins


def reply(usage: tuple[int, int] | None = (10, 5), *, headers: Sequence[tuple[bytes, bytes]] = (), **more: Any) -> Play:
    """A whole answer in one document."""
    document: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0}], **more}
    if usage is not None:
        document["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Play(json.dumps(document).encode(), headers=[JSON, *headers])


def refusal(status: int, *headers: tuple[bytes, bytes], message: str = "no", **error: Any) -> Play:
    """An error document."""
    body = json.dumps({"error": {"message": message, "type": "t", "param": None, "code": None, **error}}).encode()
    return Play(body, status=status, headers=[JSON, *headers])


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chunk(text: str = "x", finish: str | None = None, **more: Any) -> bytes:
    return event(id="c", choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more)


USAGE = event(id="c", choices=[], usage={"prompt_tokens": 10, "completion_tokens": 5})
DONE = b"data: [DONE]\n\n"
STREAM = (chunk("a"), chunk("b"), chunk("", "stop"), USAGE, DONE)


def broken(kind: Kind = Kind.TRUNCATED, retry: Retry = Retry.SAME, **more: Any) -> Fault:
    """What the upstream client raises."""
    return Fault(kind, "the provider failed", origin=Origin.UPSTREAM, retry=retry, **more)
