"""The upstream client: pools per origin, and one `send`. It must not connect where the configuration did not say."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections import deque
from collections.abc import Iterable

import msgspec

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.fault import Origin as Whose
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.duplex import Listener
from ostiary.gateway.upstream.connection import Connection, no_answer
from ostiary.gateway.upstream.dial import Dialler, Resolve
from ostiary.gateway.upstream.origin import Origin, parse_proxy
from ostiary.gateway.upstream.proxy import absolute_form
from ostiary.gateway.upstream.response import Response
from ostiary.gateway.upstream.websocket import Link, Refusal
from ostiary.gateway.websocket import WebSocket
from ostiary.wire.framing.websocket import KEY_BYTES

IDLE_SECONDS = 30.0
MOST_PER_ORIGIN = 1024
_HANDSHAKE = b"sec-websocket-version: 13\r\nsec-websocket-key: %b\r\n"


class OriginStats(msgspec.Struct, frozen=True):
    """Connections of one origin: `idle` wait for a request, `busy` serve one or are being opened."""

    idle: int
    busy: int


class Upstream:
    """Sends requests to the origins it was told of, and to no other.

    Made and used within one event loop. `sockets` holds every connection until it is really closed.

    Args:
        sweeper: of the same loop; carries all deadlines of requests and of idle connections.
        allowed: the origins of the running configuration, see `admit`.
        idle_seconds: how long an unused connection is kept, unless the provider's `Keep-Alive: timeout` says less.
        most_per_origin: connections at once, opening ones included; beyond, requests wait up to the connect deadline.
        resolve: stands in for the system's resolver.
    """

    def __init__(
        self,
        sweeper: Sweeper,
        allowed: Iterable[Origin] = (),
        *,
        idle_seconds: float = IDLE_SECONDS,
        most_per_origin: int = MOST_PER_ORIGIN,
        resolve: Resolve | None = None,
    ) -> None:
        self.sweeper = sweeper
        self.sockets: set[Connection | Link] = set()
        self.idle_seconds = idle_seconds
        self.most_per_origin = most_per_origin
        self.dialler = Dialler(sweeper.loop, resolve)
        self._now = sweeper.loop.time
        self._pools: dict[Origin, Pool] = {}
        self._emptied: asyncio.Future[None] | None = None
        self.admit(allowed)

    def admit(self, origins: Iterable[Origin]) -> None:
        """Replace the set of allowed origins, as a reload does.

        Idle connections to those that are gone are closed at once, busy ones when their answer is over. CA files and
        addresses are read anew for the connections to come.
        """
        before, self._pools = self._pools, {}
        for origin in set(origins):
            self._pools[origin] = before.pop(origin) if origin in before else Pool(self, origin)
        for pool in before.values():
            pool.retire()
        self.dialler.forget()

    async def send(
        self, origin: Origin, head: bytes, body: bytes, timeouts: Timeouts, *, idempotent: bool = False
    ) -> Response:
        """Send one request; returns when the head of the answer is here. Cancelling closes the connection at once.

        Args:
            origin: must be one of the allowed, field by field.
            head: the request's whole head in origin form, including the final empty line. Framing is the caller's.
            body: all of the body.
            timeouts: all of them run from here; `total` covers the body of the answer too.
            idempotent: the request may be sent twice, should an idle connection turn out to be dead.

        Raises:
            Fault: CONNECT, TIMEOUT, TRUNCATED or BAD_ANSWER of the upstream; OVERLOADED, CONNECT of the gateway.
        """
        pool = self._pools.get(origin)
        if pool is None:
            raise unknown_origin()
        now = self._now()
        ends = now + timeouts.total
        if pool.proxy is not None:
            head = absolute_form(head, origin, pool.proxy)
        connection = pool.take() or await pool.open(min(now + timeouts.connect, ends))
        while True:
            stale = not connection.pristine
            answer = connection.begin(head, body, timeouts, ends)
            try:
                return await answer
            except asyncio.CancelledError:
                connection.give_up(answer)
                raise
            except Fault as fault:
                # without a byte of an answer from a connection that was idle: the peer had most likely closed it
                if not (stale and idempotent and fault.kind is Kind.CONNECT):
                    raise
            connection = await pool.open(min(self._now() + timeouts.connect, ends))

    async def open_websocket(
        self, origin: Origin, head: bytes, timeouts: Timeouts, listener: Listener, *, largest: int, silence: float
    ) -> WebSocket | Refusal:
        """Ask for a WebSocket on a connection of its own; it does not count among those of the origin's pool.

        Args:
            head: the request's head as far as its last header line, without those of the handshake.
            timeouts: `connect` and `first_byte` bound the handshake.
            listener: told what comes, from `begin` on.

        Raises:
            Fault: CONNECT, TIMEOUT, TRUNCATED or BAD_ANSWER of the upstream; CONNECT of the gateway.
        """
        if origin not in self._pools:
            raise unknown_origin()
        now = self._now()

        def make() -> Link:
            return Link(self, self.sweeper, listener, lambda: os.urandom(4), largest=largest, silence=silence)

        link = await self.dialler.dial(origin, make, now + timeouts.connect, tunnel=True)
        if not link.usable:
            raise no_answer()
        self.sockets.add(link)
        key = b64encode(os.urandom(KEY_BYTES))
        asked = b"%bconnection: Upgrade\r\nupgrade: websocket\r\n%b\r\n" % (head, _HANDSHAKE % key)
        try:
            async with asyncio.timeout_at(now + timeouts.connect + timeouts.first_byte):
                return await link.ask(asked, key)
        except TimeoutError:
            public = "The provider did not answer the handshake in time."
            raise Fault(Kind.TIMEOUT, public, origin=Whose.UPSTREAM, retry=Retry.SAME) from None

    @property
    def connections(self) -> int:
        """Open sockets, closing ones included."""
        return len(self.sockets)

    def stats(self) -> dict[Origin, OriginStats]:
        """Connections per allowed origin."""
        return {origin: pool.stats() for origin, pool in self._pools.items()}

    async def close(self) -> None:
        """Cut every connection and return when all are closed. Readers of unfinished answers get a fault."""
        self.admit(())
        for connection in list(self.sockets):
            public = "The gateway is shutting down."
            connection.fail(Fault(Kind.TRUNCATED, public, origin=Whose.GATEWAY))
        if self.sockets:
            self._emptied = self.sweeper.loop.create_future()
            await self._emptied

    def lost(self, connection: Connection | Link) -> None:
        """A socket is closed."""
        self.sockets.discard(connection)
        if self._emptied is not None and not self.sockets and not self._emptied.done():
            self._emptied.set_result(None)


class Pool:
    """The connections of one origin: last in, first out, so that surplus ones grow old and go."""

    def __init__(self, upstream: Upstream, origin: Origin) -> None:
        self.idle: dict[Connection, None] = {}  # an ordered set
        # tunnels are opened by the dialler; only plain http needs the proxy with every request
        self.proxy = parse_proxy(origin.proxy) if origin.proxy is not None and origin.scheme == "http" else None
        self._upstream = upstream
        self._origin = origin
        self._retired = False
        self._opening = 0
        self._members: set[Connection] = set()  # idle and busy
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def count(self) -> int:
        """Idle, busy and being opened."""
        return len(self._members) + self._opening

    def stats(self) -> OriginStats:
        """Connections as of now."""
        return OriginStats(idle=len(self.idle), busy=self.count - len(self.idle))

    def take(self) -> Connection | None:
        """An idle connection, if there is a living one."""
        idle = self.idle
        while idle:
            connection, _ = idle.popitem()
            if connection.usable:
                return connection
            connection.abort()
        return None

    async def open(self, deadline: float) -> Connection:
        """A fresh connection, or one that came free while there was no room for another.

        Raises:
            Fault: CONNECT, TIMEOUT; OVERLOADED when there is no room until loop time `deadline`.
        """
        early = False
        while not self._retired and self.count >= self._upstream.most_per_origin:
            await self._wait(deadline, early=early)
            early = True
            connection = self.take()
            if connection is not None:
                return connection
        if self._retired:
            raise unknown_origin()
        self._opening += 1
        try:
            connection = await self._upstream.dialler.dial(self._origin, self._make, deadline)
        finally:
            self._opening -= 1
            self._call_next()
        return self._enrol(connection)

    def retire(self) -> None:
        """The configuration names this origin no more."""
        self._retired = True
        for connection in list(self.idle):
            connection.retire()
        while self._queue:
            self._call_next()

    # what a connection calls

    def release(self, connection: Connection, seconds: float | None) -> None:
        """Keep a connection for the next request. One second less than the peer promised, for the way there."""
        keep = self._upstream.idle_seconds
        if seconds is not None:
            keep = min(keep, seconds - 1.0)
        self.idle[connection] = None
        if self._retired or keep <= 0.0:
            connection.retire()
            return
        connection.deadline = self._upstream.sweeper.loop.time() + keep
        if self._queue:
            self._call_next()

    def forget(self, connection: Connection) -> None:
        """The connection is of no further use; there is room for another."""
        self.idle.pop(connection, None)
        if connection in self._members:
            self._members.discard(connection)
            self._call_next()

    def lost(self, connection: Connection) -> None:
        """The socket is closed."""
        self._upstream.sweeper.unregister(connection)
        self._upstream.lost(connection)

    def _make(self) -> Connection:
        return Connection(self, self._upstream.sweeper.loop)

    def _enrol(self, connection: Connection) -> Connection:
        # only now: of a connection whose making is cancelled, uvloop may report the beginning and never the end
        if not connection.usable:
            raise no_answer()
        if self._retired:
            connection.abort()
            raise unknown_origin()
        self._members.add(connection)
        self._upstream.sockets.add(connection)
        self._upstream.sweeper.register(connection)
        return connection

    async def _wait(self, deadline: float, *, early: bool) -> None:
        """Until something changes; whoever has waited before goes to the front."""
        turn = self._upstream.sweeper.loop.create_future()
        if early:
            self._queue.appendleft(turn)
        else:
            self._queue.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException as error:
            if turn in self._queue:
                self._queue.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._call_next()  # it was our turn, and we are gone
            if isinstance(error, TimeoutError):
                public = "All connections to the provider are in use."
                raise Fault(Kind.OVERLOADED, public, origin=Whose.GATEWAY, retry=Retry.NEXT) from None
            raise

    def _call_next(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def unknown_origin() -> Fault:
    """The request names an origin that the configuration does not, or no longer, contain."""
    public = "The address of this deployment is not one that the configuration names."
    return Fault(Kind.CONNECT, public, origin=Whose.GATEWAY, retry=Retry.NEXT)
