"""A value that ends and has to be fetched again: one flight for all who wait. It must not know what it fetches.

A refresh begins while the old value still serves, so no request waits for it unless the refresh fails until the old
one has ended. Times are seconds since the epoch. A clock that is set back would keep a dead value alive: one that
begins in the future, as far as the clock says, counts as ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin, Retry

EARLY_SECONDS = 300.0
EARLY_SHARE = 0.8
SHORT_LIFE = 2 * EARLY_SECONDS  # one that does not live longer is fetched anew at half its life
SETTLING_SECONDS = 30.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SET_BACK = 60.0  # seconds that a clock may be corrected by
FOREVER = 1e300

T = TypeVar("T")


class NoToken(Fault):
    """There is nothing to sign with now; another deployment may have it.

    Attributes:
        why: for the operator's log, in words of our own; names hosts and files, never a secret or what was answered.
    """

    __slots__ = ("why",)

    def __init__(self, why: str, *, retry_after: float | None = None) -> None:
        super().__init__(
            Kind.UPSTREAM_AUTH,
            "The gateway has no valid credential for the provider at the moment.",
            origin=Origin.UPSTREAM,
            retry=Retry.NEXT,
            retry_after=retry_after,
        )
        self.why = why


class Token(msgspec.Struct, Generic[T], frozen=True):
    """A value and when it ends, in seconds since the epoch."""

    value: T
    expires: float = FOREVER


class Source(Protocol[T]):
    """Where a signer gets what it signs with."""

    def peek(self, now: float) -> T | None:
        """The value in force, without waiting; None: `current` must be awaited. May begin a refresh."""
        ...

    async def current(self, now: float) -> Token[T]:
        """The value in force, fetched if need be.

        Raises:
            NoToken: there is none.
        """
        ...

    def refused(self, value: T) -> None:
        """The provider did not accept `value`: the next one asks for another, unless that has happened meanwhile."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


class Fixed(Generic[T]):
    """A source of one value that never ends."""

    def __init__(self, value: T) -> None:
        self._token = Token(value)

    def peek(self, now: float) -> T | None:  # noqa: ARG002 (the port)
        """See `Source`."""
        return self._token.value

    async def current(self, now: float) -> Token[T]:  # noqa: ARG002 (the port)
        """See `Source`."""
        return self._token

    def refused(self, value: T) -> None:
        """Nothing: there is no other one."""

    async def close(self) -> None:
        """Nothing is ever under way."""


class Tokens(Generic[T]):
    """A source that fetches anew at 80 % of a value's life or five minutes before its end, whichever is earlier.

    Args:
        fetch: asks for a new value; raises `Fault` when there is none.
        clock: times the pauses between fetches that fail.
        failed: told of every fetch that failed, for the log.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token[T]]],
        clock: Clock,
        failed: Callable[[Fault], None] | None = None,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._failed = failed
        self._token: Token[T] | None = None
        self._begins = 0.0
        self._due = 0.0
        self._flight: asyncio.Task[Token[T]] | None = None
        self._failure: Fault | None = None
        self._failures = 0
        self._not_before = 0.0
        self._closed = False

    def peek(self, now: float) -> T | None:
        """See `Source`. Must be called in the loop: it may begin a refresh in the background."""
        token = self._serving(now)
        if token is None:
            return None
        if now >= self._due and self._flight is None and not self._pausing(now):
            self._begin()
        return token.value

    async def current(self, now: float) -> Token[T]:
        """See `Source`. Whoever waits and goes away does not end the fetch that others wait for."""
        if self.peek(now) is not None and self._token is not None:
            return self._token
        if self._flight is None and self._failure is not None and self._pausing(now):
            raise self._again(self._failure, self._not_before - now)
        flight = self._flight or self._begin()
        await asyncio.wait((flight,))
        token = self._serving(self._clock.now())
        if token is not None:
            return token
        pause = self._not_before - self._clock.now()
        raise self._again(self._failure or NoToken("the gateway is stopping"), pause if pause > 0 else None)

    def refused(self, value: T) -> None:
        """See `Source`. A value refused when it is new is refused for another reason, which a newer one has too."""
        settled = abs(self._clock.now() - self._begins) >= SETTLING_SECONDS
        if settled and self._token is not None and self._token.value is value:
            self._token = None

    async def close(self) -> None:
        """End the fetch under way; from here on there is no value."""
        self._closed = True
        self._token = None
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait((self._flight,))

    def _serving(self, now: float) -> Token[T] | None:
        token = self._token
        return token if token is not None and self._begins - SET_BACK <= now < token.expires else None

    def _pausing(self, now: float) -> bool:
        return 0.0 < self._not_before - now <= LONGEST_PAUSE

    def _begin(self) -> asyncio.Task[Token[T]]:
        if self._closed:
            raise NoToken("the gateway is stopping")
        self._flight = asyncio.get_running_loop().create_task(self._ask())
        self._flight.add_done_callback(self._landed)
        return self._flight

    async def _ask(self) -> Token[T]:
        return await self._fetch()

    def _landed(self, flight: asyncio.Task[Token[T]]) -> None:
        self._flight = None
        now = self._clock.now()
        error = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if self._closed:
            return
        if error is None and flight.result().expires > now:
            self._keep(flight.result(), now)
            return
        if error is None:
            error = NoToken("the token that was given has ended already; check this machine's clock")
        elif not isinstance(error, Fault):
            error = NoToken(f"asking for a token failed: {type(error).__name__}")
        self._failure = error
        self._pause()
        if self._failed is not None:
            self._failed(error)

    def _keep(self, token: Token[T], now: float) -> None:
        life = token.expires - now
        self._token, self._begins = token, now
        self._due = now + (min(life * EARLY_SHARE, life - EARLY_SECONDS) if life >= SHORT_LIFE else life / 2)
        self._failure, self._failures, self._not_before = None, 0, 0.0

    def _pause(self) -> None:
        self._not_before = self._clock.now() + min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 30)

    @staticmethod
    def _again(failure: Fault, seconds: float | None) -> Fault:
        """A fault of its own for everyone who is told: a raised exception gathers the frames it went through."""
        return NoToken(getattr(failure, "why", failure.public), retry_after=seconds)
