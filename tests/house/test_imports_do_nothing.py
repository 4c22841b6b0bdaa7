"""Importing any module of the package opens no file and no socket, starts nothing and changes nothing outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# Runs in a process of its own: an audit hook cannot be taken away again.
WATCH = """
import importlib, json, os, pkgutil, sys, threading

QUIET = {"import", "exec", "compile", "marshal.loads", "marshal.load", "object.__getattr__", "object.__setattr__",
         "code.__new__", "sys._getframe", "builtins.id", "function.__new__", "object.__delattr__", "os.fspath",
         "os.listdir", "os.scandir", "ctypes.dlsym"}
seen = []

def hook(event, arguments):
    if event in QUIET or event.startswith("gc."):
        return
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "importlib" in name:  # another module's doing, or the import system reading one
            return
        if os.sep + "ostiary" + os.sep in name:
            seen.append(f"{name.rpartition(os.sep + 'ostiary' + os.sep)[2]}:{frame.f_lineno} {event}")
            return
        frame = frame.f_back

import ostiary
names = [m.name for m in pkgutil.walk_packages(ostiary.__path__, "ostiary.")] + sys.argv[1:]
before = dict(os.environ)
sys.addaudithook(hook)
for name in names:
    if not name.endswith(("__main__", "migrations.env")):  # a program, and a script that Alembic runs
        importlib.import_module(name)
print(json.dumps({"seen": seen, "modules": len(names), "threads": threading.active_count(),
                  "environment": before != dict(os.environ)}))
"""


def watch(*more: str, path: str = "") -> dict[str, object]:
    """Import the package, and the modules named, in a fresh process; what happened on the way."""
    code = f"import sys; sys.path.insert(0, {path!r})\n{WATCH}" if path else WATCH
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *more], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_importing_every_module_has_no_effect() -> None:
    seen = watch()
    assert seen["seen"] == []
    assert seen["threads"] == 1
    assert seen["environment"] is False
    assert isinstance(seen["modules"], int)
    assert seen["modules"] > 10


def test_the_watch_sees_a_module_that_reads_a_file_and_opens_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / "ostiary"  # the watch goes by the folder's name
    folder.mkdir()
    (folder / "planted.py").write_text("import socket\nopen(__file__).close()\nsocket.socket().close()\n")
    seen = watch("planted", path=str(folder))["seen"]
    assert seen == ["planted.py:2 open", "planted.py:3 socket.__new__"]
