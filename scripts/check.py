"""Runs every check that needs no running gateway, and says at the end which failed. It must not change a file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SCRIPT = (sys.executable,)
CHECKS: dict[str, tuple[str | Path, ...]] = {
    "format": (BIN / "ruff", "format", "--quiet", "--check", "."),
    "lint": (BIN / "ruff", "check", "--quiet", "."),
    "types": (BIN / "mypy", "--no-error-summary"),
    "types of scripts": (BIN / "mypy", "--no-error-summary", "--strict", "scripts", "bench"),
    "import rules": (BIN / "lint-imports", "--no-logo"),
    "module sizes": (*SCRIPT, "scripts/module_sizes.py"),
    "house rules": (*SCRIPT, "scripts/house_rules.py"),
    "attack list": (*SCRIPT, "scripts/attacks.py"),
    "generated docs": (*SCRIPT, "scripts/build_docs.py", "--check"),
}


def main() -> int:
    """Run all checks; the output of those that fail is shown."""
    failed = []
    for name, command in CHECKS.items():
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:<18}{verdict:<8}{time.monotonic() - started:5.1f} s", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print(done.stdout, flush=True)
    print(f"failed: {', '.join(failed)}" if failed else f"all {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
