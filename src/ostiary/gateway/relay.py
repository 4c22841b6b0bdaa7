"""From the provider's bytes to the client's: the tap, the commit point, silence, and backpressure both ways.

It must not decide what a failure means for the request; it reports, and says whether the answer had begun.

A stream is relayed by callbacks: bytes come in from the upstream connection and go out to the client's transport in
the same call, without a task in between. The commit point is the first byte handed to the client: before it the
exchange may try another target, after it never. Two things commit: the first event of the answer, and silence, when a
comment has to keep the client's connection alive. The last bytes wait for the ledger: `settle` is called before them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.gateway.ports import Inbound
from ostiary.gateway.upstream.response import Response


class Tap(Protocol):
    """What watches a stream: the dialect's taps for events, `OpaqueTap` for bytes that nobody reads."""

    done: bool
    fault: Fault | None
    chunks: int

    def feed(self, data: bytes) -> bytes: ...
    def finish(self) -> bytes: ...
    @property
    def whole(self) -> bool: ...


class OpaqueTap:
    """A tap for bytes without events: audio, files. Whole when the transport says so."""

    __slots__ = ("chunks", "done", "fault")

    def __init__(self) -> None:
        self.done = False
        self.fault: Fault | None = None
        self.chunks = 0

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data

    def finish(self) -> bytes:
        """Nothing is left."""
        return b""

    @property
    def whole(self) -> bool:
        """The transport's word is all there is."""
        return True


class Relay:
    """The client's side of one exchange's stream, over all its attempts.

    Args:
        head: gives status and header lines at the commit point.
        settle: called once, before the last bytes of a whole answer.
        ping_seconds: silence after which an event stream gets a sign of life; 0 for never.
        ping: that sign, as the client's dialect has it; empty where it has none.

    `deadline` and `expire` are for the sweeper. `events` is False where the answer is of other bytes, in which neither
    a comment nor an error has a place.
    """

    __slots__ = (
        "_done",
        "_head",
        "_inbound",
        "_loop",
        "_ping",
        "_seconds",
        "_settle",
        "committed",
        "deadline",
        "events",
        "tap",
    )

    def __init__(
        self,
        inbound: Inbound,
        head: Callable[[], tuple[int, bytes]],
        settle: Callable[[], None],
        ping_seconds: float,
        ping: bytes,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        ping_seconds = ping_seconds if ping else 0.0
        self.tap: Tap = OpaqueTap()
        self.committed = False
        self.events = True
        self.deadline = loop.time() + ping_seconds if ping_seconds else 0.0
        self._inbound = inbound
        self._head = head
        self._settle = settle
        self._seconds = ping_seconds
        self._ping = ping
        self._loop = loop
        self._done: asyncio.Future[None] | None = None

    async def run(self, response: Response, tap: Tap) -> None:
        """Relay one answer to its end.

        Raises:
            Fault: the answer is not whole. `committed` tells whether the client has seen a part of it.
        """
        self.tap = tap
        self.events = not isinstance(tap, OpaqueTap)
        self._done = self._loop.create_future()
        inbound = self._inbound
        inbound.on_blocked, inbound.on_writable = response.pause, response.resume
        try:
            response.attach(self)
            if not inbound.writable:
                response.pause()
            await self._done
        except BaseException:
            response.abort()
            raise
        finally:
            inbound.on_blocked = inbound.on_writable = None

    def on_data(self, data: bytes) -> None:
        """Bytes from the provider."""
        tap = self.tap
        out = tap.feed(data)
        if tap.fault is not None:
            if out and self.committed:
                self._inbound.write(out)  # what came before the failure; not yet begun, it can still be tried again
            self._fail(tap.fault)
        elif tap.done:
            self._finish(out)
        elif out:
            if not self.committed:
                self._commit()
            self._inbound.write(out)
        if self._seconds:
            self.deadline = self._loop.time() + self._seconds

    def on_end(self) -> None:
        """The provider's transport has come to its announced end."""
        tap = self.tap
        out = tap.finish()
        if tap.fault is not None:
            self._fail(tap.fault)
        elif tap.whole:
            self._finish(out)
        else:
            self._fail(truncated())

    def on_fault(self, fault: Fault) -> None:
        """The provider's transport broke."""
        self._fail(fault)

    def expire(self) -> None:
        """Silence: tell the client that somebody is still there. This commits."""
        self.deadline = self._loop.time() + self._seconds
        if self.events and not self._inbound.gone:
            if not self.committed:
                self._commit()
            self._inbound.write(self._ping)

    def _commit(self) -> None:
        self.committed = True
        status, head = self._head()
        self._inbound.start(status, head)

    def _finish(self, last: bytes) -> None:
        done = self._done
        if done is None or done.done():
            return
        if not self.committed:
            self._commit()  # holds only the head; when the answer began belongs into the settled record
        self._settle()
        if last:
            self._inbound.write(last)
        self._inbound.end()
        done.set_result(None)

    def _fail(self, fault: Fault) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(fault)


def truncated() -> Fault:
    """The fault of a stream whose end never came."""
    return Fault(Kind.TRUNCATED, "the provider broke off its answer", origin=Origin.UPSTREAM, retry=Retry.SAME)
