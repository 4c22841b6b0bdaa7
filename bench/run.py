"""Measures the figures that Ostiary is held to, prints them beside their bars and writes them as JSON.

It must not fail because a figure misses its bar: times depend on the machine, and this is no timed test. It fails where
something does not answer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from bench.figures import FIGURES, SMOKE, Effort, Figure
from bench.peers import PEERS
from bench.rig import Rig

Experiment: TypeAlias = Callable[[Rig, Effort], list[Figure]]

OUT = Path(__file__).resolve().parent / "out"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    nginx = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr.strip()
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": nginx.rpartition("/")[2],
        "ostiary": version("ostiary"),
        "libraries": {name: version(name) for name in ("uvicorn", "uvloop", "httptools", "msgspec")},
    }


def show(figure: Figure) -> str:
    """One line of the report."""
    relation = "at most" if figure.at_most else "at least"
    verdict = "within" if figure.good else "OUTSIDE"
    return f"{figure.name:<52}{figure.value:9.2f} {figure.unit:<3} {relation} {figure.bar:g}  {verdict}"


def measure(experiments: dict[str, Experiment], effort: Effort) -> tuple[dict[str, list[Figure]], dict[str, str]]:
    """Run the experiments, printing each figure as soon as it is known; the figures, and why there is none of some."""
    results: dict[str, list[Figure]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as folder, Rig(Path(folder)) as rig:
        for name, experiment in experiments.items():
            try:
                results[name] = experiment(rig, effort)
            except (RuntimeError, subprocess.CalledProcessError) as failure:
                failed[name] = str(failure)
                print(f"{name}: NO FIGURE: {failure}", flush=True)
            for figure in results.get(name, []):
                print(show(figure), flush=True)
    return results, failed


def main() -> int:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="measure only these")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=[], help="install these and compare with them")
    parser.add_argument("--smoke", action="store_true", help="only show that it runs: the figures mean nothing")
    arguments = parser.parse_args()
    chosen = {name: FIGURES[name] for name in arguments.only} if not arguments.peers else {}
    chosen |= {name: PEERS[name] for name in arguments.peers}
    host = machine()
    print(f"{host['processor']}, Python {host['python']}, nginx {host['nginx']}, load {host['load_average']}")
    started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    results, failed = measure(chosen, SMOKE if arguments.smoke else Effort())
    figures = {name: [{**asdict(figure), "good": figure.good} for figure in found] for name, found in results.items()}
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{started}.json"
    report = {"machine": host, "smoke": arguments.smoke, "figures": figures, "failed": failed}
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to bench/out/{path.name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
