"""One end of an open WebSocket over an asyncio transport: frames, pings, deadlines, the close. It must not know what is
said over it.

Nothing queues here. A message goes to the listener when its last byte has come, and to the transport when it is sent;
who writes faster than the other reads is told so (`on_blocked`) and stops reading elsewhere. Signs of life are looked
for when the peer has been silent, or has not taken a byte, for `silence` seconds; after as long again it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.duplex import Listener
from ostiary.wire.framing.websocket import (
    BROKEN,
    NO_CODE,
    NORMAL,
    PING,
    PONG,
    TEXT,
    Closing,
    Message,
    Ping,
    Violation,
    WebSocketFramer,
    encode_close,
    encode_frame,
)


class WebSocket:
    """See `duplex.Duplex`.

    Args:
        transport: open, its handshake done.
        framer: for what the peer sends.
        sweeper: of the same loop.
        early: bytes of the peer that came with its handshake.
        hang_up: ends the connection once what was written is out; called once, by `close`.
        pause: stops reading (True) or goes on (False).
        mask: gives a fresh masking key; None where we are the server.
    """

    __slots__ = (
        "_begun", "_blocked", "_early", "_framer", "_hang_up", "_heard", "_held", "_listener", "_mask", "_now",
        "_pause", "_silence", "_sweeper", "_transport", "deadline", "ended", "writable",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        framer: WebSocketFramer,
        listener: Listener,
        sweeper: Sweeper,
        *,
        silence: float,
        early: bytes,
        hang_up: Callable[[], None],
        pause: Callable[[bool], None],
        mask: Callable[[], bytes] | None = None,
    ) -> None:
        self.writable = True
        self.ended = False
        self.deadline = 0.0
        self._transport = transport
        self._framer = framer
        self._listener = listener
        self._sweeper = sweeper
        self._now = sweeper.loop.time
        self._silence = silence
        self._early = early
        self._hang_up = hang_up
        self._pause = pause
        self._mask = mask
        self._begun = False
        self._held = False
        self._heard = self._now()
        self._blocked = 0.0  # since when the peer has not taken bytes; 0 while it does

    def begin(self) -> None:
        """See `Duplex`."""
        if self.ended:
            return
        self._begun = True
        self._heard = self._now()
        self.deadline = self._heard + self._silence
        self._sweeper.register(self)
        if not self._held:
            self._pause(False)
        early, self._early = self._early, b""
        if early:
            self.feed(early)

    @property
    def pending(self) -> int:
        """Bytes held of what is unfinished."""
        return self._framer.pending + len(self._early)

    # --- what the connection calls ---

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer."""
        if not self._begun:
            self._early += data
            return
        self._heard = self._now()
        for event in self._framer.feed(data):
            if self.ended:
                return
            if isinstance(event, Message):
                self._listener.on_message(event.payload, text=event.text)
            elif isinstance(event, Ping):
                if self.writable:  # else its pong could pile up; the next one is answered
                    self._transport.write(encode_frame(PONG, event.payload, self._key()))
            elif isinstance(event, Closing):
                self.close(NORMAL if event.code == NO_CODE else event.code, "")
                self._listener.on_end(event.code, event.reason)
            elif isinstance(event, Violation):
                self.close(event.code, event.reason)
                self._listener.on_end(event.code, event.reason)

    def lose(self) -> None:
        """The connection has ended without a close frame."""
        if not self.ended:
            self._finish()
            self._listener.on_end(BROKEN, "")

    def tell_end(self, code: int) -> None:
        """The connection itself closed the WebSocket: the listener does not know yet."""
        self._listener.on_end(code, "")

    def block(self) -> None:
        """The peer does not take bytes."""
        self.writable = False
        self._blocked = self._now()
        if not self.ended:
            self._listener.on_blocked()

    def unblock(self) -> None:
        """The peer takes bytes again."""
        self.writable = True
        self._blocked = 0.0
        if not self.ended:
            self._listener.on_writable()

    def stop(self) -> None:
        """The gateway is stopping."""
        if not self.ended:
            self._listener.on_stopping()

    # --- what the relay calls ---

    def send(self, payload: bytes) -> None:
        """See `Duplex`."""
        if not self.ended:
            self._transport.write(encode_frame(TEXT, payload, self._key()))

    def hold(self) -> None:
        """See `Duplex`."""
        if not self._held and not self.ended:
            self._held = True
            self._pause(True)

    def unhold(self) -> None:
        """See `Duplex`."""
        if self._held and not self.ended:
            self._held = False
            self._heard = self._now()
            if self._begun:
                self._pause(False)

    def close(self, code: int, reason: str) -> None:
        """See `Duplex`."""
        if not self.ended:
            self._finish()
            self._transport.write(encode_close(code, reason, self._key()))
            self._hang_up()

    # --- the sweeper calls ---

    def expire(self) -> None:
        """Ask for a sign of life, or give the peer up."""
        now = self._now()
        since = self._heard if not self._held else now
        if self._blocked:
            since = min(since, self._blocked)
        quiet = now - since
        if quiet >= 2 * self._silence:
            self._finish()
            self._transport.abort()
            self._listener.on_end(BROKEN, "the other side fell silent")
        elif quiet >= self._silence:
            self.deadline = since + 2 * self._silence
            if self.writable:
                self._transport.write(encode_frame(PING, b"", self._key()))
        else:
            self.deadline = since + self._silence

    def _finish(self) -> None:
        self.ended = True
        self.deadline = 0.0
        self._sweeper.unregister(self)

    def _key(self) -> bytes:
        return self._mask() if self._mask is not None else b""
