"""Makes `.venv` hold exactly what the lock files say, and nothing happens where it already does.

It must not install anything without a hash, or build a dependency: only wheels named in a lock file, this project, and
for the tests of clients an older generation of libraries in `.venv/older` and packages for Node in `.venv/js`.

usage: environment.py run | dev
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)
# purpose -> lock files, each with the options pip needs for it
LOCKS: dict[str, dict[str, tuple[str, ...]]] = {
    "run": {"requirements.lock": ()},
    "dev": {"requirements-dev.lock": (), "requirements-llm.lock": ("--no-deps",)},
}
OLDER_LOCK = "requirements-older.lock"
JS_LOCKS = ("tests/clients/js/package.json", "tests/clients/js/package-lock.json")


def fingerprint(purpose: str) -> str:
    """The state of the files that decide what is installed for `purpose`, as a hex digest."""
    digest = hashlib.sha256()
    clients = (OLDER_LOCK, *JS_LOCKS) if purpose == "dev" else ()
    for name in (*LOCKS[purpose], *clients, "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def usable() -> bool:
    """Whether `.venv` has a Python that starts and is new enough."""
    probe = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", probe], check=False, capture_output=True).returncode == 0


def pip(*arguments: str, python: Path = PYTHON) -> None:
    """Run an environment's pip, quietly."""
    options = ("--quiet", "--disable-pip-version-check", "--no-input")
    subprocess.run([python, "-m", "pip", "install", *options, *arguments], cwd=ROOT, check=True)


def prepare_clients() -> None:
    """What the tests of client libraries need beside `.venv` itself: `.venv/older` and `.venv/js`."""
    older, js = VENV / "older", VENV / "js"
    print(f"Installing {OLDER_LOCK} into .venv/older", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", older], check=True)
    wheels = ("--require-hashes", "--only-binary=:all:", "--requirement", OLDER_LOCK)
    pip(*wheels, python=older / "bin" / "python")
    print("Installing tests/clients/js into .venv/js", flush=True)
    js.mkdir(exist_ok=True)
    for name in JS_LOCKS:
        shutil.copy(ROOT / name, js)
    # Node and npm are wheels of requirements-dev.lock
    npm = (PYTHON.with_name("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--silent")
    path = f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(npm, cwd=js, env={**os.environ, "PATH": path}, check=True)


def prepare(purpose: str) -> None:
    """Bring `.venv` up to date for `purpose`; at once where its stamp says that it is."""
    stamp = VENV / f".ostiary-{purpose}"
    wanted = fingerprint(purpose)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not usable():
        print("Creating .venv", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    for name, options in LOCKS[purpose].items():
        print(f"Installing {name}", flush=True)
        pip("--require-hashes", "--only-binary=:all:", *options, "--requirement", name)
    pip("--no-deps", "--no-build-isolation", "--editable", ".")  # the build backend is in the lock files
    if purpose == "dev":
        prepare_clients()
    stamp.write_text(wanted)


def main() -> int:
    """Prepare what the one argument names."""
    if sys.version_info < OLDEST:
        print(f"Ostiary needs Python {'.'.join(map(str, OLDEST))} or newer; this is {sys.version.split()[0]}.")
        return 1
    if sys.argv[1:] not in ([name] for name in LOCKS):
        print(__doc__)
        return 2
    try:
        prepare(sys.argv[1])
    except subprocess.CalledProcessError as failure:
        print(f"Setting up .venv failed (exit {failure.returncode}); what went wrong is above.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
