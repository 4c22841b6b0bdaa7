"""Puts the agents, and the Node they want, into a cache outside the tree. It must not install what no lock names.

`package-lock.json` holds hashes and no addresses: npm asks whatever registry it is set up with. Nothing of the packages
is run while they are installed, but a script that copies a binary.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCKED = ("package.json", "package-lock.json", "node.lock")
_CLAUDE = "node_modules/@anthropic-ai/claude-code/install.cjs"  # puts its binary into its place


@dataclass(frozen=True)
class Tools:
    """The installed agents: the folders of their programs, and their versions."""

    folders: tuple[Path, ...]
    versions: str

    @property
    def path(self) -> str:
        """For `PATH`."""
        return ":".join(map(str, self.folders))

    def found(self, program: str) -> str | None:
        """The file of a program; None where it is not to be had for this kind of machine."""
        return next((str(folder / program) for folder in self.folders if (folder / program).exists()), None)


def installed(cache: Path) -> Tools:
    """The agents in the cache, installed where they are not there as the lock files want them."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in LOCKED)).hexdigest()[:16]
    place = cache / digest
    node, stamp = place / "node", place / "complete"
    modules = place / "node_modules"
    tools = Tools((modules / ".bin", node / "bin", modules / "opencode-linux-x64" / "bin"), _versions())
    if stamp.exists():
        return tools
    print(f"Installing {tools.versions} into {place}", flush=True)
    place.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(node)])
    pip = [str(node / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "--only-binary=:all:", "--requirement", str(HERE / "node.lock")])
    for name in ("package.json", "package-lock.json"):
        (place / name).write_bytes((HERE / name).read_bytes())
    environment = os.environ | {"PATH": f"{node / 'bin'}:{os.environ['PATH']}"}
    npm = [str(node / "bin" / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(npm, place, environment)
    _run([str(node / "bin" / "node"), _CLAUDE], place, environment)
    stamp.touch()
    return tools


def _versions() -> str:
    wanted = json.loads((HERE / "package.json").read_text())
    named = wanted["dependencies"] | wanted["optionalDependencies"]
    return ", ".join(f"{name} {version}" for name, version in named.items())


def _run(command: list[str], folder: Path | None = None, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=folder, env=environment, check=True)
