"""The responses of one realtime session: each is reserved, measured and recorded like a request. It must not send.

Why one record per response, and not one per session that grows: a record is settled once, and only what is settled
counts against budgets, windows and reports. A session of an hour would spend nothing until it ended, and would count
as one request. So the session has a record of its own, of no cost, and each response one of its own, in the journal
before the client sees its end: a killed process loses nothing that was measured.

A client asks for a response (`ask`), or the provider makes one by itself when somebody stops speaking (`created` finds
nobody who asked). Either way it is reserved for, with an estimate: what the last response of the session read and
wrote, and what has come since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.operation import Meter
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.snapshot import Deployment
from ostiary.core.usage import NOTHING, Usage
from ostiary.gateway.estimate import estimate_of, state_of
from ostiary.gateway.ledger.account import Account
from ostiary.gateway.ledger.ledger import Entry
from ostiary.gateway.plane import Plane
from ostiary.wire.realtime.events import RESPONSE, TRANSCRIPTION

BYTES_PER_AUDIO_TOKEN = 1000  # of base64: a token is 100 ms, and the leanest format has 8 kB a second
BYTES_PER_TOKEN = 3
MOST_RUNNING = 64


class Turn:
    """One response, from its reservation to its settlement."""

    __slots__ = ("entry", "event_id", "expected")

    def __init__(self, entry: Entry, event_id: str, expected: Usage) -> None:
        self.entry = entry
        self.event_id = event_id
        self.expected = expected


class Turns:
    """The responses of one session with one deployment.

    Args:
        session: the session's record; what it says of who asks and whom is true of each response.
        most_output: output tokens assumed where nobody names a cap.
    """

    def __init__(self, plane: Plane, account: Account, target: Deployment, session: Record, most_output: int) -> None:
        self.most_output = most_output
        self._plane = plane
        self._account = account
        self._target = target
        self._session = session
        self._asked: deque[Turn] = deque()  # not begun by the provider yet
        self._running: dict[str, Turn] = {}  # by the provider's id
        self._over: deque[str] = deque(maxlen=MOST_RUNNING)  # the last that were done
        self._context = 0  # tokens of the conversation so far
        self._bytes = 0  # of what the client has sent since; and of that
        self._audio_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether a response is asked for or under way."""
        return bool(self._asked or self._running)

    @property
    def spent(self) -> bool:
        """Whether the key has no budget left."""
        account = self._account
        account.roll(self._plane.clock.now())
        return account.key.max_budget is not None and account.spend >= account.key.max_budget

    def add(self, size: int, *, audio: bool) -> None:
        """The client has sent so many bytes that the next response will read."""
        if audio:
            self._audio_bytes += size
        else:
            self._bytes += size

    def check(self) -> None:
        """Whether a response could be paid for now; counts nothing.

        Raises:
            Fault: BUDGET_EXCEEDED, UNKNOWN_PRICE, RATE_LIMITED.
        """
        clock = self._plane.clock
        self._account.admit(clock.monotonic(), self._session.model, 0)
        price = state_of(self._target, Meter.TOKENS)
        self._account.afford(clock.now(), estimate_of(Usage(), self._target), price)

    def ask(self, event_id: str, most_output: int | None) -> None:
        """Reserve for a response that the client asks for.

        Raises:
            Fault: BUDGET_EXCEEDED, UNKNOWN_PRICE, RATE_LIMITED, UNAVAILABLE. The refusal is recorded.
        """
        if len(self._asked) + len(self._running) >= MOST_RUNNING:
            raise _too_many()
        turn, fault = self._open(event_id, most_output)
        if fault is not None:
            self._settle(turn, NOTHING, Outcome.BLOCKED, fault.status, str(fault.kind))
            raise fault
        self._asked.append(turn)

    def created(self, response: str) -> Fault | None:
        """The provider has begun a response. One that nobody asked for is reserved for now; the refusal, if there is.

        A refused one is under way all the same, and costs: the caller cancels it, and it is settled when it is done.
        """
        if response in self._running or response in self._over:
            return None
        if not self._asked and len(self._running) >= MOST_RUNNING:
            return _too_many()
        if self._asked:
            turn, fault = self._asked.popleft(), None
        else:
            turn, fault = self._open("", None)
        turn.entry.sent = True
        turn.entry.record.first_byte = self._now_ms()
        self._running[response] = turn
        return fault

    def done(self, response: str, usage: Usage | None, status: str) -> None:
        """A response is over. What the provider did not measure costs the estimate, unless it failed."""
        turn = self._running.pop(response, None)
        if turn is None:
            if response in self._over or (usage is None and not self._asked):
                return
            turn = self._asked.popleft() if self._asked else self._open("", None)[0]
        self._over.append(response)
        turn.entry.sent = True
        failed = status == "failed"
        if usage is None and failed:
            usage = NOTHING
        if usage is not None and usage.total:
            self._context = usage.total
            self._bytes = self._audio_bytes = 0
        outcome = Outcome.FAILED if failed else Outcome.COMPLETED
        self._settle(turn, usage, outcome, 200, str(Kind.UPSTREAM_ERROR) if failed else "")

    def rejected(self, event_id: str) -> None:
        """The provider has refused a client's event; if it asked for a response, there is none."""
        for turn in self._asked:
            if turn.event_id == event_id:
                self._asked.remove(turn)
                self._settle(turn, NOTHING, Outcome.FAILED, 400, str(Kind.UPSTREAM_REJECTED))
                return

    def transcribed(self, usage: Usage | None, model: str, by: Deployment | None) -> None:
        """What was said has been transcribed by a model of its own, which costs by itself."""
        record = self._record(TRANSCRIPTION, by or self._target)
        if by is not None:
            record.model = model
        if by is None:
            record.price = PriceState.UNKNOWN
        entry = self._plane.ledger.open(record, self._account)
        with entry:
            entry.sent = True
            _settle_entry(entry, usage or NOTHING, by, usage is not None, Outcome.COMPLETED, 200, "")

    def end(self, outcome: Outcome, status: int, fault: str) -> None:
        """The session is over: what is under way is settled at its estimate, as is what the provider may have read."""
        turns: Iterable[Turn] = (*self._asked, *self._running.values())
        self._asked, self._running = deque(), {}
        for turn in turns:
            turn.entry.sent = True
            self._settle(turn, None, outcome, status, fault)

    def _open(self, event_id: str, most_output: int | None) -> tuple[Turn, Fault | None]:
        record = self._record(RESPONSE, self._target)
        entry = self._plane.ledger.open(record, self._account)
        entry.__enter__()
        expected = self._expected(most_output)
        fault = None
        try:
            entry.reserve(estimate_of(expected, self._target), state_of(self._target, Meter.TOKENS))
        except Fault as refusal:
            fault = refusal
        return Turn(entry, event_id, expected), fault

    def _expected(self, most_output: int | None) -> Usage:
        target = self._target
        into = self._context + self._bytes // BYTES_PER_TOKEN + self._audio_bytes // BYTES_PER_AUDIO_TOKEN + 1
        if target.max_input_tokens is not None:
            into = min(into, target.max_input_tokens)
        out = most_output or self.most_output
        if target.max_output_tokens is not None:
            out = min(out, target.max_output_tokens)
        heard = min(self._audio_bytes // BYTES_PER_AUDIO_TOKEN, into)
        return Usage(into, out, audio_input=heard, audio_output=out if heard else 0)

    def _record(self, endpoint: str, target: Deployment) -> Record:
        now, session = self._plane.clock.now(), self._session
        return msgspec.structs.replace(
            session,
            id=self._plane.new_id(now),
            started=int(now * 1000),
            endpoint=endpoint,
            deployment=target.id,
            provider=target.provider,
            upstream_model=target.upstream_model,
            price=target.price_state,
            stream=True,
            outcome=Outcome.OPEN,
            status=0,
            first_byte=0,
            attempts=1,
            fallbacks=0,
            usage=NOTHING,
            cost=0,
        )

    def _settle(self, turn: Turn, usage: Usage | None, outcome: Outcome, status: int, fault: str) -> None:
        measured = usage is not None
        used = usage if usage is not None else turn.expected
        _settle_entry(turn.entry, used, self._target, measured, outcome, status, fault)
        turn.entry.__exit__(None, None, None)

    def _now_ms(self) -> int:
        return int(self._plane.clock.now() * 1000)


def _too_many() -> Fault:
    public = f"{MOST_RUNNING} responses of this session are under way"
    return Fault(Kind.RATE_LIMITED, public, origin=Origin.POLICY, retry_after=1.0)


def _settle_entry(
    entry: Entry, usage: Usage, target: Deployment | None, measured: bool, outcome: Outcome, status: int, fault: str
) -> None:  # fmt: skip
    price = target.price if target is not None else None
    cost = price.cost(usage) if price is not None and usage != NOTHING else 0
    if not cost and usage != NOTHING and entry.record.price is not PriceState.FREE:
        entry.record.price = PriceState.UNKNOWN
    entry.settle(usage, measured=measured, outcome=outcome, status=status, cost=cost, fault=fault)
