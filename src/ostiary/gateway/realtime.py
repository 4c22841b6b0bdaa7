"""A realtime session, top to bottom: identify, authorise, check, dial, accept, relay both ways, settle, record.

Events go from one socket to the other in one call; nothing is queued, and who writes faster than the other reads stops
being read. It must not translate: the provider speaks OpenAI's Realtime API, or is none for this. Each response is
asked for, measured and recorded by `turns`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.key import VirtualKey
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.snapshot import Deployment, LimitSettings
from ostiary.core.usage import NOTHING
from ostiary.gateway.answer import fault_head, retry_after
from ostiary.gateway.attempts import Attempts
from ostiary.gateway.dialling import dial_realtime
from ostiary.gateway.duplex import DuplexInbound, Handshake, refusal_lines
from ostiary.gateway.ledger.account import Account, Estimate
from ostiary.gateway.ledger.ledger import CLIENT_CLOSED_REQUEST, Entry
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.authorise import may_route, resolve, usable
from ostiary.gateway.policy.identify import credential_of
from ostiary.gateway.ports import Inbound, Route
from ostiary.gateway.realtime_talk import Talk
from ostiary.gateway.turns import Turns
from ostiary.gateway.upstream.websocket import Refusal
from ostiary.wire.dialects.openai_chat.faults import decode_fault, encode_fault

_LONGEST_QUERY = 2048
_NAMES_OF_MODEL = ("model", "deployment")  # OpenAI's and Azure's


class Seats:
    """How many sessions are open, in all and of each key."""

    def __init__(self) -> None:
        self.total = 0
        self.by_key: Counter[str] = Counter()

    @contextmanager
    def taken(self, key: VirtualKey, limits: LimitSettings) -> Iterator[None]:
        """A session's place; a key has as many as it may have requests at once.

        Raises:
            Fault: OVERLOADED, RATE_LIMITED.
        """
        own = self.by_key[key.id]
        if self.total >= limits.sessions:
            public = "too many realtime sessions are open"
            raise Fault(Kind.OVERLOADED, public, origin=Origin.GATEWAY, retry_after=1.0)
        most = limits.sessions_per_key
        if key.max_parallel is not None:
            most = min(most, key.max_parallel)
        if own >= most:
            public = f"Rate limit exceeded: {own} realtime sessions of this key are open."
            raise Fault(Kind.RATE_LIMITED, public, origin=Origin.POLICY, param="max_parallel_requests", retry_after=1.0)
        self.total += 1
        self.by_key[key.id] += 1
        try:
            yield
        finally:
            self.total -= 1
            self.by_key[key.id] -= 1
            if not self.by_key[key.id]:
                del self.by_key[key.id]


class Session:
    """One session, in one task. `Attempts` calls it as it calls an exchange."""

    def __init__(self, plane: Plane, seats: Seats, inbound: DuplexInbound, route: Route) -> None:
        now = plane.clock.now()
        self.plane = plane
        self.inbound: Inbound = inbound
        self._duplex = inbound
        self.route = route
        self.snapshot = plane.snapshot
        self.record = Record(id=plane.new_id(now), started=int(now * 1000), endpoint=route.endpoint.name, stream=True)
        self.own: dict[str, msgspec.Raw] = {}
        self.asked = ""  # the name that the client used
        self.account: Account
        self._seats = seats
        self._began = plane.clock.monotonic()
        self._handshake: Handshake
        self._entry: Entry
        self._talk: Talk | None = None
        self._cancelled = ""
        self._task = asyncio.current_task(plane.loop)

    async def run(self) -> None:
        """Serve the session. Every path ends in one answer or one close, and one settled record."""
        try:
            self._handshake = self._duplex.handshake()
            self.account = await self._identify()
        except Fault as fault:  # nobody to charge: counted, not recorded
            self.plane.refused(fault)
            self._refuse(fault)
            return
        record, key = self.record, self.account.key
        record.key_id, record.team_id, record.user_id = key.id, key.team_id, key.user_id
        record.organization_id, record.tags = key.organization_id, key.tags
        with self.plane.ledger.open(record) as entry:
            self._entry = entry
            try:
                entry.reserve(Estimate(), PriceState.FREE)  # nobody is charged for a session: its responses cost
                entry.bind(self.account, self)
                await self._admitted()
            except Fault as fault:
                self._fail(fault)
            except asyncio.CancelledError:
                self._interrupted()
                if not self._cancelled:
                    raise

    async def _admitted(self) -> None:
        key, limits = self.account.key, self.snapshot.limits
        usable(key, self.plane.clock.now())
        may_route(key, self.route.endpoint, self.route.full)
        asked = self.asked = asked_model(self.inbound.query, self.route.model)
        group, deployments = self.authorise(asked)
        self.record.model = group
        self.reserve(deployments)
        with self._seats.taken(key, limits):
            await Attempts(self, pinned=False).run(asked, group, deployments)

    def cancel(self, reason: str) -> None:
        """End this session because of its key; `reason` is one sentence for the caller."""
        if self._talk is not None:
            self._talk.blocked(Fault(Kind.BLOCKED_KEY, reason, origin=Origin.POLICY))
            return
        self._cancelled = reason
        if self._task is not None:
            self._task.cancel()

    async def _identify(self) -> Account:
        carried = (*self.inbound.headers, *self._handshake.carried)
        text = credential_of(carried, self.plane.key_header)
        return self.plane.keys.resident(text) or await self.plane.keys.find(text, self.inbound.peer)

    # --- what `Attempts` asks ---

    def time_left(self) -> float:
        """Seconds until the deadline of the whole session."""
        return self.snapshot.limits.session_seconds - (self.plane.clock.monotonic() - self._began)

    def authorise(self, model: str) -> tuple[str, tuple[Deployment, ...]]:
        """What a public name leads to for this key, as its rights are now.

        Raises:
            Fault: the key is not usable any more; UNKNOWN_MODEL or MODEL_DENIED; INVALID_REQUEST for a model that is
                none for this.
        """
        key = self.account.key
        usable(key, self.plane.clock.now())
        group, deployments = self.reachable(model)
        speaking = tuple(each for each in deployments if speaks_realtime(each))
        if not speaking:
            raise Fault(Kind.INVALID_REQUEST, "this model is not served over the Realtime API", param="model")
        if key.max_budget is not None:
            priced = tuple(each for each in speaking if each.price_state is not PriceState.UNKNOWN)
            speaking = priced or speaking
        return group, speaking

    def reachable(self, model: str) -> tuple[str, tuple[Deployment, ...]]:
        """The deployments that a name leads to for this key.

        Raises:
            Fault: UNKNOWN_MODEL or MODEL_DENIED.
        """
        group, deployments = resolve(self.plane.snapshot, self.account.key, model)
        return group, self.plane.specific(deployments, group)

    def affordable(self, deployment: Deployment) -> None:
        """Whether the key may use a deployment at its price.

        Raises:
            Fault: UNKNOWN_PRICE for a key with a budget.
        """
        self.account.afford(self.plane.clock.now(), Estimate(), deployment.price_state)

    def reserve(self, deployments: tuple[Deployment, ...]) -> None:
        """Whether a response of these could be paid for; each is reserved for when it is asked for.

        Raises:
            Fault: BUDGET_EXCEEDED, UNKNOWN_PRICE, RATE_LIMITED.
        """
        self._turns(deployments[0]).check()

    async def attempt(self, target: Deployment) -> None:
        """Open the provider's side, then the client's, and relay until either ends.

        Raises:
            Fault: there is no session with this target; or the provider broke off.
        """
        record, plane, limits = self.record, self.plane, self.snapshot.limits
        record.attempts += 1
        record.deployment, record.provider = target.id, target.provider
        record.upstream_model = target.upstream_model
        pulse = plane.health.pulse(target.id)
        pulse.busy += 1
        talk = Talk(self, target, self._turns(target))
        try:
            began = plane.clock.monotonic()
            opened = await dial_realtime(
                plane, target, self.route.endpoint, talk.provider_listener, beta=self._handshake.beta, limits=limits,
                headers=self.inbound.headers,
            )  # fmt: skip
            record.upstream_ms += int((plane.clock.monotonic() - began) * 1000)
            if isinstance(opened, Refusal):
                raise self._rejected(target, opened)
            talk.provider = opened
            head = f"x-litellm-call-id: {record.id}\r\n".encode("ascii")
            client = self._duplex.accept(
                self._handshake, head, talk.client_listener, largest=limits.max_event, silence=limits.silence_seconds
            )
            self._talk = talk
            record.first_byte = int(plane.clock.now() * 1000)
            await talk.run(client, plane.loop.time() + self.time_left())
        finally:
            pulse.busy -= 1
            talk.abandon()

    def _turns(self, target: Deployment) -> Turns:
        most = self.snapshot.limits.default_output_estimate
        return Turns(self.plane, self.account, target, self.record, most)

    def _rejected(self, target: Deployment, refusal: Refusal) -> Fault:
        if 200 <= refusal.status < 400:
            public = "the provider does not serve this model over a WebSocket"
            return Fault(Kind.BAD_ANSWER, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
        wait = retry_after(refusal.headers, self.plane.clock.now())
        fault = decode_fault(refusal.status, refusal.body, wait)
        signer = self.plane.outbound(target).signer if fault.kind is Kind.UPSTREAM_AUTH else None
        if signer is not None:
            signer.refused()
        return fault

    # --- ends ---

    def settle(self, outcome: Outcome, status: int, fault: str = "") -> None:
        """Settle the session's own record, which costs nothing."""
        if self.record.outcome is Outcome.OPEN:
            self._entry.settle(NOTHING, measured=True, outcome=outcome, status=status, cost=0, fault=fault)

    def _fail(self, fault: Fault) -> None:
        outcome = Outcome.BLOCKED if fault.origin is Origin.POLICY else Outcome.FAILED
        self.settle(outcome, fault.status, str(fault.kind))
        self._refuse(fault)

    def _interrupted(self) -> None:
        """While nothing was open yet: the client went away, the key was blocked, or the gateway is stopping."""
        gone = self.inbound.gone and not self._cancelled
        if self._cancelled:
            fault = Fault(Kind.BLOCKED_KEY, self._cancelled, origin=Origin.POLICY)
            outcome = Outcome.BLOCKED
        else:
            fault = Fault(Kind.STOPPING, "the gateway is stopping", origin=Origin.GATEWAY)
            outcome = Outcome.CLIENT_GONE if gone else Outcome.FAILED
        self.settle(outcome, CLIENT_CLOSED_REQUEST if gone else fault.status, "" if gone else str(fault.kind))
        self._refuse(fault)

    def _refuse(self, fault: Fault) -> None:
        if self.inbound.gone or self.inbound.started:
            return
        head = fault_head(fault, self.record.id) + refusal_lines(fault)
        self.inbound.answer(fault.status, head, encode_fault(fault))


def asked_model(query: bytes, named: str = "") -> str:
    """The model that the query asks for.

    Raises:
        Fault: INVALID_REQUEST for none, for two, and for parameters that mean more than a new session of a model, such
            as the call of somebody else (`call_id`).
    """
    if len(query) > _LONGEST_QUERY or not query.isascii():
        raise Fault(Kind.INVALID_REQUEST, "the query is too long, or not ASCII")
    model = named
    for name, value in parse_qsl(query.decode("ascii"), keep_blank_values=True):
        if name in _NAMES_OF_MODEL:
            if model and model != value:
                raise Fault(Kind.INVALID_REQUEST, "the query names two models", param="model")
            model = value
        elif name != "api-version":  # of the client's Azure library: the deployment has its own
            public = "a realtime session is opened with `model`, and no other parameter"
            raise Fault(Kind.INVALID_REQUEST, public, param=name[:64])
    if not model:
        raise Fault(Kind.INVALID_REQUEST, "the query names no model", param="model")
    return model


def speaks_realtime(deployment: Deployment) -> bool:
    """Whether a deployment speaks OpenAI's Realtime API: by its model's mode, or because it names a path for it."""
    if deployment.scheme == "demo":
        return False
    by_mode = deployment.mode == "realtime" and "openai_chat" in deployment.dialects
    return by_mode or any(name == "realtime" for name, _ in deployment.paths)
