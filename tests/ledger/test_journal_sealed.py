"""Nothing of a record is readable on the disk, and what is not where it was sealed is never taken for a record."""

from __future__ import annotations

import os
import random
import resource
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import KEY, SEAL, key, record, running_ledger, spend

from ostiary.core.fault import Fault, Kind
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.gateway.ledger.account import Estimate
from ostiary.gateway.ledger.codec import SegmentSeal
from ostiary.gateway.ledger.journal import Journal, keys_in_use, recover
from ostiary.gateway.ledger.ledger import Entry
from ostiary.gateway.ledger.segment import HEAD, HEADER, entries, header_of
from ostiary.vault.spool import Spool

SMALL = 8192
OTHER_KEY = (b"journal2", bytes(range(100, 132)))


def settled(id_: str, cost: int = 7) -> Record:
    return record(id_, cost=cost, outcome=Outcome.COMPLETED, measured=True)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}


def written(directory: Path, *rows: Record, seal: Spool = SEAL) -> Path:
    """A segment with these records, closed."""
    with closing(Journal(directory, 0, seal, segment_bytes=1)) as journal:
        for row in rows:
            journal.append(row)
    return next(directory.glob("*.journal"))


def offsets(segment: Path) -> list[tuple[int, int]]:
    """Where the entries of a segment begin and end."""
    data = segment.read_bytes()
    seal = SEAL.resume(int(segment.stem), header_of(data).seal)
    assert seal is not None
    return [(at, end) for at, end, _ in entries(data, HEADER, len(data), seal)]


def opened(directory: Path, seal: Spool = SEAL) -> tuple[list[Record], list[str]]:
    """What the journal holds for the store, and what it said of files that it put aside."""
    told: list[str] = []
    with closing(Journal(directory, 9, seal, damaged=lambda path, why: told.append(why))) as journal:
        return journal.read(journal.unsaved, 10_000)[0], told


@pytest.mark.attack("PRV-01")
def test_prv_01_no_text_of_a_record_is_in_any_file_of_the_journal(tmp_path: Path) -> None:
    texts = [field.name for field in msgspec.structs.fields(Record) if field.type in (str, "str")]
    canaries = {name: f"canary-{name}-{os.urandom(8).hex()}" for name in texts}
    assert len(canaries) > 10
    row = Record(**canaries, started=1, tags=("canary-of-a-tag",))  # type: ignore[arg-type]
    with closing(Journal(tmp_path, 0, SEAL, segment_bytes=SMALL)) as journal:
        journal.append(row)
        while journal.position[0] < 5:  # so that it is carried, too
            journal.append(settled("canary-of-another"))
        kept = [*files(tmp_path).values()]
        journal.commit(journal.position)
        assert len(files(tmp_path)) == 1
        kept += files(tmp_path).values()
    (found,), _ = opened(tmp_path)
    assert (found.model, found.fault) == (canaries["model"], "process_killed")
    kept += files(tmp_path).values()
    assert not [data for data in kept if b"canary" in data or KEY[1] in data]


@pytest.mark.attack("CRY-01")
def test_cry_01_a_flipped_bit_anywhere_in_a_segment_never_changes_a_record(tmp_path: Path) -> None:
    rows = [settled(name) for name in "abc"]
    segment = written(tmp_path / "whole", *rows)
    whole, ends = segment.read_bytes(), offsets(segment)
    refused = 0
    for at in range(ends[-1][1]):
        directory = tmp_path / str(at)
        directory.mkdir()
        hurt = bytearray(whole)
        hurt[at] ^= 1 << at % 8
        (directory / segment.name).write_bytes(hurt)
        found, told = opened(directory)
        assert all(row in rows for row in found), at
        if 16 <= at < 24:  # the mark: what the store has is sent again
            assert (found, told) == (rows, []), at
        else:
            assert told, at
            assert bytes(hurt) in files(directory).values(), at
            refused += 1
        if at >= HEADER and not any(start <= at < start + HEAD for start, _ in ends):
            assert found == [row for row, (start, end) in zip(rows, ends, strict=True) if not start <= at < end]
    assert refused == ends[-1][1] - 8


def test_the_last_entry_of_a_killed_process_is_an_end_and_an_edited_one_is_damage(tmp_path: Path) -> None:
    rows = [settled(name) for name in "ab"]
    segment = written(tmp_path / "whole", *rows)
    whole, (_, (at, end)) = segment.read_bytes(), offsets(segment)
    for length in range(end - at):
        directory = tmp_path / str(length)
        directory.mkdir()
        torn = whole[: at + length].ljust(len(whole), b"\0")
        (directory / segment.name).write_bytes(torn)
        found, told = opened(directory)
        assert found == (rows if torn == whole else rows[:1]), length
        assert not told or length < HEAD or length > end - at - 8, length
    directory = tmp_path / "edited"
    directory.mkdir()
    (directory / segment.name).write_bytes(whole[: end - 1] + bytes([whole[end - 1] ^ 1]) + whole[end:])
    assert opened(directory) == (rows[:1], ["an entry does not open"])


def swapped(segment: Path, data: bytes) -> bytes:
    """Two entries of equal length change places."""
    (a, b), (c, d) = offsets(segment)[:2]
    return data[:a] + data[c:d] + data[a:b] + data[d:]


def doubled(segment: Path, data: bytes) -> bytes:
    """The last entry once more, behind itself."""
    a, b = offsets(segment)[-1]
    return data[:b] + data[a:b] + data[2 * b - a :]


def cut(segment: Path, data: bytes) -> bytes:
    """Everything behind the first entry is gone."""
    return data[: offsets(segment)[0][1]]


@pytest.mark.attack("CRY-01")
@pytest.mark.parametrize(
    ("change", "left", "why"),
    [
        (swapped, "c", "an entry does not open"),
        (doubled, "abc", "an entry does not open"),
        (cut, "a", "it was cut short, or made longer"),
    ],
)
def test_cry_01_entries_swapped_replayed_or_cut_off_are_noticed(
    tmp_path: Path, change: Callable[[Path, bytes], bytes], left: str, why: str
) -> None:
    segment = written(tmp_path, *(settled(name) for name in "abc"))
    segment.write_bytes(change(segment, segment.read_bytes()))
    found, told = opened(tmp_path)
    assert ("".join(row.id for row in found), told) == (left, [why])


@pytest.mark.attack("CRY-01")
def test_cry_01_an_entry_of_another_segment_does_not_open(tmp_path: Path) -> None:
    ours = written(tmp_path / "a", settled("a"), settled("b"))
    theirs = written(tmp_path / "b", settled("x"), settled("y"))
    (at, end), _ = offsets(ours)
    assert offsets(theirs)[0] == (at, end)
    data = ours.read_bytes()
    ours.write_bytes(data[:at] + theirs.read_bytes()[at:end] + data[end:])
    found, told = opened(tmp_path / "a")
    assert ([row.id for row in found], told) == (["b"], ["an entry does not open"])


@pytest.mark.attack("CRY-01")
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("seal", "number"),
    [
        (SEAL, 2),
        (Spool(lambda: [KEY], "another", "eu"), 1),
        (Spool(lambda: [KEY], "instance", "us"), 1),
        (Spool(lambda: [KEY], "instanc", "eeu"), 1),
    ],
    ids=["renamed", "of another instance", "of another region", "parts shifted"],
)
def test_cry_01_a_segment_from_elsewhere_is_put_aside_and_never_read(
    tmp_path: Path, seal: Spool, number: int, rows: int
) -> None:
    segment = written(tmp_path, *(settled(str(row)) for row in range(rows)))
    moved = segment.rename(segment.with_name(f"{number:016d}.journal"))
    data = moved.read_bytes()
    assert opened(tmp_path, seal) == ([], ["it was sealed for another number, instance or region"])
    assert moved.with_name(moved.name + ".damaged").read_bytes() == data


@pytest.mark.attack("CRY-01")
def test_cry_01_two_segments_that_change_names_are_both_put_aside(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, 0, SEAL, segment_bytes=1)) as journal:
        while journal.position[0] < 3:
            journal.append(settled("a"))
    one, two = sorted(tmp_path.glob("*.journal"))[:2]
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    _, told = opened(tmp_path)
    assert told == ["it was sealed for another number, instance or region"] * 2


@pytest.mark.attack("CRY-01")
def test_cry_01_a_header_that_names_our_key_and_is_of_another_does_not_open(tmp_path: Path) -> None:
    written(tmp_path, settled("a"), seal=Spool(lambda: [(KEY[0], os.urandom(32))], "instance", "eu"))
    assert opened(tmp_path) == ([], ["it was sealed for another number, instance or region"])


def test_the_format_of_an_entry_is_the_one_that_is_documented(tmp_path: Path) -> None:
    data = written(tmp_path, settled("a")).read_bytes()
    key_id, salt, commitment = data[28:36], data[36:68], data[68:100]
    parts = (b"ostiary/1/journal", b"instance", b"eu", b"1")
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    derived = HKDF(algorithm=SHA512(), length=64, salt=salt, info=info).derive(KEY[1])
    assert (key_id, commitment) == (KEY[0], derived[32:])
    length = int.from_bytes(data[104:108], "little")
    payload = AESGCM(derived[:32]).decrypt((104).to_bytes(12, "big"), data[112 : 112 + length], None)
    assert msgspec.msgpack.decode(payload, type=Record) == settled("a")


def test_without_the_key_the_start_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    written(tmp_path, settled("a"))
    before = files(tmp_path)
    with pytest.raises(Fault) as caught:
        Journal(tmp_path, 0, Spool(lambda: [OTHER_KEY], "instance", "eu"))
    assert caught.value.kind is Kind.UNAVAILABLE
    assert KEY[0].hex() in caught.value.public
    assert "Restore the keystore and the master key" in caught.value.public
    assert files(tmp_path) == before
    with pytest.raises(Fault, match="unavailable") as caught:
        Journal(tmp_path / "new", 0, Spool(list, "instance", "eu"))
    assert "restore the keystore" in caught.value.public
    assert files(tmp_path / "new") == {}
    assert opened(tmp_path) == ([settled("a")], [])


def test_a_new_key_is_used_from_renew_on_and_the_old_one_is_free_when_all_is_saved(tmp_path: Path) -> None:
    keys = [KEY]
    seal = Spool(lambda: keys, "instance", "eu")
    with closing(Journal(tmp_path, 0, seal, segment_bytes=SMALL)) as journal:
        journal.append(record("long", cost=3))
        journal.append(settled("a"))
        journal.renew()
        assert journal.position[0] == 1
        keys.insert(0, OTHER_KEY)
        journal.renew()
        journal.append(settled("b"))
        assert keys_in_use(tmp_path) == {KEY[0], OTHER_KEY[0]}
        assert [row.id for row in journal.read(journal.unsaved, 9)[0]] == ["a", "b"]
        journal.commit(journal.position)
        assert keys_in_use(tmp_path) == {OTHER_KEY[0]}
    assert [(row.id, row.cost) for row in recover(tmp_path, 9, Spool(lambda: [OTHER_KEY], "instance", "eu"))] == [
        ("long", 3)
    ]


def test_an_opening_that_the_disk_lost_stays_until_it_is_settled(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, 0, SEAL, segment_bytes=1)) as journal:
        journal.append(record("long"))
        first = next(tmp_path.glob("*.journal"))
        while journal.position[0] < 4:
            journal.append(settled("a"))
        with first.open("r+b") as file:
            file.seek(HEADER + 30)
            file.write(b"lost")
        journal.commit(journal.position)
        assert first.exists()
        journal.append(settled("long"))
        journal.commit(journal.position)
        assert not first.exists()


class Noting:
    """A real seal that notes what it seals, and refuses to do so twice or backwards."""

    def __init__(self, seal: SegmentSeal, seen: list[tuple[bytes, int]]) -> None:
        self.header = seal.header
        self.open = seal.open
        self._seal = seal
        self._seen = seen

    def seal(self, payload: bytes, at: int) -> bytes:
        assert not [taken for header, taken in self._seen if header == self.header and taken >= at]
        self._seen.append((self.header, at))
        return self._seal.seal(payload, at)


class Watched:
    """Makes seals that are watched; `seen` are headers of segments and offsets."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, int]] = []

    def begin(self, number: int) -> Noting:
        return Noting(SEAL.begin(number), self.seen)

    resume = staticmethod(SEAL.resume)
    knows = staticmethod(SEAL.knows)
    is_current = staticmethod(SEAL.is_current)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["open", "open", "settle", "commit", "kill", "tear", "full"])),
        max_size=100,
    )
)
def test_no_offset_of_a_segment_is_ever_sealed_for_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    directory, watched = tmp_path_factory.mktemp("journal"), Watched()
    journal = Journal(directory, 0, watched, segment_bytes=1)
    still_open: list[str] = []
    allocate = os.posix_fallocate
    try:
        for number, (which, step) in enumerate(steps):
            if step == "open":
                try:
                    journal.append(record(str(number), tags=("t" * 60,) * which))
                except Fault:
                    continue
                still_open.append(str(number))
            elif step == "settle" and still_open:
                journal.append(settled(still_open.pop(which % len(still_open))))
            elif step == "commit":
                journal.commit(journal.position)
            elif step == "full":
                os.posix_fallocate = no_room if which % 2 else allocate
            elif step in ("kill", "tear"):
                os.posix_fallocate = allocate
                at = journal.position
                journal.close()
                if step == "tear":
                    tear(directory / f"{at[0]:016d}.journal", at[1])
                journal = Journal(directory, 9, watched, segment_bytes=1)
                still_open.clear()
    finally:
        os.posix_fallocate = allocate
        journal.close()
    assert len(watched.seen) == len(set(watched.seen))


def no_room(fd: int, offset: int, size: int) -> None:
    raise OSError(28, "No space left on device")


def tear(segment: Path, at: int) -> None:
    """A process was killed in the midst of its next entry."""
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<II", 200, 200 ^ 0xFFFFFFFF) + random.Random(at).randbytes(50))


@pytest.mark.attack("AVL-03")
def test_avl_03_without_room_for_files_admission_is_refused_what_runs_settles_and_it_heals(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with running_ledger(tmp_path / "j", segment_bytes=SMALL) as ledger:
        account = ledger.account(key(max_parallel=1000))
        running: list[Entry] = []

        def admit_for_ever() -> None:
            while True:
                running.append(ledger.open(record(f"a{len(running)}"), account).__enter__())
                running[-1].reserve(Estimate(1, 1, 1, 1), PriceState.LISTED)

        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL - 1, hard))
        try:
            with pytest.raises(Fault) as caught:
                admit_for_ever()
            assert (caught.value.kind, caught.value.status) == (Kind.UNAVAILABLE, 503)
            running.pop().__exit__(Fault, caught.value, None)
            for entry in running:
                entry.sent = True
                entry.settle(Usage(input=10**9), measured=True, outcome=Outcome.COMPLETED, status=200, cost=10**9)
                entry.__exit__(None, None, None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        spend(ledger, account, "again")
        assert ledger.leaks() == []
        ids = {entry.record.id for entry in running} | {"again"}
    assert ids <= {row.id for row in recover(tmp_path / "j", 9, SEAL)}
    assert len(ids) > 5
