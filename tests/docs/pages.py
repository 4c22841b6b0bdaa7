"""The hand-written pages, and their code blocks. It must not look at generated pages: those are the code's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """Path below the repository -> text, of every Markdown page that people write."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = (name for name in listed.stdout.split() if not name.startswith(("docs/reference/", "docs/fidelity.md")))
    return {name: (ROOT / name).read_text() for name in names}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language, in order."""
    return [body for named, body in _BLOCK.findall((ROOT / page).read_text()) if named == language]
