"""The documentation links to what exists, and its decision records are whole."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def test_links_between_pages_lead_somewhere(root: Path) -> None:
    listing = subprocess.run(["git", "ls-files", "*.md"], cwd=root, check=True, capture_output=True, text=True)
    pages = [root / name for name in listing.stdout.split()]
    dead = [
        f"{page.relative_to(root)} -> {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_every_decision_has_its_four_parts_and_stands_in_the_index(root: Path) -> None:
    folder = root / "docs" / "decisions"
    records = sorted(folder.glob("0*.md"))
    index = (folder / "README.md").read_text()
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        parts = re.findall(r"^## (.*)$", path.read_text(), re.MULTILINE)
        assert (path.name, parts) == (path.name, ["Context", "Decision", "Consequences", "Non-goals"])
        assert f"({path.name})" in index


def test_the_command_list_of_the_contributing_page_is_true(root: Path) -> None:
    named = set(re.findall(r"^    make ([a-z]+)", (root / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):.*## ", (root / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets
