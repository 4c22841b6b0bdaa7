"""Runs the suite, measures coverage of every process it starts, and gives one honest verdict.

It must not pass when nothing ran; where `CI` is set, nor when a test was skipped or the core is covered too little.

usage: run_tests.py [pytest arguments]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
# package -> per cent of its lines that the suite must run
BARS = {"wire": 95.0, "gateway": 95.0}


@dataclass(frozen=True)
class Tally:
    """How many tests there were, and how many of them did not simply pass. An expected failure counts as skipped."""

    tests: int
    failed: int
    skipped: int


def tally(report: str) -> Tally:
    """Count the outcomes of a JUnit report."""
    suites = list(ElementTree.fromstring(report).iter("testsuite"))

    def total(*names: str) -> int:
        return sum(int(suite.get(name, "0")) for suite in suites for name in names)

    return Tally(total("tests"), total("failures", "errors"), total("skipped"))


def complaints(exit_code: int, counted: Tally, covered: Mapping[str, float], strict: bool) -> list[str]:
    """Why the run is no success; empty when it is one. `covered`: package -> per cent."""
    found = [f"pytest ended with {exit_code}"] if exit_code else []
    if not counted.tests:
        found.append("no test ran")
    if counted.failed:
        found.append(f"{counted.failed} tests failed")
    if strict and counted.skipped:
        found.append(f"{counted.skipped} tests were skipped")
    if strict:
        low = (f"{name} is covered {covered[name]:.1f} %" for name in BARS if covered[name] < BARS[name])
        found.extend(low)
    return found


def run_pytest(arguments: list[str], report: Path, data: Path) -> int:
    """Run pytest on all processors with every Python process measured into files beside `data`; its exit code."""
    environment = {
        **os.environ,
        "COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"),
        "COVERAGE_FILE": str(data),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "auto",
        "--dist",
        "loadscope",
        "--no-loadscope-reorder",
        f"--junit-xml={report}",
        *arguments,
    ]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, stdin=subprocess.DEVNULL).returncode


def coverage_of(package: str, data: Path) -> float:
    """Per cent of the lines of `ostiary/<package>` that ran."""
    command = [sys.executable, "-m", "coverage", "report", f"--data-file={data}", "--format=total", "--precision=1"]
    only = [f"--include=*/ostiary/{package}/*"]
    done = subprocess.run([*command, *only], cwd=ROOT, check=False, capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else 0.0


def main() -> int:
    """Run, count, and judge."""
    strict = bool(os.environ.get("CI"))
    with tempfile.TemporaryDirectory() as folder:
        report, data = Path(folder, "junit.xml"), Path(folder, "coverage")
        exit_code = run_pytest(sys.argv[1:], report, data)
        counted = tally(report.read_text()) if report.exists() else Tally(0, 0, 0)
        combine = [sys.executable, "-m", "coverage", "combine", "--quiet", f"--data-file={data}", folder]
        subprocess.run(combine, cwd=ROOT, check=False)
        covered = {name: coverage_of(name, data) for name in BARS}
        if strict:
            lines = [sys.executable, "-m", "coverage", "report", f"--data-file={data}", "--skip-covered"]
            subprocess.run([*lines, "--include=*/ostiary/wire/*,*/ostiary/gateway/*"], cwd=ROOT, check=False)
    shares = ", ".join(f"{name} {share:.1f} %" for name, share in covered.items())
    print(f"{counted.tests} tests, {counted.failed} failed, {counted.skipped} skipped; covered: {shares}")
    found = complaints(exit_code, counted, covered, strict)
    print(f"NOT GOOD: {'; '.join(found)}" if found else "GOOD")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
