"""The scripts behind `make` judge honestly: each verdict is shown to be able to fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]

REPORT = """<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"><testcase name="a"/></testsuite>
<testsuite tests="1" failures="0" errors="0" skipped="0"/></testsuites>"""
FULL = {"wire": 100.0, "gateway": 95.0}


def test_a_report_is_counted_over_all_its_suites(script: Load) -> None:
    run_tests = script("scripts/run_tests.py")
    assert run_tests.tally(REPORT) == run_tests.Tally(tests=8, failed=2, skipped=2)


@pytest.mark.parametrize(
    ("exit_code", "tests", "failed", "skipped", "covered", "complaint"),
    [
        (0, 0, 0, 0, FULL, "no test ran"),
        (1, 5, 0, 0, FULL, "pytest ended with 1"),
        (0, 5, 1, 0, FULL, "1 tests failed"),
        (0, 5, 0, 1, FULL, "1 tests were skipped"),
        (0, 5, 0, 0, {"wire": 94.9, "gateway": 99.0}, "wire is covered 94.9 %"),
    ],
)
def test_each_reason_alone_fails_the_run(
    script: Load,
    exit_code: int,
    tests: int,
    failed: int,
    skipped: int,
    covered: dict[str, float],
    complaint: str,
) -> None:
    run_tests = script("scripts/run_tests.py")
    counted = run_tests.Tally(tests, failed, skipped)
    assert run_tests.complaints(exit_code, counted, covered, strict=True) == [complaint]


def test_a_good_run_has_no_complaints(script: Load) -> None:
    run_tests = script("scripts/run_tests.py")
    assert run_tests.complaints(0, run_tests.Tally(5, 0, 0), FULL, strict=True) == []


def test_a_developer_may_skip_and_run_a_part(script: Load) -> None:
    run_tests = script("scripts/run_tests.py")
    assert run_tests.complaints(0, run_tests.Tally(5, 0, 2), {"wire": 0.0, "gateway": 3.0}, strict=False) == []


def test_modules_beyond_600_lines_are_refused_and_beyond_400_warned_of(script: Load) -> None:
    sizes = {"a.py": 400, "b.py": 401, "c.py": 600, "d.py": 601, "tests/goldens/e.py": 999, "f_generated.py": 999}
    assert script("scripts/module_sizes.py").too_long(sizes) == (["d.py"], ["b.py", "c.py"])


def test_attack_cases_are_found_in_test_names(script: Load) -> None:
    attacks = script("scripts/attacks.py")
    names = attacks.test_names(
        ["def test_net_16_two_hosts(): ...\nclass A:\n  async def test_x_dos_01_and_aig_03(self): ..."]
    )
    assert attacks.covered(names, frozenset({"NET", "DOS", "AIG"})) == {
        "NET-16": ["test_net_16_two_hosts"],
        "DOS-01": ["test_x_dos_01_and_aig_03"],
        "AIG-03": ["test_x_dos_01_and_aig_03"],
    }


def test_the_attack_list_is_whole(script: Load, root: Path) -> None:
    listed = script("scripts/attacks.py").cases((root / "tests" / "attacks.txt").read_text())
    assert (len(listed), sum(listed.values())) == (175, 85)


def test_a_stale_generated_page_is_noticed(
    script: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = script("scripts/build_docs.py")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(sys, "argv", ["build_docs.py"])
    assert docs.main() == 0
    monkeypatch.setattr(sys, "argv", ["build_docs.py", "--check"])
    assert docs.main() == 0
    (tmp_path / "reference" / "faults.md").write_text("something else")
    (tmp_path / "reference" / "left-behind.md").write_text("a page that nothing makes any more")
    assert docs.main() == 1
    assert capsys.readouterr().out.count("run `make docs`") == 2


def test_set_up_refuses_an_unknown_purpose(root: Path) -> None:
    command = [sys.executable, str(root / "scripts" / "environment.py"), "everything"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2


def test_set_up_is_keyed_on_the_contents_of_the_lock_files(
    script: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = script("scripts/environment.py")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("one")
    first = environment.fingerprint("run")
    (tmp_path / "requirements.lock").write_text("two")
    assert environment.fingerprint("run") != first
    (tmp_path / "requirements.lock").write_text("one")
    assert environment.fingerprint("run") == first


def test_make_lists_every_target(root: Path) -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    targets = {line.split()[1] for line in listed.splitlines()}
    assert targets == {"help", "run", "test", "check", "bench", "agents", "fuzz", "docs", "attacks", "lock", "clean"}


def test_make_says_what_is_missing_where_there_is_no_python(root: Path) -> None:
    done = subprocess.run(["make", "env-run", "PYTHON="], cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Ostiary needs Python 3.11 or newer" in done.stderr
