"""`ostiary backup` and `ostiary restore`: the database, or the keystore, to a file and back. It must not make a key, a
keystore or a file where one is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ostiary.cli.clock import SystemClock
from ostiary.cli.unlock import key_slots, root_seals
from ostiary.config.load import load
from ostiary.config.problem import Severity
from ostiary.config.shapes import Loaded
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.backup import back_up, fresh_file
from ostiary.store.database import Database, connect
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.restore import examine, restore
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.keystore_file import keystore_copy, restore_keystore

DEFAULT_DIRECTORY, DATABASE = "ostiary-data", "ostiary.db"


class Place:
    """Where an instance lies, as its configuration says. `close` shuts what was opened.

    Args:
        config: the configuration file.
        environment: the process environment.
        file: the backup that needs the master key: none is made where it is missing.
    """

    def __init__(self, config: str | None, environment: Mapping[str, str], file: Path) -> None:
        self._loaded = _loaded(config, environment)
        self._environment = environment
        general = self._loaded.general
        self.directory = Path(general.data_dir or DEFAULT_DIRECTORY).absolute()
        self.url = general.database_url.reveal() if general.database_url else f"sqlite:///{self.directory / DATABASE}"
        self.region = general.region if environment.get("OSTIARY_REGION") else None
        self.slots: DatabaseKeySlots = key_slots(self._loaded, self.directory)
        self.seals = root_seals(
            self._loaded, environment, self.directory, [file, self.directory, file.absolute().parent]
        )
        self.clock = SystemClock()

    async def keyring(self) -> Keyring:
        """The keyring of a keystore that is there."""
        if self.slots.file is not None and not self.slots.file.exists():
            raise _refusal(
                f"there is no keystore {self.slots.file}: restore it first (ostiary restore --keystore FILE)"
            )
        return await open_keyring(self.slots, self.seals, self.clock, region=self.region, create=False)

    def database(self) -> Database:
        """The database. It is not connected yet."""
        return connect(self.url, strict=self._loaded.ostiary.store.strict_tls)

    async def close(self) -> None:
        """Close the keystore."""
        await self.slots.close()


def run(asked: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """`ostiary backup` and `ostiary restore`. The exit code: 0, or 1 with one line of what is wrong."""
    os.umask(0o077)
    config = asked.config or environment.get("CONFIG_FILE_PATH")
    if asked.command == "backup":
        work = _backup_keystore if asked.keystore else _backup
    else:
        work = _restore_keystore if asked.keystore else _examine if asked.check else _restore
    return _told(config, environment, work, Path(asked.file))


def _told(
    config: str | None, environment: Mapping[str, str], work: Callable[[Place, Path], Awaitable[str]], path: Path
) -> int:
    async def done() -> str:
        place = Place(config, environment, path)
        try:
            return await work(place, path)
        finally:
            await place.close()

    try:
        print(asyncio.run(done()))
    except Fault as fault:
        print(f"ostiary: {fault.public}", file=sys.stderr)
        return 1
    return 0


async def _backup(place: Place, path: Path) -> str:
    database = place.database()
    try:
        made = await back_up(database, await place.keyring(), place.clock, path)
    finally:
        await database.close()
    rows = sum(made.rows.values())
    return (
        f"{path}: {rows} rows of {len(made.rows)} tables, {made.size} bytes; the keystore and the journal are not in it"
    )


async def _restore(place: Place, path: Path) -> str:
    database = place.database()
    try:
        found = await restore(database, await place.keyring(), place.clock, path)
    finally:
        await database.close()
    return f"restored {_counted(found.rows, found.left_out)}"


async def _examine(place: Place, path: Path) -> str:
    found = await examine(await place.keyring(), path)
    return f"{path} is whole and can be restored with this keystore: {_counted(found.rows, found.left_out)}"


def _counted(rows: Mapping[str, int], left_out: Mapping[str, int]) -> str:
    destroyed = sum(left_out.values())
    text = f"{sum(rows.values()) - destroyed} rows of {len(rows)} tables"
    return f"{text}; {destroyed} rows of organisations whose keys were destroyed stay away" if destroyed else text


async def _backup_keystore(place: Place, path: Path) -> str:
    keyring = await place.keyring()
    copy = await keystore_copy(place.slots)
    with fresh_file(path) as file:
        file.write(copy)
    return f"{path}: the keystore, wrapped by master key {keyring.master}; keep it apart from backups of the database"


async def _restore_keystore(place: Place, path: Path) -> str:
    if place.slots.file is not None and place.slots.file.exists():
        raise _refusal(f"there is a keystore {place.slots.file} already: it is never replaced")
    contents = await restore_keystore(place.slots, place.seals, _bytes_of(path), place.region)
    return f"restored {len(contents.keys)} keys; now restore the database"


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refusal(f"the file {path} cannot be read ({error.strerror})") from None


def _loaded(config: str | None, environment: Mapping[str, str]) -> Loaded:
    loaded = load(config, environment)
    wrong = next((problem for problem in loaded.problems if problem.severity is Severity.ERROR), None)
    if wrong is not None:
        raise _refusal(f"the configuration cannot be used: {wrong}")
    return loaded


def _refusal(public: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, public, origin=Origin.GATEWAY)
