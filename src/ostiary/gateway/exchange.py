"""The life of one request, top to bottom: identify, peek, authorise, plan, reserve, attempt, relay, settle, record.

Nothing else decides this order. It must not touch a database, wait for a disk, or try again once the client has seen
a byte. What follows a failed attempt is in `attempts`; how an answer reaches the client is in `delivery`, and how an
exchange ends is in `ending`.
"""

from __future__ import annotations

import asyncio

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.operation import BodyKind, Meter, Operation
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.snapshot import GIVEN_BY_OPERATOR, Deployment
from ostiary.gateway.answer import JSON, is_of, retry_after
from ostiary.gateway.attempts import Attempts
from ostiary.gateway.delivery import Delivery
from ostiary.gateway.estimate import estimate_of, expected_usage, state_of
from ostiary.gateway.ledger.account import Account, Estimate
from ostiary.gateway.native import forwarded_query, native_deployments, plain_target
from ostiary.gateway.objects import PlainAsk, is_about_objects
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.authorise import may_route, resolve, usable
from ostiary.gateway.policy.identify import credential_of
from ostiary.gateway.ports import PLAIN, Inbound, Route
from ostiary.gateway.signing.signer import Signer, host_of
from ostiary.gateway.translation import (
    Translation,
    adjusted,
    is_strict,
    spoken_to,
)
from ostiary.gateway.upstream.response import Response
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_chat.faults import LARGEST_ERROR
from ostiary.wire.dialects.openai_chat.raw import (
    FormAsk,
    asked_usage,
    read_form,
)
from ostiary.wire.governed import Ask, read

_UNREAD = frozenset({"files.content", PLAIN})  # endpoints whose answers are not for us to read, whatever their type
DEFAULT_MODELS = {"moderations": "omni-moderation-latest"}  # where the API names one itself


class Exchange(Delivery):
    """One request and everything that is decided about it. Lives for one request, in one task."""

    __slots__ = (
        "_answering",
        "_cancelled",
        "_item",
        "_query",
        "_task",
    )

    def __init__(self, plane: Plane, inbound: Inbound, route: Route) -> None:
        now = plane.clock.now()
        record = Record(id=plane.new_id(now), started=int(now * 1000), endpoint=route.endpoint.name)
        super().__init__(plane, inbound, record, route)
        self._answering: Answering | None = None  # the request as values, once something needs it so
        self._item = ""  # the provider's id of the file or batch that this is about
        self._query = ""  # with its mark, for what is relayed as it stands
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
            self.ask, self._item, self.judged, self.pinned = placed.ask, placed.item, placed.judged, True
            return placed.ask.model, (placed.deployment,)
        if self.route.endpoint.name == PLAIN:
            target, self.pinned = plain_target(snapshot, key, self.route), True
            self.ask = PlainAsk(body, self._header(b"content-type"), target.model_name)
            self._query = forwarded_query(snapshot, self.route, self.inbound.query)
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
        route, kind = self.route, self._header(b"content-type")
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

    def _header(self, wanted: bytes) -> bytes:
        for name, value in self.inbound.headers:
            if name == wanted:
                return value
        return b""

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
        attempts = Attempts(self, pinned=self.pinned)
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
            response = await self._send(target)
            if not 200 <= response.status < 300:
                raise await self._rejected(response)
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

    async def _send(self, target: Deployment) -> Response:
        ask, route, plane = self.ask, self.route, self.plane
        body = self._body_for(target)
        self.entry.sent = True
        if target.scheme == "demo":
            return plane.demo.send(route.endpoint.name if self.translation is None else "chat.completions", body)
        out = plane.outbound(target)
        assert out.origin is not None
        chat = self.provider if route.endpoint.operation is Operation.CHAT else None
        model, stream = target.upstream_model, ask.stream
        signature = b""
        if out.signer is not None:
            path = out.target(route.endpoint, model, self._item, chat=chat, stream=stream) + self._query
            signature = await self._signed(out.signer, target, path, body)
        head = out.head(
            route.endpoint,
            model,
            self._item,
            ask.content_type,
            len(body),
            [] if self.translation is not None else self.inbound.headers,
            chat=chat,
            stream=stream,
            signature=signature,
            query=self._query,
        )
        timeouts = out.stream_timeouts if ask.stream else out.timeouts
        left = self.time_left()
        if timeouts.total - left > 1.0:
            timeouts = msgspec.structs.replace(timeouts, total=left, first_byte=min(timeouts.first_byte, left))
        return await plane.upstream.send(out.origin, head, body, timeouts, idempotent=route.endpoint.method == "GET")

    async def _signed(self, signer: Signer, target: Deployment, path: str, body: bytes) -> bytes:
        method, host, clock = self.route.endpoint.method, host_of(target), self.plane.clock
        lines = signer.lines(method, host, path, body, clock.now())
        if lines is None:
            await signer.ready()
            lines = signer.lines(method, host, path, body, clock.now())
        if lines is None:
            public = "there is no credential for the provider"
            raise Fault(Kind.UPSTREAM_AUTH, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
        return lines

    def _body_for(self, target: Deployment) -> bytes:
        """The request as the target is to see it: patched where it speaks the client's dialect, else translated."""
        ask, endpoint = self.ask, self.route.endpoint
        self.translation, self.provider = None, self.dialect
        if endpoint.operation is Operation.CHAT:
            self.provider = spoken_to(target, self.dialect)
        if self.provider is self.dialect:
            wanted = ask.stream and target.usage_in_stream and endpoint.dialect == "openai_chat"
            wanted = wanted and self.meter is Meter.TOKENS
            body = ask.patched(target.upstream_model, include_usage=wanted, defaults=target.defaults)
            return adjusted(body, target) if target.drops or target.adds else body
        if self._answering is None:
            plain = ask.patched(ask.model, include_usage=False) if ask.own else ask.body
            asked = msgspec.structs.replace(self.dialect.decode_request(plain), model=ask.model, stream=ask.stream)
            created = self.record.started // 1000
            self._answering = Answering(id=self.record.id, created=created, model=ask.model, asked=asked)
        strict = is_strict(self.account.key, target, ask.own)
        self.translation = Translation(self.dialect, self.provider, self._answering, strict=strict)
        defaults = self.plane.outbound(target).defaults if target.defaults else None
        body = self.translation.request(target, defaults, stream=ask.stream)
        self.losses = self.translation.losses
        return body

    async def _rejected(self, response: Response) -> Fault:
        try:
            body = await response.read(LARGEST_ERROR)
        except Fault:  # too long to be an explanation, or it never came: the status says enough
            body = b""
        fault = self.provider.decode_fault(response.status, body, retry_after(response.headers, self.plane.clock.now()))
        if self.translation is not None:
            fault.answer = None  # in the provider's dialect, which the client does not speak
        signer = self.plane.outbound(self.target).signer if fault.kind is Kind.UPSTREAM_AUTH else None
        if signer is not None:
            signer.refused()
        return fault
