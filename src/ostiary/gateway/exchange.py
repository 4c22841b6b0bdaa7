"""The life of one request, top to bottom: identify, peek, authorise, plan, reserve, attempt, relay, settle, record.

Nothing else decides this order. It must not touch a database, wait for a disk, or try again once the client has seen
a byte.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.operation import BodyKind, Meter
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.core.usage import NOTHING, Usage
from ostiary.gateway.answer import JSON, answer_head, fault_head, media_type, retry_after
from ostiary.gateway.estimate import estimate_of, expected_usage
from ostiary.gateway.ledger.account import Account, Estimate, rate_headers
from ostiary.gateway.objects import PlainAsk, is_about_objects
from ostiary.gateway.outbound import Outbound
from ostiary.gateway.plane import Plane
from ostiary.gateway.policy.authorise import may_route, resolve, usable
from ostiary.gateway.policy.identify import credential_of
from ostiary.gateway.ports import Inbound, Route
from ostiary.gateway.relay import OpaqueTap, Relay
from ostiary.gateway.routing.plan import backoff, fallbacks_for, order, retries_for
from ostiary.gateway.upstream.response import Response
from ostiary.wire.dialects.openai_chat.faults import LARGEST_ERROR, decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.openai_chat.raw import FormAsk, answered_usage, asked_usage, read_form
from ostiary.wire.dialects.openai_chat.reply import bad_answer
from ostiary.wire.dialects.openai_chat.request import Ask, read
from ostiary.wire.dialects.openai_chat.stream import StreamTap

LONGEST_WAIT = 60.0  # seconds a retry may wait for a provider's Retry-After


class Exchange:
    """One request and everything that is decided about it. Lives for one request, in one task."""

    __slots__ = (
        "_account",
        "_ask",
        "_asked",
        "_began",
        "_cancelled",
        "_entry",
        "_expected",
        "_inbound",
        "_item",
        "_pinned",
        "_plane",
        "_provider_headers",
        "_record",
        "_relay",
        "_route",
        "_snapshot",
        "_target",
        "_task",
    )

    def __init__(self, plane: Plane, inbound: Inbound, route: Route) -> None:
        self._plane = plane
        self._inbound = inbound
        self._route = route
        self._ask: Ask | FormAsk | PlainAsk
        self._snapshot: PolicySnapshot = plane.snapshot
        self._began = plane.clock.monotonic()
        now = plane.clock.now()
        self._record = Record(id=plane.new_id(now), started=int(now * 1000), endpoint=route.endpoint.name)
        self._cancelled = ""
        self._item = ""  # the provider's id of the file or batch that this is about
        self._pinned = False  # only one deployment can answer
        self._asked = self._expected = NOTHING
        self._relay: Relay | None = None
        self._task = asyncio.current_task()
        self._provider_headers: list[tuple[bytes, bytes]] = []

    # --- the story -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Answer the request. Every path ends in one answer (or a gone client) and one settled record."""
        try:
            self._account = await self._identify()
        except Fault as fault:  # nobody to charge: counted, not recorded
            self._plane.refused(fault)
            self._refuse(fault)
            return
        record, key = self._record, self._account.key
        record.key_id, record.team_id, record.user_id = key.id, key.team_id, key.user_id
        record.organization_id, record.tags = key.organization_id, key.tags
        with self._plane.ledger.open(record, self._account, self) as entry:
            self._entry = entry
            try:
                usable(key, self._plane.clock.now())
                may_route(key, self._route.endpoint)
                body = await self._inbound.body(self._snapshot.limits.max_body)
                record.model, deployments = await self._place(body)
                self._reserve(self._affordable(deployments))
                await self._attempt_all(record.model, deployments)
            except Fault as fault:
                self._fail(fault)
            except asyncio.CancelledError:
                self._interrupted()
                if not self._cancelled:
                    raise

    # --- who asks, for what ----------------------------------------------------------------------------------------

    async def _identify(self) -> Account:
        text = credential_of(self._inbound.headers, self._plane.key_header)
        return self._plane.keys.resident(text) or await self._plane.keys.find(text)

    async def _place(self, body: bytes) -> tuple[str, tuple[Deployment, ...]]:
        """The public name asked for and the deployments that may serve it."""
        key = self._account.key
        if is_about_objects(self._route):
            placed = await self._plane.objects.place(self._snapshot, key, self._route, self._inbound, body)
            self._ask, self._item, self._pinned = placed.ask, placed.item, True
            return placed.ask.model, (placed.deployment,)
        self._ask = self._peek(body)
        group, deployments = resolve(self._snapshot, key, self._ask.model)
        return group, self._plane.specific(deployments, self._ask.model if group == self._ask.model else group)

    def _peek(self, body: bytes) -> Ask | FormAsk:
        """Read what governs the request, and no more."""
        route, limits = self._route, self._snapshot.limits
        kind = self._header(b"content-type")
        ask: Ask | FormAsk
        if route.endpoint.body is BodyKind.MULTIPART:
            ask = read_form(body, kind, model=route.model)
        else:
            if kind and not kind.lower().startswith(JSON):
                raise Fault(Kind.UNSUPPORTED_MEDIA, "the request must be application/json")
            default = "omni-moderation-latest" if route.endpoint.name == "moderations" else ""
            ask = read(body, max_depth=limits.max_depth, model=route.model, default_model=default)
        if ask.stream and not route.endpoint.streams and isinstance(ask, Ask):
            ask.stream = False
        self._asked = asked_usage(ask, route.endpoint.meter)
        self._record.stream = ask.stream
        self._record.end_user = ask.user[:256]
        return ask

    # --- what it may cost ------------------------------------------------------------------------------------------

    def _affordable(self, deployments: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        """The deployments a key may be charged for: one with a budget needs a price."""
        if self._account.key.max_budget is None:
            return deployments
        priced = tuple(d for d in deployments if d.price_state is not PriceState.UNKNOWN)
        return priced or deployments  # the ledger refuses the unknown price with its reason

    def _reserve(self, deployments: tuple[Deployment, ...]) -> None:
        """Borrow the highest estimate among the deployments that may serve. The record is in the journal from here."""
        first = deployments[0]
        if self._pinned:  # keeping files costs nothing here; a batch is refused to keys with a budget
            self._entry.reserve(Estimate(), PriceState.FREE)
            return
        self._expected = self._expect(first)
        estimate = estimate_of(self._expected, first)
        for deployment in deployments[1:]:
            other = estimate_of(self._expected, deployment)
            estimate = Estimate(*map(max, estimate, other))
        self._record.price = first.price_state
        self._entry.reserve(estimate, first.price_state)

    def _expect(self, deployment: Deployment) -> Usage:
        ask, endpoint = self._ask, self._route.endpoint
        default = self._snapshot.limits.default_output_estimate
        return expected_usage(ask.body, ask.max_output, self._asked, endpoint.meter, deployment, default)

    # --- attempts --------------------------------------------------------------------------------------------------

    async def _attempt_all(self, group: str, deployments: tuple[Deployment, ...]) -> None:
        """The group asked for, then its fallbacks, each name authorised again, until one answers."""
        queue = deque([(group, deployments)])
        tried = {group}
        relay = self._open_relay()
        try:
            while True:
                name, members = queue.popleft()
                try:
                    await self._attempt_group(self._affordable(members))
                except Fault as fault:
                    if self._inbound.started or self._exhausted():
                        raise
                    self._line_up_fallbacks(name, fault, queue, tried)
                    if not queue:
                        raise
                    self._record.fallbacks += 1
                else:
                    return
        finally:
            if relay is not None:
                self._plane.sweeper.unregister(relay)

    def _line_up_fallbacks(
        self, name: str, fault: Fault, queue: deque[tuple[str, tuple[Deployment, ...]]], tried: set[str]
    ) -> None:
        if self._pinned or "disable_fallbacks" in self._ask.own:
            return
        for fallback in fallbacks_for(self._snapshot, name, fault):
            if fallback in tried or len(tried) > self._snapshot.routing.max_fallbacks:
                continue
            tried.add(fallback)
            try:
                group, deployments = resolve(self._snapshot, self._account.key, fallback)
                queue.append((group, self._plane.specific(deployments, fallback)))
            except Fault:
                continue  # not his to use: as if it were not there

    async def _attempt_group(self, deployments: tuple[Deployment, ...]) -> None:
        """Try the targets of one group, with retries, until one answers or none may be tried again."""
        plane, settings = self._plane, self._snapshot.routing
        alone = len(deployments) == 1
        excluded: set[str] = set()
        last: Fault | None = None
        retry = 0
        while True:
            now = plane.clock.monotonic()
            ready = tuple(d for d in deployments if d.id not in excluded) if excluded else deployments
            targets = order(ready, plane.health, now, plane.chance.random)
            if not targets:
                raise last or self._nobody(deployments, now)
            target = self._another(targets, last)
            try:
                await self._attempt(target)
            except Fault as fault:
                last = fault
                if fault.origin is Origin.UPSTREAM and fault.retry is not Retry.NEVER:
                    now = plane.clock.monotonic()
                    plane.health.failed(target.id, fault, now, settings, alone=alone)
                retry += 1
                if not self._may_retry(target, fault, retry):
                    raise
                if fault.retry is Retry.NEXT:
                    excluded.add(target.id)
                await self._pause(ready, excluded, fault, retry)
            else:
                plane.health.succeeded(target.id, plane.clock.monotonic())
                return

    def _another(self, targets: list[Deployment], last: Fault | None) -> Deployment:
        """Not the one that has just failed, if there is a choice."""
        if last is not None and len(targets) > 1 and targets[0].id == self._record.deployment:
            return targets[1]
        return targets[0]

    def _may_retry(self, deployment: Deployment, fault: Fault, retry: int) -> bool:
        if self._inbound.started or fault.retry is Retry.NEVER or self._exhausted():
            return False
        return retry <= retries_for(self._snapshot.routing, deployment, fault, self._asked_retries())

    async def _pause(self, ready: tuple[Deployment, ...], excluded: set[str], fault: Fault, retry: int) -> None:
        """Wait before the next try, unless another deployment can serve at once."""
        now = self._plane.clock.monotonic()
        available = [d for d in ready if d.id not in excluded and self._plane.health.available(d, now)]
        if any(d.id != self._record.deployment for d in available):
            return
        if not available:
            if fault.kind is not Kind.UPSTREAM_RATE_LIMIT or fault.retry_after is None:
                raise fault
            excluded.clear()  # the only way is to wait for as long as the provider asked
        wait = backoff(self._snapshot.routing, retry, fault, self._plane.chance.random())
        if wait > min(LONGEST_WAIT, self._time_left()):
            raise fault
        await asyncio.sleep(wait)

    def _exhausted(self) -> bool:
        return self._record.attempts >= self._snapshot.routing.max_attempts or self._time_left() <= 0

    def _time_left(self) -> float:
        return self._snapshot.routing.exchange_seconds - (self._plane.clock.monotonic() - self._began)

    def _asked_retries(self) -> int | None:
        """The caller's `num_retries`, if he named one."""
        raw = self._ask.own.get("num_retries")
        if raw is None:
            return None
        try:
            return max(int(msgspec.json.decode(raw, type=int)), 0)
        except msgspec.DecodeError:
            raise Fault(Kind.INVALID_REQUEST, "'num_retries' must be a whole number", param="num_retries") from None

    def _nobody(self, deployments: tuple[Deployment, ...], now: float) -> Fault:
        wait = self._plane.health.rest_of(deployments, now)
        public = "no deployment of this model is available at the moment"
        return Fault(Kind.NO_DEPLOYMENT, public, origin=Origin.UPSTREAM, retry=Retry.NEXT, retry_after=wait or 1.0)

    # --- one attempt -----------------------------------------------------------------------------------------------

    async def _attempt(self, target: Deployment) -> None:
        """Send the request to one target and bring the answer to the client.

        Raises:
            Fault: no whole answer; `inbound.started` tells whether the client has seen a part.
        """
        record = self._record
        record.attempts += 1
        record.deployment, record.provider = target.id, target.provider
        record.upstream_model, record.price = target.upstream_model, target.price_state
        self._target = target
        pulse = self._plane.health.pulse(target.id)
        pulse.busy += 1
        began = self._plane.clock.monotonic()
        try:
            response = await self._send(target)
            self._provider_headers = response.headers
            if response.status != 200 and not 200 <= response.status < 300:
                raise await self._rejected(response)
            await self._deliver(response, began)
        finally:
            pulse.busy -= 1
            record.upstream_ms += int((self._plane.clock.monotonic() - began) * 1000)

    async def _send(self, target: Deployment) -> Response:
        ask, route = self._ask, self._route
        usage_wanted = ask.stream and target.usage_in_stream and route.endpoint.meter is Meter.TOKENS
        body = ask.patched(target.upstream_model, include_usage=usage_wanted, defaults=target.defaults)
        self._entry.sent = True
        if target.scheme == "demo":
            return self._plane.demo.send(route.endpoint.name, body)
        out: Outbound = self._plane.outbound(target)
        assert out.origin is not None
        head = out.head(
            route.endpoint, target.upstream_model, self._item, ask.content_type, len(body), self._inbound.headers
        )
        timeouts = out.stream_timeouts if ask.stream else out.timeouts
        left = self._time_left()
        if timeouts.total - left > 1.0:
            timeouts = msgspec.structs.replace(timeouts, total=left, first_byte=min(timeouts.first_byte, left))
        return await self._plane.upstream.send(out.origin, head, body, timeouts, idempotent=False)

    async def _rejected(self, response: Response) -> Fault:
        body = await response.read(LARGEST_ERROR)
        return decode_fault(response.status, body, retry_after(response.headers, self._plane.clock.now()))

    async def _deliver(self, response: Response, began: float) -> None:
        """The provider has said yes: relay a stream, answer a document, pass on bytes."""
        kind = response.header(b"content-type") or b""
        if kind.startswith(b"text/event-stream"):
            await self._relay_stream(response, StreamTap(strip_usage=not self._ask.wants_usage))
        elif kind.startswith(JSON):
            body = await response.read(self._snapshot.limits.max_answer)
            usage = answered_usage(body, self._route.endpoint.meter, self._asked)
            self._record.upstream_ms += int((self._plane.clock.monotonic() - began) * 1000)
            if self._pinned:
                body = self._plane.objects.renamed(body, self._target, self._account.key)
            self._answer(body, kind, usage)
            self._record.upstream_ms -= int((self._plane.clock.monotonic() - began) * 1000)
        elif self._route.endpoint.meter is Meter.TOKENS:
            response.abort()
            raise bad_answer()
        else:
            await self._relay_stream(response, OpaqueTap())

    def _answer(self, body: bytes, kind: bytes, usage: Usage | None) -> None:
        relay = self._relay
        if relay is not None and relay.committed:  # a comment has gone out: the document becomes the stream's end
            raise bad_answer()
        self._settle(Outcome.COMPLETED, usage, 200)
        head = self._head(media_type(kind), cost=self._record.cost)
        self._inbound.answer(200, head, body)

    # --- streams ---------------------------------------------------------------------------------------------------

    def _open_relay(self) -> Relay | None:
        """A stream's client side exists before its first attempt, so that silence can be filled."""
        if not self._ask.stream:
            return None
        ping = self._snapshot.limits.ping_seconds
        self._relay = relay = Relay(self._inbound, self._stream_head, self._stream_ends, ping, self._plane.loop)
        self._plane.sweeper.register(relay)
        return relay

    async def _relay_stream(self, response: Response, tap: StreamTap | OpaqueTap) -> None:
        if self._relay is None:  # bytes that were not asked for as a stream: no comments in them
            self._relay = Relay(self._inbound, self._stream_head, self._stream_ends, 0.0, self._plane.loop)
        await self._relay.run(response, tap)

    def _stream_head(self) -> tuple[int, bytes]:
        kind = next((v for n, v in self._provider_headers if n == b"content-type"), b"text/event-stream")
        self._record.first_byte = int(self._plane.clock.now() * 1000)
        return 200, self._head(media_type(kind), cost=None) + b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"

    def _stream_ends(self) -> None:
        self._settle(Outcome.COMPLETED, self._streamed_usage(), 200)

    def _streamed_usage(self) -> Usage | None:
        tap = self._relay.tap if self._relay is not None else None
        if isinstance(tap, StreamTap):
            return tap.usage
        return self._asked if self._asked != NOTHING or self._route.endpoint.meter is Meter.REQUESTS else None

    # --- the end ---------------------------------------------------------------------------------------------------

    def _settle(self, outcome: Outcome, usage: Usage | None, status: int, fault: str = "") -> None:
        """Return what was borrowed. Called before the last byte goes out; a missing measure costs the estimate."""
        measured = usage is not None
        if usage is None:
            usage = self._estimated_usage()
        price = self._target.price
        cost = price.cost(usage) if price is not None else 0
        if not cost and usage != NOTHING and self._record.price is not PriceState.FREE:
            self._record.price = PriceState.UNKNOWN  # the price names no rate for what was measured
        self._entry.settle(usage, measured=measured, outcome=outcome, status=status, cost=cost, fault=fault)

    def _estimated_usage(self) -> Usage:
        """What to charge when the provider said nothing: the input, and about a token per event that was seen."""
        tap = self._relay.tap if self._relay is not None else None
        if isinstance(tap, StreamTap) and self._relay is not None and tap.chunks:
            return msgspec.structs.replace(self._expected, output=tap.chunks)
        return self._expected

    @property
    def _settled(self) -> bool:
        return self._record.outcome is not Outcome.OPEN

    def _fail(self, fault: Fault) -> None:
        """The answer is an error: settle, then tell the client in his dialect, or end a begun stream with the error."""
        if not self._inbound.started:
            if not self._settled:
                self._settle_fault(fault)
            self._refuse(fault)
            return
        if not self._settled:
            outcome = Outcome.TRUNCATED if fault.origin is Origin.UPSTREAM else Outcome.FAILED
            self._settle(outcome, self._streamed_usage(), 200, fault.kind.value)
        self._break_off(fault)

    def _settle_fault(self, fault: Fault) -> None:
        """A refusal costs nothing; an attempt that may have been billed costs what is known of it."""
        outcome = Outcome.BLOCKED if fault.origin is Origin.POLICY else Outcome.FAILED
        billed = self._entry.sent and fault.kind in (Kind.TRUNCATED, Kind.TIMEOUT)
        if billed:
            self._settle(outcome, self._streamed_usage(), fault.status, fault.kind.value)
        else:
            self._entry.settle(
                NOTHING, measured=True, outcome=outcome, status=fault.status, cost=0, fault=fault.kind.value
            )

    def _break_off(self, fault: Fault) -> None:
        """A stream that has begun ends with the error and without `[DONE]`; anything else is cut."""
        if self._inbound.gone:
            return
        if self._relay is not None and (self._ask.stream or not isinstance(self._relay.tap, OpaqueTap)):
            self._inbound.write(encode_fault_event(_without_answer(fault)))
            self._inbound.end()
        else:
            self._inbound.abort()

    def _interrupted(self) -> None:
        """The client went away, the key was blocked, or the gateway is stopping."""
        if self._settled:
            return
        if self._cancelled:
            fault = Fault(Kind.BLOCKED_KEY, self._cancelled, origin=Origin.POLICY)
            outcome, status = Outcome.BLOCKED, fault.status
        else:
            fault = Fault(Kind.UNAVAILABLE, "the gateway is stopping", origin=Origin.GATEWAY)
            outcome = Outcome.CLIENT_GONE if self._inbound.gone else Outcome.TRUNCATED
            status = 499 if self._inbound.gone else fault.status
        if self._entry.sent:
            self._settle(outcome, self._streamed_usage(), status, "" if self._inbound.gone else fault.kind.value)
        else:
            self._entry.settle(NOTHING, measured=True, outcome=outcome, status=status, cost=0)
        if self._inbound.gone:
            return
        if self._inbound.started:
            self._break_off(fault)
        else:
            self._refuse(fault)

    def cancel(self, reason: str) -> None:
        """End this exchange because of its key; `reason` is one sentence for the caller."""
        self._cancelled = reason
        if self._task is not None:
            self._task.cancel()

    def _refuse(self, fault: Fault) -> None:
        if not self._inbound.gone and not self._inbound.started:
            head = fault_head(fault, self._record.id)
            if self._record.key_id:
                now = self._plane.clock.monotonic()
                head += rate_headers(self._account, self._record.model, now)
            self._inbound.answer(fault.status, head, encode_fault(fault))

    # --- headers ---------------------------------------------------------------------------------------------------

    def _header(self, wanted: bytes) -> bytes:
        for name, value in self._inbound.headers:
            if name == wanted:
                return value
        return b""

    def _head(self, kind: bytes, *, cost: int | None) -> bytes:
        now = self._plane.clock.monotonic()
        return answer_head(
            self._record,
            kind,
            cost=cost,
            key_spend=self._account.spend,
            total_ms=int((now - self._began) * 1000),
            rate_lines=rate_headers(self._account, self._record.model, now),
            provider_headers=self._provider_headers,
        )


def _without_answer(fault: Fault) -> Fault:
    """Inside a stream only our own envelope is an event; a provider's body may span lines."""
    if fault.answer is None:
        return fault
    return Fault(fault.kind, fault.public, origin=fault.origin, status=fault.status)
