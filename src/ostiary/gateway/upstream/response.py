"""One answer of a provider, read whole or handed on piece by piece. It must not hold more than its reader asked for."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ostiary.core.fault import Fault, Kind, Origin, Retry

UNREAD_BYTES = 256 * 1024  # held while nobody reads; beyond this the provider has to wait


class Sink(Protocol):
    """Where an answer goes. Called synchronously as bytes arrive, must not raise; after `abort()` not called again."""

    def on_data(self, data: bytes) -> None:
        """The body bytes of one arrival, never empty."""
        ...

    def on_end(self) -> None:
        """The body is over, as the provider announced it (or by closing, see `Response.close_delimited`)."""
        ...

    def on_fault(self, fault: Fault) -> None:
        """The body will not be complete."""
        ...


class Source(Protocol):
    """The connection behind an answer that is still arriving."""

    def abort(self) -> None: ...
    def hold(self) -> None: ...
    def unhold(self) -> None: ...


class Response:
    """Head and body of an answer.

    `headers` have lower-case names, in the order of arrival. `complete` turns True at the end of the body.
    `close_delimited` says that the body had no announced end, so that only its content can tell whether it is whole.
    Whoever got the response calls `read`, or `attach`, and `abort()` when it leaves early; `abort()` after the end is
    harmless.
    """

    __slots__ = (
        "_fault",
        "_held",
        "_limit",
        "_size",
        "_source",
        "_unread",
        "_waiter",
        "close_delimited",
        "complete",
        "headers",
        "sink",
        "status",
    )

    def __init__(
        self, source: Source, status: int, headers: list[tuple[bytes, bytes]], *, close_delimited: bool
    ) -> None:
        self.status = status
        self.headers = headers
        self.complete = False
        self.close_delimited = close_delimited
        self.sink: Sink | None = None
        self._source: Source | None = source
        self._unread: list[bytes] = []
        self._size = 0
        self._limit = -1  # of a pending read; -1 while nobody reads
        self._held = False
        self._waiter: asyncio.Future[None] | None = None
        self._fault: Fault | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value under a lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self, limit: int) -> bytes:
        """The whole body, once; does not suspend when all of it is here. Cancelling closes the connection.

        Raises:
            Fault: BAD_ANSWER beyond `limit` bytes; TRUNCATED, TIMEOUT or BAD_ANSWER as the provider failed.
        """
        if not self.complete and self._fault is None:
            await self._rest(limit)
        if self._fault is not None:
            raise self._fault
        unread, self._unread = self._unread, []
        body = unread[0] if len(unread) == 1 else b"".join(unread)
        if len(body) > limit:
            raise _too_large()
        return body

    async def _rest(self, limit: int) -> None:
        announced = self.header(b"content-length")
        if self._size > limit or (announced is not None and int(announced) > limit):
            self.abort()
            raise _too_large()
        self._limit = limit
        self._release_hold()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self.complete:
                self.abort()

    def attach(self, sink: Sink) -> None:
        """Send the body to `sink` from now on; what came before is delivered first, within this call."""
        self.sink = sink
        self._release_hold()
        if self._unread:
            unread, self._unread, self._size = self._unread, [], 0
            sink.on_data(unread[0] if len(unread) == 1 else b"".join(unread))
        if self.complete:
            sink.on_end()
        elif self._fault is not None:
            sink.on_fault(self._fault)

    def pause(self) -> None:
        """Stop reading from the provider; its idle deadline stands still."""
        if self._source is not None:
            self._source.hold()

    def resume(self) -> None:
        """Read on."""
        if self._source is not None:
            self._source.unhold()

    def abort(self) -> None:
        """Close the connection at once, so that the provider sees that nobody listens. Calls nothing on the sink."""
        source, self._source = self._source, None
        if source is None:
            return
        self.sink = None
        self._fault = Fault(Kind.TRUNCATED, "The request was given up.", origin=Origin.GATEWAY)
        self._wake()
        source.abort()

    # what the connection calls

    def keep(self, data: bytes) -> None:
        """Hold body bytes that no sink takes yet."""
        self._unread.append(data)
        self._size += len(data)
        if self._limit >= 0:
            if self._size > self._limit:
                self.abort()
                self._fault = _too_large()
        elif self._size > UNREAD_BYTES and not self._held and self._source is not None:
            self._held = True
            self._source.hold()

    def finish(self) -> None:
        """The body is over; the connection is no longer ours."""
        self._source = None
        self.complete = True
        if self.sink is not None:
            self.sink.on_end()
        elif self._waiter is not None:
            self._wake()

    def fail(self, fault: Fault) -> None:
        """The body will not be complete; the connection is closed."""
        self._source = None
        self._fault = fault
        if self.sink is not None:
            self.sink.on_fault(fault)
        elif self._waiter is not None:
            self._wake()

    def _release_hold(self) -> None:
        if self._held and self._source is not None:
            self._held = False
            self._source.unhold()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _too_large() -> Fault:
    public = "The provider's answer is larger than this gateway accepts."
    return Fault(Kind.BAD_ANSWER, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
