"""The client's side of an exchange under test: an inbound that remembers what it was told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from ostiary.core.fault import Fault, Kind
from ostiary.core.record import Record

CLIENT_KEY = "sk-the-client-key"


class RecordingInbound:
    """An `Inbound` that remembers what it was told, and what the journal held at that moment.

    `log` has tuples ("answer", status, head, body), ("start", status, head), ("write", data), ("end",), ("abort",).
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        query: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        key: str | None = CLIENT_KEY,
        on_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.peer = "192.0.2.1"
        own = [(b"authorization", b"Bearer " + key.encode())] if key is not None else []
        self.headers = [(b"host", b"gateway.test"), *own, (b"content-type", b"application/json"), *headers]
        self.gone = False
        self.started = False
        self.writable = True
        self.on_writable: Callable[[], None] | None = None
        self.on_blocked: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.log: list[tuple[Any, ...]] = []
        self.journal_at_end: list[Record] | None = None
        self.journal: Callable[[], list[Record]] = list
        self.body_fault: Fault | None = None
        self.body_wait = 0.0
        self.on_write = on_write
        self._body = body
        self._held: tuple[Any, ...] | None = None
        self._ended = False

    async def body(self, limit: int) -> bytes:
        if self.body_wait:
            await asyncio.sleep(self.body_wait)
        if self.body_fault is not None:
            raise self.body_fault
        if len(self._body) > limit:
            raise Fault(Kind.TOO_LARGE, "too large")
        return self._body

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        assert not self.gone
        assert not self.started
        assert not self._ended
        _check_head(head)
        self.started = self._ended = True
        self.journal_at_end = self.journal()
        self.log.append(("answer", status, head, body))

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        assert not self.started
        assert not self._ended
        _check_head(head)
        self._held = ("start", status, head)

    def write(self, data: bytes) -> None:
        assert not self._ended
        if self.gone:
            return
        if self._held is not None:
            self.log.append(self._held)
            self._held, self.started = None, True
        self.log.append(("write", data))
        self.on_write()

    def end(self) -> None:
        if self.gone:
            return
        assert not self._ended
        self._ended = True
        self.journal_at_end = self.journal()
        self.log.append(("end",))

    def abort(self) -> None:
        self._ended = True
        self.log.append(("abort",))

    async def drain(self) -> None:
        return

    def leave(self) -> None:
        """The client hangs up."""
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    # what a test reads

    @property
    def status(self) -> int:
        return int(next(entry[1] for entry in self.log if entry[0] in ("answer", "start")))

    @property
    def head(self) -> dict[str, str]:
        return dict(self.lines)

    @property
    def lines(self) -> list[tuple[str, str]]:
        raw = next(entry[2] for entry in self.log if entry[0] in ("answer", "start"))
        return [tuple(line.split(": ", 1)) for line in raw.decode("latin-1").split("\r\n")[:-1]]  # type: ignore[misc]

    @property
    def sent(self) -> bytes:
        """The body bytes of the answer."""
        return b"".join(entry[-1] for entry in self.log if entry[0] in ("answer", "write"))

    @property
    def ended(self) -> str:
        """How the answer ended: "answer", "end", "abort", or "" while it has not."""
        return next((entry[0] for entry in reversed(self.log) if entry[0] in ("answer", "end", "abort")), "")

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.sent)["error"])


def _check_head(head: bytes) -> None:
    """The lines of an answer's head are lines, and frame nothing."""
    assert head.endswith(b"\r\n")
    for line in head.split(b"\r\n")[:-1]:
        name, mark, value = line.partition(b": ")
        assert mark
        assert name
        assert not set(name) & set(b"\r\n\0 \t")
        assert not set(value) & set(b"\r\n\0")
        assert name not in (b"content-length", b"transfer-encoding", b"connection", b"date")
