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

from ostiary.cli.place import Place, bytes_of, refusal
from ostiary.core.fault import Fault
from ostiary.store.backup import back_up, fresh_file
from ostiary.store.restore import examine, restore
from ostiary.vault.keystore_file import keystore_copy, restore_keystore


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
        raise refusal(f"there is a keystore {place.slots.file} already: it is never replaced")
    contents = await restore_keystore(place.slots, place.seals, bytes_of(path), place.region)
    return f"restored {len(contents.keys)} keys; now restore the database"
