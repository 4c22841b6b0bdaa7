"""Requests and tokens per minute and calls at once, for a key, a key's model or a deployment; it must not know which.

How a window works
------------------

A window is 60 seconds of the monotonic clock and begins with the first request after the last one ended. Within it at
most `rpm` requests are admitted: exact, since one thread checks and counts without a pause between.

Tokens are known only when the answer is. So a request *reserves* tokens when it is admitted and *settles* when they
are known: the reservation goes back, what was used is added to the window in which it settled. A request is refused
when used + reserved + its input alone exceed `tpm`, or when nothing is left. Otherwise it reserves its estimate, or
what is left if that is less: a small limit stays usable, and requests at the same time see each other's reservations.
The price of that is an overshoot, bounded per admitted request by what its answer used beyond its own reservation.

Tokens used beyond the limit are a debt: they count against the next window, and the one after it, until worked off at
`tpm` per window. A window that begins in debt begins where the last one ended, not at the next request.
"""

from __future__ import annotations

from enum import StrEnum

MINUTE = 60.0  # seconds


class Limit(StrEnum):
    """The limit that refused, by the name its field has at the management API."""

    RPM = "rpm_limit"
    TPM = "tpm_limit"
    MAX_PARALLEL = "max_parallel_requests"


class Limits:
    """Three optional limits and their counters. `now` is in seconds of a monotonic clock throughout."""

    __slots__ = ("calls", "max_parallel", "requests", "reserved", "rpm", "started", "tokens", "tpm")

    def __init__(self, rpm: int | None = None, tpm: int | None = None, max_parallel: int | None = None) -> None:
        self.rpm = rpm
        self.tpm = tpm
        self.max_parallel = max_parallel
        self.started = float("-inf")
        self.requests = 0
        self.tokens = 0
        self.reserved = 0
        self.calls = 0

    def replace(self, rpm: int | None, tpm: int | None, max_parallel: int | None) -> None:
        """New limits over the counters as they are."""
        self.rpm = rpm
        self.tpm = tpm
        self.max_parallel = max_parallel

    def roll(self, now: float) -> None:
        """Begin a new window if the last one has ended."""
        passed = now - self.started
        if passed < MINUTE:
            return
        self.requests = 0
        if self.tpm is not None and self.tokens > self.tpm:
            windows = int(passed // MINUTE)
            self.tokens = max(0, self.tokens - self.tpm * windows)
            if self.tokens:
                self.started += windows * MINUTE
                return
        self.tokens = 0
        self.started = now

    def refusal(self, now: float, floor: int) -> Limit | None:
        """The limit that a request of at least `floor` tokens would break now, or None. Counts nothing."""
        self.roll(now)
        if self.max_parallel is not None and self.calls >= self.max_parallel:
            return Limit.MAX_PARALLEL
        if self.rpm is not None and self.requests >= self.rpm:
            return Limit.RPM
        if self.tpm is not None:
            left = self.tpm - self.tokens - self.reserved
            if left <= 0 or floor > left:
                return Limit.TPM
        return None

    def enter(self) -> None:
        """Count one admitted request; `refusal` has just answered None."""
        self.requests += 1
        self.calls += 1

    def hold(self, tokens: int) -> int:
        """Reserve `tokens`, or what is left of the window if that is less. Answers how many, for `leave`."""
        if self.tpm is None:
            return 0
        held = max(0, min(tokens, self.tpm - self.tokens - self.reserved))
        self.reserved += held
        return held

    def leave(self, now: float, held: int, used: int) -> None:
        """The end of an admitted request that held `held` tokens and used `used`."""
        self.calls -= 1
        self.reserved -= held
        if self.tpm is not None:
            self.roll(now)
            self.tokens += used

    def remaining_requests(self) -> int:
        """Requests left in the running window; 0 without a limit."""
        return max(0, (self.rpm or 0) - self.requests)

    def remaining_tokens(self) -> int:
        """Tokens left in the running window, those reserved taken off; 0 without a limit."""
        return max(0, (self.tpm or 0) - self.tokens - self.reserved)

    def resets(self, now: float) -> float:
        """Seconds until the running window ends."""
        return max(0.0, min(MINUTE, self.started + MINUTE - now))
