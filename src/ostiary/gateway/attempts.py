"""What follows a failed attempt: a retry, another target, a fallback, or the end. It must not touch an answer.

Limits that hold together: retries per group by the operator's policy (a caller may only ask for fewer), one cap on
attempts and one deadline for the whole exchange, and no further attempt once the client has seen a byte. Every name a
fallback leads to is authorised again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol, TypeAlias

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.record import Record
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.gateway.plane import Plane
from ostiary.gateway.ports import Inbound
from ostiary.gateway.routing.plan import backoff, fallbacks_for, order, retries_for
from ostiary.wire.governed import asked_retries

LONGEST_WAIT = 60.0  # seconds a retry may wait for a provider's Retry-After
TIMER_SLACK = 0.01  # seconds

# a name that may be asked for, the group it leads to, and the deployments of that
Choice: TypeAlias = tuple[str, str, tuple[Deployment, ...]]


class Tried(Protocol):
    """The exchange, as far as its attempts need it."""

    plane: Plane
    snapshot: PolicySnapshot
    inbound: Inbound
    record: Record

    async def attempt(self, target: Deployment) -> None: ...
    def authorise(self, model: str) -> tuple[str, tuple[Deployment, ...]]: ...
    def reserve(self, deployments: tuple[Deployment, ...]) -> None: ...
    def time_left(self) -> float: ...
    @property
    def own(self) -> dict[str, msgspec.Raw]: ...


class Attempts:
    """The targets of one exchange, one after the other.

    Args:
        pinned: only the first group can answer, since the object asked about lives there.
        alone: the same, for what is charged like any other.
    """

    __slots__ = ("_alone", "_exchange", "_pinned", "_plane", "_settings")

    def __init__(self, exchange: Tried, *, pinned: bool, alone: bool = False) -> None:
        self._exchange = exchange
        self._pinned = pinned
        self._alone = alone or pinned
        self._plane = exchange.plane
        self._settings = exchange.snapshot.routing

    async def run(self, asked: str, group: str, deployments: tuple[Deployment, ...]) -> None:
        """The group asked for by the name `asked`, then its fallbacks, until one answers.

        Raises:
            Fault: the last failure.
        """
        try:
            await self._group(asked, deployments)
        except Fault as fault:
            if not self._may_go_on():
                raise
            await self._fall_back(group, fault)

    async def _fall_back(self, group: str, fault: Fault) -> None:
        tried = {group}
        queue = self._fallbacks(group, fault, tried)
        while queue:
            asked, name, deployments = queue.pop(0)
            try:
                self._exchange.reserve(deployments)
            except Fault:
                continue  # what the key cannot pay for is as if it were not there
            self._exchange.record.fallbacks += 1
            try:
                await self._group(asked, deployments)
            except Fault as failure:
                fault = failure
                if not self._may_go_on():
                    break
                queue += self._fallbacks(name, failure, tried)
            else:
                return
        raise fault

    def _fallbacks(self, name: str, fault: Fault, tried: set[str]) -> list[Choice]:
        """The groups to try after `name`. One the key may not use is as if it were not there."""
        exchange = self._exchange
        if self._alone or "disable_fallbacks" in exchange.own:
            return []
        found: list[Choice] = []
        for fallback in fallbacks_for(exchange.snapshot, name, fault):
            if fallback in tried or len(tried) > self._settings.max_fallbacks:
                continue
            tried.add(fallback)
            with suppress(Fault):
                found.append((fallback, *exchange.authorise(fallback)))
        return found

    async def _group(self, asked: str, deployments: tuple[Deployment, ...]) -> None:
        """Try the targets of one group until one answers or none may be tried again."""
        plane, exchange = self._plane, self._exchange
        health, clock = plane.health, plane.clock
        excluded: set[str] = set()
        last: Fault | None = None
        retry = 0
        while True:
            ready = tuple(d for d in deployments if d.id not in excluded) if excluded else deployments
            targets = order(ready, health, clock.monotonic(), plane.chance.random)
            if not targets:
                raise last or self._nobody(deployments)
            # not the one that has just failed, if there is a choice
            again = last is not None and len(targets) > 1 and targets[0].id == exchange.record.deployment
            target = targets[1] if again else targets[0]
            try:
                await exchange.attempt(target)
            except Fault as fault:
                last = fault
                retry += 1
                if fault.origin is Origin.UPSTREAM and fault.retry is not Retry.NEVER:
                    health.failed(target.id, fault, clock.monotonic(), self._settings, alone=len(deployments) == 1)
                if not self._may_retry(target, fault, retry):
                    raise
                if fault.retry is Retry.NEXT:
                    excluded.add(target.id)
                await self._pause(ready, excluded, fault, retry)
                if not self._pinned:
                    exchange.authorise(asked)  # rights may have changed meanwhile
            else:
                health.succeeded(target.id, clock.monotonic())
                return

    def _may_go_on(self) -> bool:
        exchange = self._exchange
        spent = exchange.record.attempts >= self._settings.max_attempts or exchange.time_left() <= 0
        return not (spent or exchange.inbound.started)

    def _may_retry(self, deployment: Deployment, fault: Fault, retry: int) -> bool:
        if fault.retry is Retry.NEVER or not self._may_go_on():
            return False
        return retry <= retries_for(self._settings, deployment, fault, asked_retries(self._exchange.own))

    async def _pause(self, ready: tuple[Deployment, ...], excluded: set[str], fault: Fault, retry: int) -> None:
        """Wait before the next try, unless another deployment can serve at once."""
        now = self._plane.clock.monotonic()
        available = [d for d in ready if d.id not in excluded and self._plane.health.available(d, now)]
        if any(d.id != self._exchange.record.deployment for d in available):
            return
        if not available:
            if fault.kind is not Kind.UPSTREAM_RATE_LIMIT or fault.retry_after is None:
                raise fault
            excluded.clear()  # the only way is to wait for as long as the provider asked
        wait = backoff(self._settings, retry, fault, self._plane.chance.random())
        if not available:  # until the first of them is back; a loop's timer may ring a moment early
            wait = max(wait, self._plane.health.rest_of(ready, now) or 0.0) + TIMER_SLACK
        if wait > min(LONGEST_WAIT, self._exchange.time_left()):
            raise fault
        await asyncio.sleep(wait)

    def _nobody(self, deployments: tuple[Deployment, ...]) -> Fault:
        wait = self._plane.health.rest_of(deployments, self._plane.clock.monotonic())
        public = "no deployment of this model is available at the moment"
        return Fault(Kind.NO_DEPLOYMENT, public, origin=Origin.UPSTREAM, retry=Retry.NEXT, retry_after=wait or 1.0)
