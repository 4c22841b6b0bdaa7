"""One scope per request: opened at admission, settled once, whatever happens. It must not decide what a request does.

    with ledger.open(record) as entry:          # from here on the record exists
        entry.bind(account, exchange)           # who pays, once that is known
        entry.reserve(estimate, price_state)    # budgets and limits hold, the journal knows
        entry.sent = True                       # from here on money may be owed
        entry.settle(usage, ...)                # before the last byte goes to the client

Leaving the scope settles what was not settled, by the exception that leaves it. Where something was sent upstream and
nobody knows what it used, the estimate is charged: never zero. Where nothing was sent, nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import NOTHING, Usage
from ostiary.gateway.ledger.account import Account, Cancellable, Estimate
from ostiary.gateway.ledger.flush import Backlog
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.limits import Limits

CLIENT_CLOSED_REQUEST = 499  # the status that access logs use for a client that hung up; it is never sent


class Entry:
    """The scope of one request.

    `sent` is set by the exchange when it hands the request to an upstream. `record` is filled by the exchange; its
    `usage`, `cost`, `measured`, `price`, `outcome`, `status`, `fault` and `ended` belong to the ledger.
    """

    __slots__ = (
        "_admitted",
        "_cost",
        "_exchange",
        "_ledger",
        "_narrow",
        "_narrow_tokens",
        "_settled",
        "_tokens",
        "account",
        "record",
        "sent",
    )

    def __init__(self, ledger: Ledger, record: Record) -> None:
        self._ledger = ledger
        self.record = record
        self.account: Account | None = None
        self.sent = False
        self._exchange: Cancellable | None = None
        self._settled = False
        self._admitted = False
        self._cost: Nano = 0  # reserved of the budget
        self._tokens = 0  # reserved of the key's window
        self._narrow: Limits | None = None  # of the key's model
        self._narrow_tokens = 0  # reserved of its window

    def bind(self, account: Account, exchange: Cancellable | None = None) -> None:
        """Say whose request this is. The account can cancel `exchange` until the scope ends."""
        self.account = account
        if exchange is not None:
            self._exchange = exchange
            account.running.add(exchange)
        self._ledger.live[account.key.id] = account

    def reserve(self, estimate: Estimate, price: PriceState) -> None:
        """Check the account's limits and budget, reserve the estimate, and journal the opening.

        May be called again, for a target of another price: it returns what was reserved and does not count a second
        request. A refusal then leaves nothing reserved; the request goes on to be settled as one admitted.

        Raises:
            Fault: BUDGET_EXCEEDED, UNKNOWN_PRICE, RATE_LIMITED; UNAVAILABLE when the journal cannot be written.
        """
        assert not self._settled, "what is settled reserves nothing more"
        account, ledger, record = self.account, self._ledger, self.record
        if account is not None:
            now, tick = ledger.clock.now(), ledger.clock.monotonic()
            account.last_used = now
            if self._admitted:
                self._return_reserved(account)
            else:
                self._narrow = account.admit(tick, record.model, estimate.tokens_floor)
            account.afford(now, estimate, price)
        record.usage = Usage(input=estimate.tokens_floor, output=max(0, estimate.tokens - estimate.tokens_floor))
        record.cost = estimate.cost
        record.price = price
        ledger.backlog.journal.append(record)
        if account is not None:
            if not self._admitted:
                self._admitted = True
                account.limits.enter()
                if self._narrow is not None:
                    self._narrow.enter()
            self._cost = account.hold(estimate.cost, price)
            self._tokens = account.limits.hold(estimate.tokens)
            self._narrow_tokens = self._narrow.hold(estimate.tokens) if self._narrow is not None else 0

    def settle(
        self, usage: Usage | None, *, measured: bool, outcome: Outcome, status: int, cost: Nano, fault: str = ""
    ) -> None:
        """Settle, once; to be called before the last byte of the answer goes out. A second call does nothing.

        Args:
            usage: what was used; None where nobody knows: then usage and cost are those of the estimate if anything
                was sent, else nothing, and `cost` is ignored.
            measured: `usage` is the provider's own.
            status: the HTTP status of the answer.
            cost: nanodollars.
            fault: `Fault.kind` of the failure, if there is one.
        """
        ledger, record, account = self._ledger, self.record, self.account
        if self._settled:
            ledger.settled_twice += 1
            return
        self._settled = True
        if usage is not None:
            record.usage = usage
            record.cost = cost
        elif not self.sent:
            record.usage = NOTHING
            record.cost = 0
        record.measured = measured and usage is not None
        record.outcome = outcome
        record.status = status
        record.fault = fault
        now = ledger.clock.now()
        record.ended = int(now * 1000)
        if account is not None:
            if self._admitted:
                tick, used = ledger.clock.monotonic(), record.usage.total
                account.limits.leave(tick, self._tokens, used)
                if self._narrow is not None:
                    self._narrow.leave(tick, self._narrow_tokens, used)
            if record.cost or self._cost:
                account.pay(now, self._cost, record.cost)
                ledger.live[account.key.id] = account
            self._cost = self._tokens = self._narrow_tokens = 0
        ledger.backlog.put(record)
        ledger.settled(record)

    def _return_reserved(self, account: Account) -> None:
        account.reserved -= self._cost
        account.limits.reserved -= self._tokens
        if self._narrow is not None:
            self._narrow.reserved -= self._narrow_tokens
        self._cost = self._tokens = self._narrow_tokens = 0

    @property
    def held(self) -> tuple[Nano, int, int]:
        """Nanodollars and tokens reserved, and calls counted, for this request now."""
        return self._cost, self._tokens, int(self._admitted and not self._settled)

    def __enter__(self) -> Entry:
        self._ledger.entries.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._settled:
            outcome, status, fault = _end_of(error, begun=bool(self.record.first_byte))
            self.settle(None, measured=False, outcome=outcome, status=status, cost=0, fault=fault)
        self._ledger.entries.discard(self)
        if self._exchange is not None and self.account is not None:
            self.account.running.discard(self._exchange)


def _end_of(error: BaseException | None, *, begun: bool) -> tuple[Outcome, int, str]:
    """Outcome, status and fault of a scope left by `error` unsettled. Left without any, it is a fault of ours."""
    if isinstance(error, Fault):
        if error.origin is Origin.POLICY:
            return Outcome.BLOCKED, error.status, error.kind.value
        truncated = begun and error.origin is Origin.UPSTREAM
        return Outcome.TRUNCATED if truncated else Outcome.FAILED, error.status, error.kind.value
    if isinstance(error, asyncio.CancelledError):
        return Outcome.CLIENT_GONE, CLIENT_CLOSED_REQUEST, ""
    return Outcome.FAILED, 500, Kind.INTERNAL.value


class Ledger:
    """All requests of this process.

    Args:
        journal: where records are safe from the end of the process.
        clock: both readings are used.
        settled: told each settled record, after it is in the journal.
        most: settled records kept at hand for the store; see `flush`.

    `live` holds, by key id, the accounts that have requests under way or spend that may not be saved yet.
    """

    __slots__ = ("backlog", "clock", "entries", "live", "settled", "settled_twice")

    def __init__(
        self, journal: Journal, clock: Clock, settled: Callable[[Record], None], *, most: int = 10_000
    ) -> None:
        self.clock = clock
        self.settled = settled
        self.backlog = Backlog(journal, most)
        self.entries: set[Entry] = set()
        self.live: dict[str, Account] = {}
        self.settled_twice = 0  # a bug of the exchange, if ever it is not 0

    def open(self, record: Record, account: Account | None = None, exchange: Cancellable | None = None) -> Entry:
        """The scope of a request, for `with`. The account may follow by `Entry.bind`."""
        entry = Entry(self, record)
        if account is not None:
            entry.bind(account, exchange)
        return entry

    def account(self, key: VirtualKey) -> Account:
        """The account of a key just read from the store: the live one, brought to this revision, or a new one."""
        account = self.live.get(key.id)
        if account is None:
            return Account(key, self.clock.now())
        if key.revision > account.key.revision:
            account.replace(key)
        return account

    def rest(self) -> None:
        """Everything settled is saved: let go of the accounts that have nothing under way."""
        idle = [id_ for id_, account in self.live.items() if not account.limits.calls and not account.running]
        for id_ in idle:
            del self.live[id_]

    @property
    def in_flight(self) -> int:
        """Requests whose scope is open."""
        return len(self.entries)

    def open_records(self) -> list[Record]:
        """The records of the requests under way."""
        return [entry.record for entry in self.entries if entry.record.outcome is Outcome.OPEN]

    def spend_of(self, key_id: str) -> Nano | None:
        """Nanodollars spent in the running budget window of a key, unsaved records included; None: ask the store."""
        account = self.live.get(key_id)
        if account is None:
            return None
        account.roll(self.clock.now())
        return account.spend

    def leaks(self) -> list[str]:
        """Ids of keys whose reservations are not those of their open requests: empty, or there is a bug."""
        held: dict[int, tuple[Nano, int, int]] = {}
        for entry in self.entries:
            cost, tokens, calls = held.get(id(entry.account), (0, 0, 0))
            held[id(entry.account)] = cost + entry.held[0], tokens + entry.held[1], calls + entry.held[2]
        return [
            key_id
            for key_id, account in self.live.items()
            if (account.reserved, account.limits.reserved, account.limits.calls) != held.get(id(account), (0, 0, 0))
        ]
