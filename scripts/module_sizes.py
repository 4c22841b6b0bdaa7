"""Fails on modules too long to read at one sitting, warns of those on the way there. It must not judge generated files.

usage: module_sizes.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WARN, REFUSE = 400, 600
EXEMPT = ("/goldens/", "/golden/", "_generated.py")


def too_long(sizes: dict[str, int]) -> tuple[list[str], list[str]]:
    """(refused, warned) from a map of path to number of lines, exempt paths left out."""
    counted = {path: lines for path, lines in sizes.items() if not any(part in f"/{path}" for part in EXEMPT)}
    refused = sorted(path for path, lines in counted.items() if lines > REFUSE)
    warned = sorted(path for path, lines in counted.items() if WARN < lines <= REFUSE)
    return refused, warned


def main() -> int:
    """Count the lines of every tracked or new Python file."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    sizes = {name: (ROOT / name).read_bytes().count(b"\n") for name in names if (ROOT / name).is_file()}
    refused, warned = too_long(sizes)
    for name in warned:
        print(f"{name}: {sizes[name]} lines, think of splitting it beyond {WARN}")
    for name in refused:
        print(f"{name}: {sizes[name]} lines, refused beyond {REFUSE}")
    longest = max(sizes.values(), default=0)
    print(f"{len(sizes)} modules, longest {longest} lines")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
