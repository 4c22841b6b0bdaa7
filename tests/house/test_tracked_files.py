"""What is in the repository names no mirror, no registry and no directory of anybody's machine."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

LOCKS = [
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-fuzz.lock",
    "requirements-llm.lock",
    "requirements-older.lock",
]
# Written so that this file does not contain what it looks for.
# The brackets keep the names themselves out of this file.
REGISTRIES = re.compile(
    "|".join([r"p[y]pi\.org", r"pythonh[o]sted\.org", r"registry\.(?:n[p]mjs|y[a]rnpkg)\.", r"cr[a]tes\.io"])
)
HOMES = re.compile(r"(?<![\w.~-])/(?:home|Users|root|work)/\w")
ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==\S+")


def tracked(root: Path) -> Iterator[tuple[str, str]]:
    """(path, text) of every tracked file that is text."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        path = root / name
        if path.is_file():
            yield name, path.read_text(errors="replace")


def naming(root: Path, pattern: re.Pattern[str]) -> list[str]:
    """Tracked files that `pattern` finds something in."""
    return [f"{name}: {match.group()}" for name, text in tracked(root) if (match := pattern.search(text))]


def unhashed(lock: str) -> list[str]:
    """Requirements of a lock file that have no hash."""
    blocks = re.split(r"\n(?=\S)", lock.strip())
    return [block.split()[0] for block in blocks if not ENTRY.match(block) or "--hash=sha256:" not in block]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_name_no_address(root: Path, name: str) -> None:
    text = (root / name).read_text()
    assert "://" not in text
    assert "-url" not in text
    assert "find-links" not in text


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_and_hashed(root: Path, name: str) -> None:
    assert unhashed((root / name).read_text()) == []


def test_the_lock_file_of_javascript_packages_holds_hashes_and_no_addresses(root: Path) -> None:
    text = (root / "tests" / "clients" / "js" / "package-lock.json").read_text()
    assert "://" not in text
    (_, *packages) = json.loads(text)["packages"].values()
    assert packages
    assert [package for package in packages if not package["integrity"].startswith("sha512-")] == []


def test_a_requirement_without_hash_or_version_is_noticed() -> None:
    lock = "a==1 \\\n    --hash=sha256:00\nb==1\nc>=2 \\\n    --hash=sha256:00\n"
    assert unhashed(lock) == ["b==1", "c>=2"]


def test_the_two_environments_agree_on_versions(root: Path) -> None:
    def pins(name: str) -> set[str]:
        return {match.group() for line in (root / name).read_text().splitlines() if (match := ENTRY.match(line))}

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_no_tracked_file_names_a_package_registry(root: Path) -> None:
    assert naming(root, REGISTRIES) == []


def test_no_tracked_file_names_a_directory_of_somebodys_machine(root: Path) -> None:
    assert naming(root, HOMES) == []


def test_the_patterns_find_what_they_look_for() -> None:
    assert REGISTRIES.search("https://files." + "pythonhosted" + ".org/x")
    assert HOMES.search("open('/" + "home/ann/x')")
    assert not HOMES.search("a/home/x and docs/work/x and ~/work/x")
