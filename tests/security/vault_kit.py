"""What the tests of the vault's commands share: an instance with something of every kind in it, and the commands."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from ostiary.cli.clock import SystemClock
from ostiary.core.secret import Secret
from ostiary.store.credentials import CredentialRepository
from ostiary.store.database import Database, connect
from ostiary.store.directory import Directory
from ostiary.store.instance import Store
from ostiary.store.keys import KeyRepository
from ostiary.store.keystore import FILE_NAME, DatabaseKeySlots
from ostiary.store.models import ModelRepository
from ostiary.store.names import Names
from ostiary.store.rows import CredentialRow, KeyRow, ModelRow
from ostiary.store.verify import Verified, verify
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.master import load_master_key
from ostiary.vault.wrapper import LocalSeal

CLOCK = SystemClock()
NOW = int(CLOCK.now() * 1000)

# A process that has loaded everything and makes a child for each line it reads: the environment, where to write what it
# says, and a command, which runs as from a shell. It writes the child's number, and how it ended once asked: until
# then the number is nobody else's.
NURSERY = """
import json, os, sys
import ostiary.cli.vault, ostiary.store.sqlite
from ostiary.cli.main import main
for line in sys.stdin:
    environment, out, error, words = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.clear()
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        os.dup2(os.open(error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        code = 70
        try:
            code = main(words)
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Commands as processes of their own, which can be killed, without the time that loading everything takes."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._out, self._error = (Path(self._directory.name) / name for name in ("out", "error"))
        self._mother = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, environment: Mapping[str, str], *words: str) -> int:
        """Begin a command; the number of its process."""
        self._tell(json.dumps([dict(environment), str(self._out), str(self._error), words]))
        return self._told()

    def end(self) -> int:
        """How the last one ended: its exit code, or minus the signal."""
        self._tell("")
        return self._told()

    def kill(self, process: int) -> None:
        """SIGKILL, which one that has ended does not feel."""
        os.kill(process, signal.SIGKILL)

    def said(self) -> tuple[str, str]:
        """What the last one wrote, to standard output and to standard error."""
        return self._out.read_text(), self._error.read_text()

    def close(self) -> None:
        """End the mother, who has no child any more."""
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.close()
        self._mother.wait(10)
        self._mother.stdout.close()
        self._directory.cleanup()

    def _tell(self, line: str) -> None:
        assert self._mother.stdin is not None
        self._mother.stdin.write(line + "\n")
        self._mother.stdin.flush()

    def _told(self) -> int:
        assert self._mother.stdout is not None
        return int(self._mother.stdout.readline())


@functools.cache
def nursery() -> Nursery:
    """One for the whole session."""
    made = Nursery()
    atexit.register(made.close)
    return made


class Instance:
    """An instance in a directory, whose commands run as they do for an operator."""

    def __init__(self, directory: Path, database: str | None = None) -> None:
        self.directory = directory
        self.url = database or f"sqlite:///{directory}/ostiary.db"
        self.environment = {"OSTIARY_DATA_DIR": str(directory), "PATH": os.environ["PATH"], "HOME": str(directory)}
        if database is not None:
            self.environment["DATABASE_URL"] = database

    @asynccontextmanager
    async def keyring(self) -> AsyncIterator[Keyring]:
        """The keys, opened as a start does it."""
        slots = DatabaseKeySlots(f"sqlite:///{self.directory / FILE_NAME}")
        try:
            yield await open_keyring(slots, lambda: [LocalSeal(load_master_key(self.directory, {}))], CLOCK)
        finally:
            await slots.close()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Keyring, Database]]:
        """The keys and the database."""
        async with self.keyring() as keyring:
            database = connect(self.url)
            try:
                yield keyring, database
            finally:
                await database.close()

    async def verified(self) -> Verified:
        """What is found when everything is opened."""
        async with self.opened() as (keyring, database):
            return await verify(database, keyring)

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `ostiary vault` with these words to its end."""
        nursery().begin({**self.environment, **(environment or {})}, "vault", *words)
        code = nursery().end()
        return subprocess.CompletedProcess(words, code, *nursery().said())


def content_of(path: Path) -> bytes:
    """The bytes of a file that SQLite may have open in this process, read by another: to close it drops its locks."""
    return subprocess.run(["cat", str(path)], capture_output=True, check=True, timeout=30).stdout


async def filled(instance: Instance, *, keys: int = 40, end_users: int = 200, models: int = 5) -> None:
    """Put something of every kind into a new instance, of the default organisation and of `acme` and `globex`."""
    instance.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with instance.opened() as (keyring, database):
        store = Store(database, keyring, CLOCK)
        await store.prepare()
        book = Directory(store.database, keyring, CLOCK, store.default_org)
        orgs = [store.default_org, await book.organization("acme"), await book.organization("globex")]
        repository = KeyRepository(store.database, keyring, CLOCK, book)
        for number in range(keys):
            org = orgs[number % 3]
            await repository.add(a_key(number, org, await book.team(org, "night"), await book.user(org, "ada")))
        names = Names(store.database, keyring, CLOCK)
        await names.resolve([(orgs[number % 3], "end_user", f"end-user-{number}") for number in range(end_users)])
        await names.resolve([(org, "tag", f"tag-{number}") for org in orgs for number in range(5)])
        for number in range(models):
            await ModelRepository(store.database, keyring, CLOCK).add(a_model(number))
        credentials = CredentialRepository(store.database, keyring, CLOCK)
        for org in (*orgs, "-"):
            await credentials.add(a_credential(org))


def a_key(number: int, org: str, team: str, user: str) -> KeyRow:
    """A key with an alias, a team and a user."""
    return KeyRow(
        id=f"key-{number:06}", digest=number.to_bytes(32, "big"), hint="sk-...abcd", alias=f"alias-{number}",
        organization_id=org, team_id=team, user_id=user, budget_from=NOW, created_at=NOW + number, updated_at=NOW,
    )  # fmt: skip


def a_model(number: int) -> ModelRow:
    """A deployment whose parameters open for one origin only."""
    return ModelRow(
        id=f"model-{number}", model_name="m", origin="https://api.example:443",
        litellm_params={"model": "openai/x", "api_key": Secret(f"sk-{number}")}, model_info={"id": f"model-{number}"},
        created_at=NOW, created_by="", updated_at=NOW, updated_by="",
    )  # fmt: skip


def a_credential(org: str) -> CredentialRow:
    """A named credential for one origin."""
    return CredentialRow(
        name="provider", provider="openai", origin="https://api.example:443", values={"api_key": Secret("sk-c")},
        organization_id=org, created_at=NOW, updated_at=NOW,
    )  # fmt: skip
