"""What every exchange shares: the snapshot in force, the keys, the ledger, the way out. It must not hold a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault
from ostiary.core.ids import random_tail
from ostiary.core.snapshot import EMPTY, Deployment, PolicySnapshot, Timeouts
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.duplex import Listener
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.gateway.objects import Objects
from ostiary.gateway.outbound import Outbound
from ostiary.gateway.policy.authorise import find_group
from ostiary.gateway.policy.keys import KeyIndex
from ostiary.gateway.remembered import Remembered
from ostiary.gateway.routing.health import Health
from ostiary.gateway.routing.plan import upstream_name
from ostiary.gateway.signing.signer import Signers
from ostiary.gateway.upstream.origin import Origin
from ostiary.gateway.upstream.response import Response
from ostiary.gateway.upstream.websocket import Refusal
from ostiary.gateway.websocket import WebSocket

MOST_SPECIFIC = 4096  # models of wildcards whose facts are kept


class Sender(Protocol):
    """The upstream client, as the exchange uses it."""

    async def send(
        self, origin: Origin, head: bytes, body: bytes, timeouts: Timeouts, *, idempotent: bool
    ) -> Response: ...

    async def open_websocket(
        self, origin: Origin, head: bytes, timeouts: Timeouts, listener: Listener, *, largest: int, silence: float
    ) -> WebSocket | Refusal: ...

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
        priced: a deployment of one model with the facts the catalog has of it, for wildcards.
        responses: where responses are kept for their owners; None: nowhere, whatever is allowed.
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
        objects: Objects,
        priced: Callable[[Deployment], Deployment],
        signers: Signers,
        responses: Remembered | None = None,
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
        self.objects = objects
        self.responses = responses
        self._priced = priced
        self._signers = signers
        self._counter = -1
        self._tail = ""
        self._specific: dict[tuple[str, str], Deployment] = {}
        self.health = Health()
        self.snapshot: PolicySnapshot = EMPTY
        self.key_header = b""
        self._outbounds: dict[str, Outbound] = {}

    def swap(self, snapshot: PolicySnapshot) -> None:
        """Put a snapshot in force. Requests under way keep the one they began with.

        Raises:
            ValueError: a deployment cannot be written to; the snapshot in force stays.
        """
        outbounds = {name: self._outbound(deployment) for name, deployment in snapshot.deployments.items()}
        self.upstream.admit(frozenset(out.origin for out in outbounds.values() if out.origin is not None))
        self._outbounds = outbounds
        self._specific = {}
        self.health.keep(frozenset(outbounds))
        self.key_header = snapshot.key_header.encode()
        self.keys.set_admin(snapshot.admin_digest)
        self.snapshot = snapshot

    def outbound(self, deployment: Deployment) -> Outbound:
        """How to write to a deployment of this or an earlier snapshot."""
        found = self._outbounds.get(deployment.id)
        if found is None or not found.serves(deployment):
            found = self._outbound(deployment)
        return found

    def _outbound(self, deployment: Deployment) -> Outbound:
        return Outbound(deployment, self._signers.of(deployment) if deployment.identity is not None else None)

    def serving(self, model: str) -> tuple[Deployment, ...]:
        """The deployments that serve a public name now, whoever asks; empty where there is none."""
        group = self.snapshot.aliases.get(model, model)
        return self.specific(find_group(self.snapshot, group), group)

    def specific(self, deployments: tuple[Deployment, ...], model: str) -> tuple[Deployment, ...]:
        """The deployments for one model: those of a wildcard get that model's upstream name and price."""
        if not any("*" in deployment.upstream_model for deployment in deployments):
            return deployments
        return tuple(self._one(deployment, model) for deployment in deployments)

    def _one(self, deployment: Deployment, model: str) -> Deployment:
        if "*" not in deployment.upstream_model:
            return deployment
        found = self._specific.get((deployment.id, model))
        if found is None:
            named = msgspec.structs.replace(deployment, upstream_model=upstream_name(deployment, model))
            found = self._priced(named)
            if len(self._specific) >= MOST_SPECIFIC:
                self._specific.clear()
            self._specific[(deployment.id, model)] = found
        return found

    def new_id(self, now: float) -> str:
        """An id for a request that begins now (Unix seconds): UUID version 7, RFC 9562, with a counter (6.2, method 1).

        The random tail changes with every turn of the counter, so that an id costs no more than its text.
        """
        self._counter = (self._counter + 1) & 0xFFF
        if not self._counter:
            self._tail = random_tail(self.chance.getrandbits(62))
        milliseconds = int(now * 1000)
        return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{self._counter:03x}-{self._tail}"
