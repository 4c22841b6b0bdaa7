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

from bench.figures import FIGURES, SMOKE, Effort, Figure
from bench.peers import PEERS
from bench.rig import Rig

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


def measure(experiments: dict[str, Callable[[Rig, Effort], list[Figure]]], effort: Effort) -> dict[str, list[Figure]]:
    """Run the experiments one after another, printing each figure as soon as it is known."""
    results: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as folder, Rig(Path(folder)) as rig:
        for name, experiment in experiments.items():
            results[name] = experiment(rig, effort)
            for figure in results[name]:
                print(show(figure), flush=True)
    return results


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
    results = measure(chosen, SMOKE if arguments.smoke else Effort())
    figures = {name: [{**asdict(figure), "good": figure.good} for figure in found] for name, found in results.items()}
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{started}.json"
    path.write_text(json.dumps({"machine": host, "smoke": arguments.smoke, "figures": figures}, indent=2) + "\n")
    print(f"written to bench/out/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
