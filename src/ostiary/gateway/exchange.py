"""The life of one request, top to bottom: identify, peek, authorise, plan, reserve, attempt, relay, settle, record.

Nothing else decides this order. It must not touch a database, wait for a disk, or try again once the client has seen
a byte. What follows a failed attempt is in `attempts`; how an answer reaches the client is in `delivery`, and how an
exchange ends is in `ending`.
"""

from __future__ import annotations

import asyncio

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import BodyKind, Meter
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.snapshot import GIVEN_BY_OPERATOR, Deployment
from ostiary.gateway.answer import JSON, is_of
from ostiary.gateway.attempts import Attempts
from ostiary.gateway.estimate import estimate_of, expected_usage, state_of
from ostiary.gateway.ledger.account import Account, Estimate
from ostiary.gateway.native import forwarded_query, native_deployments, plain_target
from ostiary.gateway.objects import PlainAsk, is_about_objects
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.authorise import may_route, resolve, usable
from ostiary.gateway.policy.identify import credential_of
from ostiary.gateway.ports import PLAIN, Inbound, Route
from ostiary.gateway.sending import Sending
from ostiary.wire.dialects.openai_chat.raw import (
    FormAsk,
    asked_usage,
    read_form,
)
from ostiary.wire.governed import Ask, read

_UNREAD = frozenset({"files.content", PLAIN})  # endpoints whose answers are not for us to read, whatever their type
DEFAULT_MODELS = {"moderations": "omni-moderation-latest"}  # where the API names one itself


class Exchange(Sending):
    """One request and everything that is decided about it. Lives for one request, in one task."""

    __slots__ = (
        "_cancelled",
        "_task",
    )

    def __init__(self, plane: Plane, inbound: Inbound, route: Route) -> None:
        now = plane.clock.now()
        record = Record(id=plane.new_id(now), started=int(now * 1000), endpoint=route.endpoint.name)
        super().__init__(plane, inbound, record, route)
        self._cancelled = ""
        self._task = asyncio.current_task(plane.loop)

    # --- the story -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Answer the request. Every path ends in one answer (or a gone client) and one settled record."""
        try:
            account = await self._identify()
        except Fault as fault:  # nobody to charge: counted, not recorded
            self.plane.refused(fault)
            self.refuse(fault)
            return
        record, key = self.record, account.key
        self.account = account
        record.key_id, record.team_id, record.user_id = key.id, key.team_id, key.user_id
        record.organization_id, record.tags = key.organization_id, key.tags
        with self.plane.ledger.open(record, account, self) as entry:
            self.entry = entry
            try:
                usable(key, self.plane.clock.now())  # before a body is read for it
                may_route(key, self.route.endpoint, self.route.full)
                body = await self.inbound.body(self.snapshot.limits.max_body)
                record.model, deployments = await self._place(body)
                self.reserve(deployments)
                await self._attempt(record.model, deployments)
            except Fault as fault:
                self.fail(fault)
            except asyncio.CancelledError:
                self.interrupted(self._cancelled)
                if not self._cancelled:
                    raise

    def cancel(self, reason: str) -> None:
        """End this exchange because of its key; `reason` is one sentence for the caller."""
        self._cancelled = reason
        if self._task is not None:
            self._task.cancel()

    # --- who asks, for what ----------------------------------------------------------------------------------------

    async def _identify(self) -> Account:
        text = credential_of(self.inbound.headers, self.plane.key_header)
        return self.plane.keys.resident(text) or await self.plane.keys.find(text, self.inbound.peer)

    async def _place(self, body: bytes) -> tuple[str, tuple[Deployment, ...]]:
        """The public name asked for and the deployments that may serve it and be charged for."""
        key, snapshot = self.account.key, self.snapshot
        if is_about_objects(self.route):
            plane = self.plane
            placed = await plane.objects.place(snapshot, key, self.route, self.inbound, body, plane.specific)
            self.ask, self.item, self.judged, self.pinned = placed.ask, placed.item, placed.judged, True
            return placed.ask.model, (placed.deployment,)
        if self.route.endpoint.name == PLAIN:
            target, self.pinned = plain_target(snapshot, key, self.route), True
            self.ask = PlainAsk(body, self.content_type(), target.model_name)
            self.query = forwarded_query(snapshot, self.route, self.inbound.query)
            return target.model_name, (target,)
        ask = self.ask = self._peek(body)
        self.record.stream = ask.stream
        self.record.end_user = ask.user[:256]
        return self.authorise(ask.model)

    def authorise(self, model: str) -> tuple[str, tuple[Deployment, ...]]:
        """What a public name leads to for this key, as its rights are now. Asked anew before every further attempt.

        Raises:
            Fault: the key is not usable any more; UNKNOWN_MODEL or MODEL_DENIED.
        """
        key = self.account.key
        usable(key, self.plane.clock.now())
        if self.route.native:
            group, deployments = native_deployments(self.snapshot, key, self.route, model)
            model = group
        else:
            group, deployments = resolve(self.snapshot, key, model)
        return group, self._chargeable(self.plane.specific(deployments, group))

    def _peek(self, body: bytes) -> Ask | FormAsk:
        """Read what governs the request, and no more."""
        route, kind = self.route, self.content_type()
        default = DEFAULT_MODELS.get(route.endpoint.name, "")
        if route.endpoint.body is BodyKind.MULTIPART:
            form = read_form(body, kind, model=route.model, default_model=default)
            self.asked = asked_usage(form, self.meter)
            return form
        if kind and not is_of(kind, JSON):
            raise Fault(Kind.UNSUPPORTED_MEDIA, "the request must be application/json")
        endpoint = route.endpoint
        ask = read(
            body,
            max_depth=self.snapshot.limits.max_depth,
            peek=self.dialect.peek,
            model=route.model,
            default_model=default,
            in_path="{model}" in endpoint.path,
        )
        ask.stream = endpoint.streaming or (ask.stream and endpoint.streams)
        if self.meter is not Meter.TOKENS:
            self.asked = asked_usage(ask, self.meter)
        return ask

    # --- what it may cost ------------------------------------------------------------------------------------------

    def _chargeable(self, deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        """The deployments a key may be charged for: one with a budget needs a price."""
        if self.account.key.max_budget is None:
            return deployments
        priced = tuple([d for d in deployments if state_of(d, self.meter) is not PriceState.UNKNOWN])
        return priced or deployments  # the ledger refuses the unknown price with its reason

    def reserve(self, deployments: tuple[Deployment, ...]) -> None:
        """Borrow the highest estimate among the deployments that may serve. The record is in the journal from here.

        Again for a fallback: its deployments may cost more, and one that is free says nothing about the next.

        Raises:
            Fault: BUDGET_EXCEEDED, UNKNOWN_PRICE, RATE_LIMITED; UNAVAILABLE when the journal cannot be written.
        """
        # Keeping files costs nothing here, nor does counting; a batch is refused to keys with a budget.
        if self.counts or (self.pinned and deployments[0].mode != GIVEN_BY_OPERATOR):
            self.entry.reserve(Estimate(), PriceState.FREE)
            return
        ask, first = self.ask, deployments[0]
        default = self.snapshot.limits.default_output_estimate
        self.expected = expected_usage(ask.body, ask.max_output, self.asked, self.meter, first, default)
        estimate, state = estimate_of(self.expected, first), first.price_state
        for deployment in deployments[1:]:
            estimate = Estimate(*map(max, estimate, estimate_of(self.expected, deployment)))
            if state is PriceState.FREE:
                state = deployment.price_state
        if self.meter is not Meter.TOKENS and any(state_of(d, self.meter) is PriceState.UNKNOWN for d in deployments):
            state = PriceState.UNKNOWN
        self.entry.reserve(estimate, state)

    # --- attempts --------------------------------------------------------------------------------------------------

    async def _attempt(self, group: str, deployments: tuple[Deployment, ...]) -> None:
        """Try targets until one has answered. A stream's client side exists before, so that silence can be filled."""
        attempts = Attempts(self, pinned=self.pinned, alone=self.alone)
        if not self.ask.stream:
            await attempts.run(self.ask.model, group, deployments)
            return
        seconds = self.snapshot.limits.ping_seconds
        self.relay = self.new_relay(seconds)
        self.plane.sweeper.register(self.relay)
        try:
            await attempts.run(self.ask.model, group, deployments)
        finally:
            self.plane.sweeper.unregister(self.relay)

    async def attempt(self, target: Deployment) -> None:
        """Send the request to one target and bring the answer to the client.

        Raises:
            Fault: no whole answer; `inbound.started` tells whether the client has seen a part.
        """
        record, clock = self.record, self.plane.clock
        record.attempts += 1
        record.deployment, record.provider = target.id, target.provider
        record.upstream_model, record.price = target.upstream_model, target.price_state
        if self.route.endpoint.name == PLAIN and target.mode != GIVEN_BY_OPERATOR:
            record.price = PriceState.UNKNOWN  # the deployment's price is that of its model
        self.target = target
        pulse = self.plane.health.pulse(target.id)
        pulse.busy += 1
        began = clock.monotonic()
        before = record.upstream_ms
        try:
            if self.counts and self.dialect.name not in target.dialects:
                self.count()
                return
            passage = self.passage_to(target)
            if passage is not None:
                self.answer_shaped(passage, await self.send_shaped(target, passage))
                return
            response = await self.send(target)
            if not 200 <= response.status < 300:
                raise await self.rejected(response)
            kind = response.header(b"content-type") or b""
            if is_of(kind, JSON) and self.route.endpoint.name not in _UNREAD:
                body = await response.read(self.snapshot.limits.max_answer)
                record.upstream_ms = before + int((clock.monotonic() - began) * 1000)
                self.provider_headers = response.headers
                self.answer(body, kind)
            else:
                await self.pass_on(response, kind)
        finally:
            pulse.busy -= 1
            if record.outcome is Outcome.OPEN:
                record.upstream_ms = before + int((clock.monotonic() - began) * 1000)
                self.provider_headers = []  # a failed attempt's headers describe no later answer
