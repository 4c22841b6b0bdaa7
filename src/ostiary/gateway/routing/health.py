"""How the deployments are doing, and which rest. It must not read a clock: every question carries its time.

A deployment cools down: at once after a rate limit (for as long as the provider asked), a refused credential, an
unknown model or a time-out of its own; after more than `allowed_fails` failures in a minute; when more than half of at
least five requests in a minute failed. The only deployment of its group cools down only where the provider said for
how long: resting it otherwise would turn a hiccup into an outage.
"""

from __future__ import annotations

from ostiary.core.fault import Fault, Kind
from ostiary.core.snapshot import Deployment, RoutingSettings

MINUTE = 60.0
LEAST_REQUESTS = 5
LONGEST_REST = 300.0
_AT_ONCE = frozenset({Kind.UPSTREAM_RATE_LIMIT, Kind.UPSTREAM_AUTH})


class Pulse:
    """One deployment's counts in the running minute, and until when it rests (monotonic seconds)."""

    __slots__ = ("busy", "failed", "resting_until", "started", "succeeded", "total_failed", "total_succeeded")

    def __init__(self) -> None:
        self.busy = 0
        self.started = 0.0
        self.succeeded = 0
        self.failed = 0
        self.resting_until = 0.0
        self.total_succeeded = 0
        self.total_failed = 0


class Health:
    """The pulses of all deployments, by id."""

    def __init__(self) -> None:
        self.pulses: dict[str, Pulse] = {}

    def pulse(self, deployment_id: str) -> Pulse:
        """The pulse of a deployment, made when first asked for."""
        found = self.pulses.get(deployment_id)
        if found is None:
            found = self.pulses[deployment_id] = Pulse()
        return found

    def keep(self, deployment_ids: frozenset[str]) -> None:
        """Forget deployments that are no longer configured."""
        for gone in [name for name in self.pulses if name not in deployment_ids]:
            if not self.pulses[gone].busy:
                del self.pulses[gone]

    def available(self, deployment: Deployment, now: float) -> bool:
        """Whether it may be given a request now."""
        pulse = self.pulses.get(deployment.id)
        if pulse is None:
            return True
        if pulse.resting_until > now:
            return False
        return deployment.max_parallel is None or pulse.busy < deployment.max_parallel

    def succeeded(self, deployment_id: str, now: float) -> None:
        """An attempt was answered."""
        pulse = self.pulse(deployment_id)
        _turn(pulse, now)
        pulse.succeeded += 1
        pulse.total_succeeded += 1

    def failed(self, deployment_id: str, fault: Fault, now: float, settings: RoutingSettings, *, alone: bool) -> None:
        """An attempt failed for a reason that is the deployment's own.

        Args:
            alone: it is the only deployment of its group.
        """
        pulse = self.pulse(deployment_id)
        _turn(pulse, now)
        pulse.failed += 1
        pulse.total_failed += 1
        if not settings.cooldowns:
            return
        rest = settings.cooldown_seconds
        if fault.retry_after is not None:
            rest = min(fault.retry_after, LONGEST_REST)
        elif alone:
            return
        seen = pulse.failed + pulse.succeeded
        half = seen >= LEAST_REQUESTS and pulse.failed * 2 > seen
        unknown = fault.kind is Kind.UPSTREAM_REJECTED and fault.status == 404
        if fault.kind in _AT_ONCE or unknown or half or pulse.failed > settings.allowed_fails:
            pulse.resting_until = max(pulse.resting_until, now + rest)

    def rest_of(self, deployments: tuple[Deployment, ...], now: float) -> float | None:
        """Seconds until the first of these is available again; None if none rests."""
        ends = [self.pulses[d.id].resting_until for d in deployments if d.id in self.pulses]
        waiting = [end - now for end in ends if end > now]
        return min(waiting) if waiting else None


def _turn(pulse: Pulse, now: float) -> None:
    if now - pulse.started >= MINUTE:
        pulse.started = now
        pulse.succeeded = pulse.failed = 0
