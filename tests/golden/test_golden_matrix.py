"""Every case in every dialect: what comes out is what the snapshot says. Changes are read, then accepted:

python -m pytest tests/golden --golden-update
"""

from __future__ import annotations

import difflib

import pytest
from golden_corpus import CASES, NAMES, PROFILES, SNAPSHOTS, File, about, files
from golden_gaps import GAPS
from golden_text import snapshot


@pytest.mark.parametrize("file", files(), ids=lambda file: file.id)
def test_what_becomes_of_it_in_every_dialect_is_known(file: File, golden_update: bool) -> None:
    found = snapshot(file)
    if golden_update:
        SNAPSHOTS.mkdir(exist_ok=True)
        file.snapshot.write_text(found)
    known = file.snapshot.read_text() if file.snapshot.exists() else ""
    if found != known:
        diff = difflib.unified_diff(known.splitlines(), found.splitlines(), "known", "found", lineterm="", n=2)
        pytest.fail("\n".join(diff), pytrace=False)


def test_no_snapshot_is_left_behind(golden_update: bool) -> None:
    stale = set(SNAPSHOTS.glob("*.txt")) - {file.snapshot for file in files()}
    for path in stale if golden_update else ():
        path.unlink()
    assert sorted(path.name for path in stale if path.exists()) == []


@pytest.mark.parametrize("case", sorted({file.case for file in files()}))
def test_a_case_says_what_it_is_and_where_each_file_comes_from(case: str) -> None:
    said = about(case)
    written = {path.name for path in (CASES / case).iterdir()} - {"case.toml"}
    assert {"title", "group", "feature", "sources"} <= set(said)
    assert set(said["sources"]) == written
    assert all(len(source) > 15 for source in said["sources"].values())
    assert said.get("profile", "any") in PROFILES
    assert {name.split(".")[1] for name in written} <= set(NAMES)
    assert set(said.get("status", ())) == ({name.split(".")[1] for name in written} if "kind" in said else set())


def test_there_are_enough_cases_of_every_dialect() -> None:
    assert len({file.case for file in files()}) >= 60
    for name in NAMES[:5]:
        assert len({file.case for file in files() if file.dialect == name}) >= 45


def test_every_known_gap_is_one_of_a_case() -> None:
    tests = ("", "form of ", "wishes of ")
    places = [f"{test}{file.id} -> {target}" for test in tests for file in files() for target in NAMES]
    assert [what for where, what in GAPS if not any(where.fullmatch(place) for place in places)] == []
