"""What every exchange shares: the snapshot in force, the keys, the ledger, the way out. It must not hold a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault
from ostiary.core.ids import time_ordered_id
from ostiary.core.snapshot import EMPTY, Deployment, PolicySnapshot, Timeouts
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.outbound import Outbound
from ostiary.gateway.policy.keys import KeyIndex
from ostiary.gateway.routing.health import Health
from ostiary.gateway.upstream.origin import Origin
from ostiary.gateway.upstream.response import Response


class Sender(Protocol):
    """The upstream client, as the exchange uses it."""

    async def send(
        self, origin: Origin, head: bytes, body: bytes, timeouts: Timeouts, *, idempotent: bool
    ) -> Response: ...

    def admit(self, origins: frozenset[Origin]) -> None: ...


class DemoSender(Protocol):
    """The built-in model, answering in-process."""

    def send(self, endpoint: str, body: bytes) -> Response: ...


class Chance(Protocol):
    """A source of randomness: `random.Random` in production, a scripted one in tests."""

    def random(self) -> float: ...
    def getrandbits(self, k: int, /) -> int: ...


class Plane:
    """The data plane's shared state.

    Args:
        refused: told of requests that were turned away before they had a caller (for metrics).
    """

    def __init__(
        self,
        *,
        keys: KeyIndex,
        ledger: Ledger,
        upstream: Sender,
        demo: DemoSender,
        sweeper: Sweeper,
        clock: Clock,
        chance: Chance,
        loop: asyncio.AbstractEventLoop,
        refused: Callable[[Fault], None],
    ) -> None:
        self.keys = keys
        self.ledger = ledger
        self.upstream = upstream
        self.demo = demo
        self.sweeper = sweeper
        self.clock = clock
        self.chance = chance
        self.loop = loop
        self.refused = refused
        self.health = Health()
        self.snapshot: PolicySnapshot = EMPTY
        self.key_header = b""
        self._outbounds: dict[str, Outbound] = {}

    def swap(self, snapshot: PolicySnapshot) -> None:
        """Put a snapshot in force. Requests under way keep the one they began with.

        Raises:
            ValueError: a deployment cannot be written to; the snapshot in force stays.
        """
        outbounds = {name: Outbound(deployment) for name, deployment in snapshot.deployments.items()}
        self.upstream.admit(frozenset(out.origin for out in outbounds.values() if out.origin is not None))
        self._outbounds = outbounds
        self.health.keep(frozenset(outbounds))
        self.key_header = snapshot.key_header.encode()
        self.keys.set_admin(snapshot.admin_digest)
        self.snapshot = snapshot

    def outbound(self, deployment: Deployment) -> Outbound:
        """How to write to a deployment of this or an earlier snapshot."""
        found = self._outbounds.get(deployment.id)
        if found is None or found.deployment is not deployment:
            found = Outbound(deployment)
        return found

    def new_id(self, now: float) -> str:
        """An id for a request that begins now (Unix seconds)."""
        return time_ordered_id(int(now * 1000), self.chance.getrandbits(74))
