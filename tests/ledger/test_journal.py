"""What was appended is found again: after a crash, on a damaged disk, on a full one, and under another's feet."""

from __future__ import annotations

import os
import random
import resource
import stat
import subprocess
import sys
from itertools import count
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import SEAL, StillClock, key, record, running_ledger, settled_in, spend

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.gateway.ledger.account import Estimate
from ostiary.gateway.ledger.journal import Journal, recover
from ostiary.gateway.ledger.ledger import Entry, Ledger
from ostiary.gateway.ledger.segment import HEADER, MAGIC, OVERHEAD, Segment, entries

SMALL = 8192


def opening(id_: str, cost: int = 50) -> Record:
    return record(id_, cost=cost, usage=Usage(input=5))


def settlement(id_: str, cost: int = 7) -> Record:
    return record(id_, cost=cost, outcome=Outcome.COMPLETED, measured=True)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.journal"))


def recovered(directory: Path, now_ms: int = 99) -> dict[str, Record]:
    rows = recover(directory, now_ms, SEAL)
    return {row.id: row for row in rows}


def test_settled_records_come_back_as_they_are_and_open_ones_at_their_estimate(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, SEAL)
    streaming = opening("c")
    streaming.first_byte = 5
    for row in (opening("a"), opening("b"), streaming, settlement("a"), settlement("never opened")):
        journal.append(row)
    journal.close()
    rows = recovered(tmp_path)
    assert rows["a"] == settlement("a")
    assert rows["never opened"] == settlement("never opened")
    gone = msgspec.structs.replace(opening("b"), outcome=Outcome.FAILED, fault="process_killed", ended=99)
    assert rows["b"] == gone
    assert rows["c"].outcome is Outcome.TRUNCATED
    assert len(rows) == 4
    assert recovered(tmp_path, 100) == rows  # recovery is itself safe to repeat


def test_what_the_store_has_is_not_recovered_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, SEAL)
    journal.append(settlement("a"))
    journal.commit(journal.position)
    journal.append(settlement("b"))
    journal.close()
    assert list(recovered(tmp_path)) == ["b"]


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "journal"
    before = os.umask(0)
    try:
        Journal(directory, 0, SEAL).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_two_processes_never_share_a_directory(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, SEAL)
    with pytest.raises(Fault) as caught:
        Journal(tmp_path, 0, SEAL)
    assert "in use by another process" in caught.value.public
    program = (
        "import sys,pathlib\nfrom ledger_kit import SEAL\n"
        "from ostiary.core.fault import Fault\nfrom ostiary.gateway.ledger.journal import Journal\n"
        "try:\n Journal(pathlib.Path(sys.argv[1]), 0, SEAL)\nexcept Fault as fault:\n print(fault.public)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "in use by another process" in said.stdout
    journal.close()
    (tmp_path / f"{9:016d}.fresh").write_bytes(b"made by a process that was killed in the midst of it")
    Journal(tmp_path, 0, SEAL).close()
    assert not list(tmp_path.glob("*.fresh"))


def test_a_segment_of_another_version_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    head = MAGIC + (1).to_bytes(4, "little")
    path = tmp_path / f"{7:016d}.journal"
    path.write_bytes(head + crc32(head).to_bytes(4, "little") + bytes(100))
    before = path.read_bytes()
    with pytest.raises(Fault, match="unavailable") as caught:
        Journal(tmp_path, 0, SEAL)
    assert "format version 1" in caught.value.public
    assert path.read_bytes() == before
    assert segments(tmp_path) == [path]


def test_segments_go_when_their_records_are_saved_and_what_is_open_moves_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, SEAL, segment_bytes=SMALL)
    journal.append(opening("long"))
    for number in range(2000):
        journal.append(opening(str(number)))
        journal.append(settlement(str(number)))
        journal.commit(journal.position)
        assert len(segments(tmp_path)) <= 3
    assert journal.size <= 3 * 2 * SMALL
    journal.append(settlement("other"))
    journal.close()
    rows = recovered(tmp_path)
    assert set(rows) == {"long", "other"}
    assert rows["long"].fault == "process_killed"


def test_nothing_unsaved_is_deleted(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, SEAL, segment_bytes=SMALL)
    for number in range(500):
        journal.append(settlement(str(number)))
    records, position = journal.read(journal.unsaved, 200)
    journal.commit(position)
    rest, _ = journal.read(position, 10_000)
    assert [row.id for row in (*records, *rest)] == [str(number) for number in range(500)]
    journal.close()
    assert list(recovered(tmp_path)) == [str(number) for number in range(200, 500)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["open", "settle", "commit", "reopen"])), max_size=120))
def test_the_last_entry_of_an_id_is_valid_across_segments_commits_and_restarts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal(directory, 0, SEAL, segment_bytes=1)  # one page
    still_open: set[str] = set()
    waiting: list[str] = []
    for number, (which, step) in enumerate(steps):
        if step == "open":
            id_ = f"{number}"
            journal.append(opening(id_))
            still_open.add(id_)
        elif step == "settle" and still_open:
            id_ = sorted(still_open)[which % len(still_open)]
            journal.append(settlement(id_))
            still_open.remove(id_)
            waiting.append(id_)
        elif step == "commit":
            rows, position = journal.read(journal.unsaved, 10_000)
            assert {row.id for row in rows} >= set(waiting)
            journal.commit(position)
            waiting.clear()
        elif step == "reopen":
            journal.close()
            journal = Journal(directory, 9, SEAL, segment_bytes=1)
            waiting += sorted(still_open)
            still_open.clear()
    journal.close()
    rows = recover(directory, 9, SEAL)
    assert sorted(row.id for row in rows) == sorted([*waiting, *still_open])


# -- damage ------------------------------------------------------------------------------------------------------------


def a_segment(directory: Path) -> tuple[bytes, list[tuple[int, Record]]]:
    """The bytes of a segment up to its last entry, and each record with the offset behind its entry."""
    journal = Journal(directory, 0, SEAL, segment_bytes=1)
    ends = []
    for row in (opening("a"), settlement("a"), opening("b"), opening("c"), settlement("b"), settlement("d")):
        journal.append(row)
        ends.append((journal.position[1], row))
    journal.close()
    return segments(directory)[0].read_bytes(), ends


def outcome_of(rows: list[Record]) -> dict[str, Outcome]:
    last: dict[str, Outcome] = {}
    for row in rows:
        last[row.id] = Outcome.FAILED if row.outcome is Outcome.OPEN else row.outcome
    return last


@pytest.mark.attack("AVL-01")
def test_avl_01_a_journal_cut_at_any_byte_gives_what_was_whole_before_the_cut(tmp_path: Path) -> None:
    whole, ends = a_segment(tmp_path / "whole")
    directory = tmp_path / "cut"
    for length in range(ends[-1][0] + 1):
        for zeros in (False, True):  # cut short, or never written behind the cut
            directory.mkdir()
            left = whole[:length] + bytes(len(whole) - length) * zeros
            (directory / f"{1:016d}.journal").write_bytes(left)
            rows = recovered(directory)
            assert {id_: row.outcome for id_, row in rows.items()} == outcome_of(
                [row for end, row in ends if left[:end] == whole[:end]]
            )
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()


@pytest.mark.attack("AVL-01")
def test_avl_01_flipped_bits_and_garbage_never_raise_nor_invent_a_record(tmp_path: Path) -> None:
    whole, ends = a_segment(tmp_path / "whole")
    chance = random.Random(7)
    written = {row.id: row for _, row in ends}
    for round_ in range(120):
        directory = tmp_path / str(round_)
        directory.mkdir()
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 20))):
            data[chance.randrange(ends[-1][0])] ^= 1 << chance.randrange(8)
        if round_ % 10 == 0:
            data = bytearray(chance.randbytes(chance.randrange(5000)))
        (directory / f"{1:016d}.journal").write_bytes(data)
        told: list[tuple[Path, str]] = []
        journal = Journal(directory, 99, SEAL, damaged=lambda path, why, told=told: told.append((path, why)))
        rows, _ = journal.read(journal.unsaved, 99)
        journal.close()
        for row in rows:
            assert row.fault == "process_killed" or row == written[row.id]
        assert len({row.id for row in rows}) == len(rows)
        if told:
            ((path, why),) = told
            assert path.name.endswith(".journal.damaged")
            assert path.read_bytes() == data
            assert why
        assert recover(directory, 99, SEAL) == rows


def test_entries_behind_a_damaged_one_are_still_read_and_the_file_is_kept_aside(tmp_path: Path) -> None:
    whole, ends = a_segment(tmp_path / "whole")
    directory = tmp_path / "hurt"
    directory.mkdir()
    data = bytearray(whole)
    data[ends[0][0] + 12] ^= 0xFF  # within the settlement of "a"
    (directory / f"{1:016d}.journal").write_bytes(data)
    told: list[str] = []
    journal = Journal(directory, 99, SEAL, damaged=lambda path, why: told.append(f"{path.name}: {why}"))
    rows = {row.id: row for row in journal.read(journal.unsaved, 99)[0]}
    journal.close()
    assert told == [f"{1:016d}.journal.damaged: an entry does not open"]
    assert rows["a"].fault == "process_killed"
    assert (rows["b"], rows["d"]) == (settlement("b"), settlement("d"))
    assert len(rows) == 4


def test_a_payload_that_is_no_record_is_damage_not_a_crash(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path, 1, SMALL, SEAL.begin(1))
    segment.write(b"sealed, and no record")
    segment.write(msgspec.msgpack.encode(settlement("a")))
    segment.close()
    assert [row.id for row in recover(tmp_path, 0, SEAL)] == ["a"]
    assert [path.name for path in tmp_path.glob("*.damaged")] == [f"{1:016d}.journal.damaged"]


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_behind_a_good_entry_leave_it_readable(payload: bytes, rest: bytes) -> None:
    seal = SEAL.begin(1)
    sealed = seal.seal(payload, HEADER)
    head = len(sealed).to_bytes(4, "little") + bytes(byte ^ 0xFF for byte in len(sealed).to_bytes(4, "little"))
    data = bytes(HEADER) + head + sealed + rest
    found = list(entries(data, HEADER, len(data), seal))
    assert found[0] == (HEADER, HEADER + OVERHEAD + len(payload), payload)


# -- want of disk ------------------------------------------------------------------------------------------------------


def full(fd: int, offset: int, size: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_refuses_admission_settles_what_runs_and_ends_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_ledger(tmp_path / "j", segment_bytes=SMALL) as ledger:
        account = ledger.account(key(max_budget=10**9, max_parallel=1000))
        allocate = os.posix_fallocate
        monkeypatch.setattr(os, "posix_fallocate", full)
        running: list[Entry] = []

        def admit_for_ever() -> None:
            while True:
                running.append(ledger.open(record(f"a{len(running)}"), account).__enter__())
                running[-1].reserve(Estimate(1, 1, 1, 1), PriceState.LISTED)

        with pytest.raises(Fault) as caught:
            admit_for_ever()
        assert (caught.value.kind, caught.value.status, caught.value.origin) == (
            Kind.UNAVAILABLE,
            503,
            Origin.GATEWAY,
        )
        assert "No space left on device" in caught.value.public
        running.pop().__exit__(Fault, caught.value, None)  # refused, and still a record
        assert len(running) > 5
        for entry in running:
            entry.sent = True
            entry.settle(Usage(input=10**9), measured=True, outcome=Outcome.COMPLETED, status=200, cost=10**9)
            entry.__exit__(None, None, None)
        journal = ledger.backlog.journal
        journaled = [row.id for row in journal.read(journal.unsaved, 999)[0]]
        assert {entry.record.id for entry in running} <= set(journaled)
        assert len(settled_in(ledger)) == len(running) + 1
        assert not list((tmp_path / "j").glob("*.fresh"))
        assert ledger.leaks() == []
        monkeypatch.setattr(os, "posix_fallocate", allocate)
        account.replace(key(revision=1))
        spend(ledger, account, "again")


def test_on_a_full_disk_old_segments_wait_for_what_is_open_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, 0, SEAL, segment_bytes=SMALL)
    long = record("long", cost=3, tags=("t" * 64,))
    journal.append(long)
    while len(segments(tmp_path)) < 3:
        journal.append(settlement("x"))
    allocate = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", full)

    def fill() -> None:
        while True:
            journal.append(settlement("x"))

    with pytest.raises(Fault):
        fill()
    journal.commit(journal.position)
    assert len(segments(tmp_path)) == 3
    with pytest.raises(Fault):  # opened again, for another target: the first opening stays valid
        journal.append(msgspec.structs.replace(long, cost=4))
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    journal.commit(journal.position)
    assert len(segments(tmp_path)) == 1  # it moved on to a new one
    journal.close()
    assert [(row.id, row.cost) for row in recover(tmp_path, 9, SEAL)] == [("long", 3)]


def test_the_journal_does_not_outgrow_its_cap_while_the_store_is_away(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j", segment_bytes=SMALL, most_bytes=10 * SMALL) as ledger:
        account = ledger.account(key())

        def spend_for_ever() -> None:
            for number in count():
                spend(ledger, account, str(number))

        with pytest.raises(Fault, match="unavailable"):
            spend_for_ever()
        assert ledger.backlog.journal.size <= 10 * SMALL
        while batch := ledger.backlog.batch():
            ledger.backlog.saved(batch)
        spend(ledger, account, "again")
    recovered(tmp_path / "j")


def test_a_file_size_limit_of_the_system_is_a_clean_refusal_at_the_start(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Fault) as caught:
            Journal(tmp_path, 0, SEAL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.kind is Kind.UNAVAILABLE
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    Journal(tmp_path, 0, SEAL).close()


async def test_sync_writes_what_was_appended_even_if_its_segment_is_gone_meanwhile(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0, SEAL, segment_bytes=SMALL)
    ledger = Ledger(journal, StillClock(), lambda _: None)
    for number in range(200):
        spend(ledger, ledger.account(key()), str(number))
    journal.commit(journal.position)
    await journal.sync()
    journal.append(settlement("a"))
    await journal.sync()
    journal.close()
