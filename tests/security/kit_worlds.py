"""A real gateway on SQLite or on PostgreSQL, and everything that it keeps. It must not look into its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kit_stored import files_below

from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.testing.postgres import PostgresServer, hosted_postgres

DATABASE, KEYSTORE = "ostiary", "keystore"


class World:
    """A running gateway with a data directory, a directory for temporary files and perhaps a server of its own."""

    def __init__(self, gateway: Gateway, root: Path, server: PostgresServer | None, env: Mapping[str, str]) -> None:
        self.gateway = gateway
        self.root = root
        self.server = server
        self._env = env

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the program, as the operator of this gateway runs it."""
        return run_command(self._env, self.gateway.data_dir, self.root, *words)

    def sinks(self) -> dict[str, bytes]:
        """All that is kept or said: files, temporary files, output, backups; on PostgreSQL its files, dump and log."""
        found = dict(files_below(self.root))
        found["output"] = self.gateway.output.encode()
        if self.server is not None:
            found |= self._server_sinks(self.server)
        return found

    def _server_sinks(self, server: PostgresServer) -> dict[str, bytes]:
        server.sql("CHECKPOINT")
        found = {f"dump of {name}": server.dump(name) for name in (DATABASE, KEYSTORE)}
        oids = server.sql(f"SELECT oid FROM pg_database WHERE datname IN ('{DATABASE}', '{KEYSTORE}')")
        for place in (*(f"base/{oid}" for (oid,) in oids), "pg_wal", "global", "pg_stat_tmp"):
            found |= dict(files_below(server.data / place))
        found["log of the server"] = server.log.read_bytes()
        return found

    def save(self) -> None:
        """Back up the database and the keystore into the directory that is searched."""
        for words in (("backup", "main.backup"), ("backup", "--keystore", "keystore.backup")):
            done = self.run(*words)
            assert done.returncode == 0, done.stderr
            (self.root / f"{words[-1]}.said").write_text(done.stdout + done.stderr)


@contextmanager
def world(
    engine: str,
    config: Mapping[str, Any],
    root: Path,
    *args: str,
    before: Callable[[Callable[..., subprocess.CompletedProcess[str]], Path], None] = lambda _run, _data: None,
) -> Iterator[World]:
    """A gateway at work. PostgreSQL logs every statement with its parameters.

    Args:
        before: called with a way to run commands and the data directory, before the gateway starts.
    """
    (root / "tmp").mkdir(parents=True)
    env = {"TMPDIR": str(root / "tmp"), "PYTHONASYNCIODEBUG": "1"}
    with ExitStack() as stack:
        server = None
        if engine == "postgresql":
            server = stack.enter_context(hosted_postgres(log_statement="all", log_parameter_max_length="-1"))
            env["DATABASE_URL"] = server.create_database(DATABASE)
            env["OSTIARY_KEYSTORE_URL"] = server.create_database(KEYSTORE)
        data = root / "data"
        before(partial(run_command, env, data, root), data)
        gateway = stack.enter_context(running_gateway(config, env=env, args=args, data_dir=data))
        yield World(gateway, root, server, env)


def run_command(env: Mapping[str, str], data: Path, here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the program, as the operator of that data directory runs it."""
    env = {"PATH": os.environ["PATH"], "OSTIARY_DATA_DIR": str(data), **env, "PYTHONASYNCIODEBUG": ""}
    command = [sys.executable, "-m", "ostiary.cli.main", *words]
    return subprocess.run(command, env=env, cwd=here, capture_output=True, text=True, check=False, timeout=120)
