"""CPU per request of the ledger, and per sealed entry of its journal. It prints JSON and saves nothing.

The first covers limits, budget, two journal entries and the backlog.

python bench/ledger.py [requests]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from ostiary.core.key import VirtualKey
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.gateway.ledger.account import Estimate
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger
from ostiary.vault.spool import Spool

SEAL = Spool(lambda: [(b"journal1", os.urandom(32))], "bench", "eu")
ROUND = 1_000  # requests per measurement; records are taken off the backlog between measurements


class SystemClock:
    """The two clocks of the system."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def measure(directory: Path, requests: int) -> list[float]:
    """Microseconds of CPU per request, of each round in rising order. The key has every limit there is."""
    journal = Journal(directory, 0, SEAL)
    ledger = Ledger(journal, SystemClock(), lambda _: None)
    key = VirtualKey(
        id="bench", digest=b"", max_budget=10**17, rpm_limit=10**9, tpm_limit=10**12, max_parallel=100,
        model_rpm=(("gpt-4o", 10**9),), spend_from=1.0,
    )  # fmt: skip
    account = ledger.account(key)
    estimate, usage = Estimate(200, 1200, 10, 100), Usage(input=200, output=300, cache_read=10)
    figures = []
    for first in range(0, requests, ROUND):
        start = time.process_time()
        for number in range(first, first + ROUND):
            record = _record(number)
            with ledger.open(record, account) as entry:
                entry.reserve(estimate, PriceState.LISTED)
                entry.sent = True
                entry.settle(usage, measured=True, outcome=Outcome.COMPLETED, status=200, cost=1234)
        figures.append((time.process_time() - start) / ROUND * 1e6)
        while batch := ledger.backlog.batch():
            ledger.backlog.saved(batch)
    journal.close()
    return sorted(figures)


def measure_appends(directory: Path, requests: int) -> list[float]:
    """Microseconds of CPU per entry appended to the journal, of each round in rising order; half are openings."""
    journal = Journal(directory, 0, SEAL)
    figures = []
    for first in range(0, requests, ROUND):
        pairs = [_opened_and_settled(number) for number in range(first, first + ROUND)]
        start = time.process_time()
        for opened, settled in pairs:
            journal.append(opened)
            journal.append(settled)
        figures.append((time.process_time() - start) / ROUND / 2 * 1e6)
        journal.commit(journal.position)
    journal.close()
    return sorted(figures)


def _opened_and_settled(number: int) -> tuple[Record, Record]:
    opened = _record(number)
    usage = Usage(input=200, output=300, cache_read=10)
    settled = msgspec.structs.replace(
        opened, outcome=Outcome.COMPLETED, status=200, usage=usage, measured=True, cost=1234, ended=1_790_000_001_000
    )
    return opened, settled


def _record(number: int) -> Record:
    return Record(
        id=f"0190a1b2-c3d4-7e5f-8a9b-{number:012d}", started=1_790_000_000_000, endpoint="chat.completions",
        key_id="bench", model="gpt-4o", deployment="d" * 20, provider="openai", upstream_model="gpt-4o",
    )  # fmt: skip


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(Path(directory) / "ledger", requests)
        appends = measure_appends(Path(directory) / "journal", requests)
    count = len(figures)
    print(
        json.dumps(
            {
                "requests": requests,
                "cpu_us_median": round(figures[count // 2], 2),
                "cpu_us_p90": round(figures[count * 9 // 10], 2),
                "cpu_us_least": round(figures[0], 2),
                "append_us_median": round(appends[count // 2], 2),
                "append_us_least": round(appends[0], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
