"""How an exchange ends: settled once, then the last bytes go out. It must not send a last byte before it has settled.

Whatever happens, what was borrowed goes back with a measure, or with a stated estimate: the input, and about a token
for each event the client's stream has had.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.money import Nano
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.core.usage import NOTHING, Usage
from ostiary.gateway.answer import answer_head, fault_head, media_type
from ostiary.gateway.ledger.account import Account, rate_headers
from ostiary.gateway.ledger.ledger import CLIENT_CLOSED_REQUEST, Entry
from ostiary.gateway.objects import PlainAsk
from ostiary.gateway.plane import Plane
from ostiary.gateway.ports import Inbound
from ostiary.gateway.relay import Relay
from ostiary.gateway.translation import TranslatingTap, lost
from ostiary.wire.conversation.unknown import Loss
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.openai_chat.raw import FormAsk
from ostiary.wire.governed import Ask

# Failures of an attempt that a provider may have worked on, and will have billed, though nothing usable came of it.
_MAYBE_BILLED = (Kind.TRUNCATED, Kind.TIMEOUT, Kind.BAD_ANSWER)
_STREAM_LINES = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"


class Ending(ABC):
    """The state of an exchange that its end depends on, and the ways to end."""

    __slots__ = (
        "account",
        "ask",
        "asked",
        "began",
        "dialect",
        "entry",
        "expected",
        "inbound",
        "losses",
        "plane",
        "provider_headers",
        "record",
        "relay",
        "snapshot",
        "target",
    )

    account: Account
    ask: Ask | FormAsk | PlainAsk
    entry: Entry
    target: Deployment

    def __init__(self, plane: Plane, inbound: Inbound, record: Record, dialect: Dialect) -> None:
        self.dialect = dialect  # the client's
        self.losses: list[Loss] = []  # what the last attempt could not say in the provider's
        self.plane = plane
        self.inbound = inbound
        self.record = record
        self.snapshot: PolicySnapshot = plane.snapshot
        self.began = plane.clock.monotonic()
        self.asked: Usage = NOTHING  # what the request alone says of its use
        self.expected: Usage = NOTHING  # the estimate
        self.relay: Relay | None = None
        self.provider_headers: list[tuple[bytes, bytes]] = []

    @abstractmethod
    def streamed_usage(self) -> Usage | None:
        """What a stream has stated of its use so far."""

    @property
    def own(self) -> dict[str, msgspec.Raw]:
        """The members of the request that were instructions to the gateway."""
        return self.ask.own

    def time_left(self) -> float:
        """Seconds until the deadline of the whole exchange."""
        return self.snapshot.routing.exchange_seconds - (self.plane.clock.monotonic() - self.began)

    # --- settling ---

    def settle(self, outcome: Outcome, usage: Usage | None, status: int, fault: str = "") -> None:
        """Return what was borrowed. Called before the last byte goes out; a missing measure costs the estimate."""
        measured = usage is not None
        if usage is None:
            usage = self._estimated()
        if self.losses:
            self.record.losses = lost(self.losses)
        price = self.target.price
        cost = price.cost(usage) if price is not None else 0
        if not cost and usage != NOTHING and self.record.price is not PriceState.FREE:
            self.record.price = PriceState.UNKNOWN  # the price names no rate for what was measured
        self.entry.settle(usage, measured=measured, outcome=outcome, status=status, cost=cost, fault=fault)

    def _estimated(self) -> Usage:
        relay = self.relay
        if relay is not None and relay.tap.chunks:
            return msgspec.structs.replace(self.expected, output=relay.tap.chunks)
        return self.expected

    @property
    def _settled(self) -> bool:
        return self.record.outcome is not Outcome.OPEN

    # --- ways to end ---

    def fail(self, fault: Fault) -> None:
        """The answer is an error: settle, then tell the client in his dialect, or end a begun stream with the error."""
        if not self.inbound.started:
            if not self._settled:
                self._settle_refusal(fault)
            self.refuse(fault)
            return
        if not self._settled:
            outcome = Outcome.TRUNCATED if fault.origin is Origin.UPSTREAM else Outcome.FAILED
            self.settle(outcome, self.streamed_usage(), 200, fault.kind.value)
        self._break_off(fault)

    def _settle_refusal(self, fault: Fault) -> None:
        """A refusal costs nothing; an attempt that may have been billed costs what is known of it."""
        outcome = Outcome.BLOCKED if fault.origin is Origin.POLICY else Outcome.FAILED
        if self.entry.sent and fault.kind in _MAYBE_BILLED:
            self.settle(outcome, self.streamed_usage(), fault.status, fault.kind.value)
        else:
            self.settle_nothing(outcome, fault.status, fault.kind.value)

    def settle_nothing(self, outcome: Outcome, status: int, fault: str = "") -> None:
        """Return all of what was borrowed."""
        self.entry.settle(NOTHING, measured=True, outcome=outcome, status=status, cost=0, fault=fault)

    def interrupted(self, reason: str) -> None:
        """The client went away, the key was blocked (`reason` says so), or the gateway is stopping."""
        if self._settled:
            return
        gone = self.inbound.gone and not reason
        if reason:
            fault = Fault(Kind.BLOCKED_KEY, reason, origin=Origin.POLICY)
            outcome = Outcome.BLOCKED
        else:
            fault = Fault(Kind.STOPPING, "the gateway is stopping", origin=Origin.GATEWAY)
            outcome = Outcome.CLIENT_GONE if gone else Outcome.TRUNCATED
        status = CLIENT_CLOSED_REQUEST if gone else fault.status
        told = "" if gone else fault.kind.value
        if self.entry.sent:
            self.settle(outcome, self.streamed_usage(), status, told)
        else:
            self.settle_nothing(outcome, status, told)
        if self.inbound.started:
            self._break_off(fault)
        else:
            self.refuse(fault)

    def _break_off(self, fault: Fault) -> None:
        """A stream of events that has begun ends with the error and without `[DONE]`; anything else is cut."""
        if self.inbound.gone:
            return
        if self.relay is not None and self.relay.events:
            fault, tap = _without_answer(fault), self.relay.tap
            broken = tap.broken(fault) if isinstance(tap, TranslatingTap) else self.dialect.encode_fault_event(fault)
            if broken:
                self.inbound.write(broken)
                self.inbound.end()
                return
        self.inbound.abort()

    def refuse(self, fault: Fault) -> None:
        """The whole answer is an error."""
        if self.inbound.gone or self.inbound.started:
            return
        head = fault_head(fault, self.record.id)
        if self.record.key_id:
            head += rate_headers(self.account, self.record.model, self.plane.clock.monotonic())
        self.inbound.answer(fault.status, head, self.dialect.encode_fault(fault))

    # --- header lines ---

    def head(self, kind: bytes, *, cost: Nano | None) -> bytes:
        """The header lines of an answer from the target."""
        now = self.plane.clock.monotonic()
        return answer_head(
            self.record,
            kind,
            cost=cost,
            key_spend=self.account.spend,
            total_ms=int((now - self.began) * 1000),
            rate_lines=rate_headers(self.account, self.record.model, now),
            provider_headers=self.provider_headers,
            losses=self.losses,
        )

    def stream_head(self) -> tuple[int, bytes]:
        """Status and header lines of a stream, at its first byte. Its cost is not known yet."""
        if self.relay is not None and isinstance(self.relay.tap, TranslatingTap):
            kind = self.dialect.stream_type
        else:
            named = (value for name, value in self.provider_headers if name == b"content-type")
            kind = next(named, self.dialect.stream_type)
        self.record.first_byte = int(self.plane.clock.now() * 1000)
        return 200, self.head(media_type(kind), cost=None) + _STREAM_LINES


def _without_answer(fault: Fault) -> Fault:
    """Inside a stream only our own envelope is an event; a provider's body may span lines."""
    if fault.answer is None:
        return fault
    return Fault(fault.kind, fault.public, origin=fault.origin, status=fault.status)
