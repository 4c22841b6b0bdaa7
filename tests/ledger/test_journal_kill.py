"""A process killed at full speed loses nothing that it had acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_kit import SEAL

from ostiary.core.record import Outcome
from ostiary.gateway.ledger.journal import recover

ROUNDS = 20

# Settles requests as fast as it can, some left open, and tells each settlement, as a client would see its last byte.
WRITER = """
import os, sys, pathlib
from ledger_kit import SEAL, StillClock, complete, key, record
from ostiary.core.price import PriceState
from ostiary.gateway.ledger.account import Estimate
from ostiary.gateway.ledger.journal import Journal
from ostiary.gateway.ledger.ledger import Ledger

directory, name = pathlib.Path(sys.argv[1]), sys.argv[2]
ledger = Ledger(Journal(directory, 5, SEAL, segment_bytes=1 << 16), StillClock(), lambda _: None)
account = ledger.account(key())
number = 0
while True:
    id_ = f"{name}-{number}"
    entry = ledger.open(record(id_), account).__enter__()
    entry.reserve(Estimate(0, 9, 0, 77), PriceState.LISTED)
    if number % 10:
        complete(entry, cost=number)
        entry.__exit__(None, None, None)
        os.write(1, f"{id_} {number}\\n".encode())
    else:
        os.write(1, f"{id_} open\\n".encode())
    number += 1
"""


@pytest.mark.attack("AVL-01")
def test_avl_01_a_process_killed_at_full_speed_loses_no_record_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(1)
    acknowledged: dict[str, str] = {}
    for round_ in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(round_)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(Path(__file__).parent)},
        ) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 2000)):
                id_, said = writer.stdout.readline().decode().split()
                acknowledged[id_] = said
            writer.kill()
            *whole, _ = writer.stdout.read().decode().split("\n")
            acknowledged.update(line.split() for line in whole)  # type: ignore[misc]
    rows = {row.id: row for row in recover(tmp_path, 9, SEAL)}
    for id_, said in acknowledged.items():
        if said == "open":
            assert (rows[id_].outcome, rows[id_].cost, rows[id_].fault) == (Outcome.FAILED, 77, "process_killed")
        else:
            assert (rows[id_].outcome, rows[id_].cost) == (Outcome.COMPLETED, int(said))
    assert len(rows) <= len(acknowledged) + ROUNDS  # one each may have been written and not told
    assert not list(tmp_path.glob("*.damaged"))
