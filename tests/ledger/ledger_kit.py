"""What the tests of the ledger share: a clock that stands still, records, and a store that can be told to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ostiary.core.key import VirtualKey
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.gateway.ledger.account import Account, Estimate
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Entry, Ledger
from ostiary.vault.spool import Spool

START = 1_700_000_000.0
# The same in every process of a test: what one wrote, another opens.
KEY = (b"journal1", bytes(range(32)))
SEAL = Spool(lambda: [KEY], "instance", "eu")


class StillClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return START + self.seconds

    def monotonic(self) -> float:
        return 1000.0 + self.seconds


class Store:
    """A sink that keeps records by id. `failures` are raised first, one per call."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.rows: dict[str, Record] = {}
        self.order: list[str] = []
        self.calls = 0
        self.saved = asyncio.Event()

    async def save(self, records: Sequence[Record]) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        for record in records:
            if record.id not in self.rows:
                self.rows[record.id] = record
                self.order.append(record.id)
        self.saved.set()


def key(id_: str = "k1", **fields: object) -> VirtualKey:
    return VirtualKey(id=id_, digest=b"", **fields)  # type: ignore[arg-type]


def record(id_: str, **fields: object) -> Record:
    defaults: dict[str, object] = {"started": int(START * 1000), "endpoint": "chat.completions", "key_id": "k1"}
    return Record(id=id_, **{**defaults, **fields})  # type: ignore[arg-type]


@contextmanager
def running_ledger(directory: Path, clock: StillClock | None = None, **options: object) -> Iterator[Ledger]:
    """A ledger on a journal of its own; `kept` of it collects the settled records."""
    clock = clock or StillClock()
    journal = Journal(directory, int(clock.now() * 1000), SEAL, **options)  # type: ignore[arg-type]
    try:
        yield Ledger(journal, clock, lambda _: None)
    finally:
        journal.close()


def spend(ledger: Ledger, account: Account, id_: str, cost: int = 100, tokens: int = 10) -> None:
    """One request from beginning to end."""
    with ledger.open(record(id_), account) as entry:
        entry.reserve(Estimate(0, tokens, 0, cost), PriceState.LISTED)
        complete(entry, cost, tokens)


def complete(entry: Entry, cost: int = 100, tokens: int = 10) -> None:
    entry.sent = True
    entry.settle(Usage(input=tokens), measured=True, outcome=Outcome.COMPLETED, status=200, cost=cost)


def settled_in(ledger: Ledger) -> list[Record]:
    """Everything settled that waits for the store."""
    return ledger.backlog.batch(10**9)
