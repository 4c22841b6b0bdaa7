"""Prints which cases of the attack list have a test, going by the ids in test names. It must not judge what they prove.

A test names its case: `test_net_16_two_hosts_are_refused` covers NET-16. `tests/attacks.txt` lists the ids, with a
star where the case belongs to the first wave.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASE = re.compile(r"(?<=_)([a-z]{3})_(\d\d)(?=_|$)")


def cases(listing: str) -> dict[str, bool]:
    """id -> whether it is of the first wave, in the order of the list."""
    rows = (line.split() for line in listing.splitlines() if line and not line.startswith("#"))
    return {row[0]: row[1:] == ["★"] for row in rows}


def test_names(sources: Iterable[str]) -> list[str]:
    """The names of all test functions in the given module sources."""
    functions = (node for source in sources for node in ast.walk(ast.parse(source)))
    names = (node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [name for name in names if name.startswith("test_")]


def covered(names: Iterable[str], areas: frozenset[str]) -> dict[str, list[str]]:
    """id -> tests that name it. `areas` are the three-letter prefixes that make an id of a match."""
    found: dict[str, list[str]] = {}
    for name in names:
        for area, number in CASE.findall(name):
            if area.upper() in areas:
                found.setdefault(f"{area.upper()}-{number}", []).append(name)
    return found


def main() -> int:
    """Print the list, area by area; 1 when a test names a case that does not exist."""
    known = cases((ROOT / "tests" / "attacks.txt").read_text())
    sources = (path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))
    tests = covered(test_names(sources), frozenset(case[:3] for case in known))
    for case, first_wave in known.items():
        star = "★" if first_wave else " "
        if case in tests:
            print(f"{case} {star} {len(tests[case])}: {', '.join(sorted(tests[case])[:3])}")
    done = [case for case in known if case in tests]
    starred = [case for case, first_wave in known.items() if first_wave]
    print(
        f"{len(done)} of {len(known)} cases have a test; of the first wave {len(set(starred) & set(done))} of", end=" "
    )
    print(f"{len(starred)}. Open in the first wave: {' '.join(c for c in starred if c not in tests) or 'none'}")
    unknown = sorted(set(tests) - set(known))
    for case in unknown:
        print(f"{case} is named by {', '.join(tests[case])} but is not in tests/attacks.txt")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
