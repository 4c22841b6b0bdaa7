"""`ostiary vault status | rotate | verify | shred`. It must not show a key, nor ask anything but for the name of what
is to be destroyed.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import mmap
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from ostiary.cli.certificates import write_certificate
from ostiary.cli.place import Place, bytes_of, refusal
from ostiary.cli.vault_status import show, status_of, when
from ostiary.core.fault import Fault
from ostiary.store.database import Database
from ostiary.store.instance import default_organization
from ostiary.store.rewrap import SealedValues
from ostiary.store.shredding import OrganizationStates
from ostiary.store.verify import Verified, verify
from ostiary.vault.certificate import certified
from ostiary.vault.keyring import Keyring
from ostiary.vault.master import ENV_FILE, ENV_VALUE, FILE_NAME, MasterKey
from ostiary.vault.rotation import Rotation, unfinished
from ostiary.vault.rotation_master import begun, finish, is_under_way, key_in, make_key, rotate_file, stage_other
from ostiary.vault.scope import INSTANCE
from ostiary.vault.shred import Organization, Shredding, delay_of
from ostiary.vault.wrapper import LOCAL, LocalSeal

JOURNAL = "journal"
TOLD_SECONDS = 2.0  # between two lines of progress
FAILED = 1


class Opened(msgspec.Struct, frozen=True):
    """An instance, opened."""

    place: Place
    keyring: Keyring
    database: Database
    environment: Mapping[str, str]


def run(asked: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """The exit code: 0; 1 where something is wrong, with a line that says what."""
    os.umask(0o077)
    work: Mapping[str, Callable[[Opened, argparse.Namespace], Awaitable[int]]] = {
        "status": _status, "rotate": _rotate, "verify": _verify, "shred": _shred,
    }  # fmt: skip

    async def done() -> int:
        async with _opened(asked.config or environment.get("CONFIG_FILE_PATH"), environment) as opened:
            return await work[asked.verb](opened, asked)

    try:
        return asyncio.run(done())
    except Fault as fault:
        print(f"ostiary: {fault.public}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("ostiary: stopped; run it again to go on", file=sys.stderr)
        return 130


@asynccontextmanager
async def _opened(config: str | None, environment: Mapping[str, str]) -> AsyncIterator[Opened]:
    place = Place(config, environment, Path.cwd())
    try:
        keyring = await place.keyring()
        database = place.database()
        try:
            yield Opened(place, keyring, database, environment)
        finally:
            await database.close()
    finally:
        await place.close()


# --- rotate ---


async def _rotate(opened: Opened, asked: argparse.Namespace) -> int:
    keyring = opened.keyring
    contents = await keyring.slots.read()
    both = not asked.master and not asked.data
    going_on = both and unfinished(contents) and not is_under_way(contents, _own_file(opened))
    if asked.master or (both and not going_on):
        await _rotate_master(opened, asked, alone=asked.master)
    if asked.master:
        return 0
    values = SealedValues(opened.database, keyring, Progress("sealing again").told)
    held = functools.partial(_in_journal, opened.place.directory / JOURNAL)
    rotation = Rotation(keyring, values, _say, held=held, grace=asked.grace)
    outcome = await rotation.run(keep=asked.keep)
    for one in values.broken:
        print(f"ostiary: {one.table} {one.row}: {one.what} does not hold", file=sys.stderr)
    if outcome.left or outcome.broken_rows:
        print(
            f"ostiary: {outcome.broken_rows} rows were left as they are, {outcome.left} values under old keys, which "
            "stay. Restore these rows from a backup or delete them, then run it again",
            file=sys.stderr,
        )
        return FAILED
    if asked.keep:
        _say("old keys are kept; the next run destroys them")
        return 0
    _say(f"done: {outcome.destroyed} old keys are destroyed. Backups made before need the keystore of their time")
    return 0


async def _rotate_master(opened: Opened, asked: argparse.Namespace, *, alone: bool) -> None:
    keyring, seal = opened.keyring, opened.place.seals()[0]
    if asked.to is not None:
        from ostiary.vault.kms.configured import wrapper_from  # loads what speaks to key services

        await stage_other(keyring, wrapper_from(asked.to, opened.environment), _say)
        _say(f"now start every process with OSTIARY_KMS={asked.to}, and run `ostiary vault rotate --master` there")
    elif asked.new_key_file is not None:
        new = _key_of(asked.new_key_file)
        await stage_other(keyring, LocalSeal(new), _say)
        _say(f"now start every process with the key of {new.source}, and run `ostiary vault rotate --master` there")
    elif begun(await keyring.slots.read([INSTANCE])) or seal.kind != LOCAL:
        file = _own_file(opened)
        await (finish(keyring, seal, _say) if file is None else rotate_file(keyring, file, _say))
    elif (file := _own_file(opened)) is not None:
        await rotate_file(keyring, file, _say)
    elif alone:
        public = f"the master key comes from {ENV_VALUE}, which cannot be changed from here"
        raise refusal(f"{public}: name the new one by --new-key-file PATH, or a key service by --to URI")
    else:
        _say(f"the master key comes from {ENV_VALUE} and stays: replace it by --master --new-key-file PATH")


def _key_of(name: str) -> MasterKey:
    """The master key in a file, made where there is none."""
    path = Path(name).absolute()
    return key_in(path) if path.exists() else make_key(path)


def _own_file(opened: Opened) -> Path | None:
    """The file that the master key is in, None where it comes from elsewhere."""
    if opened.place.seals()[0].kind != LOCAL or ENV_VALUE in opened.environment:
        return None
    return Path(opened.environment.get(ENV_FILE) or opened.place.directory / FILE_NAME).absolute()


def _in_journal(directory: Path, key: bytes) -> bool:
    """Whether an entry of the journal names this key."""
    for path in directory.glob("*.journal*"):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            if data.find(key) >= 0:
                return True
    return False


class Progress:
    """Says from time to time how far something is.

    Args:
        what: what is being done.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._rows = 0
        self._began = self._last = 0.0

    def told(self, table: str, rows: int) -> None:
        """So many more rows of this table were looked at."""
        self._rows += rows
        now = time.monotonic()
        if not self._began:
            self._began = self._last = now
        if now - self._last >= TOLD_SECONDS:
            self._last = now
            _say(f"{self._what}: {self._rows} rows in {now - self._began:.0f} s, now {table}")


# --- verify ---


async def _verify(opened: Opened, asked: argparse.Namespace) -> int:
    told = Progress("verifying").told if not asked.json else lambda _table, _rows: None
    result = await verify(opened.database, opened.keyring, told)
    if asked.json:
        _say(msgspec.json.encode({"values": result.values, **msgspec.to_builtins(result)}).decode())
    else:
        _show_verified(result)
    return FAILED if result.broken else 0


def _show_verified(result: Verified) -> None:
    for name, table in result.tables.items():
        opens = ", ".join(f"{column} {count}" for column, count in table.values.items())
        parts = [f"{table.rows} rows", opens, f"{table.macs} MACs", f"{table.indexes} indexes"]
        parts += [f"{table.destroyed} of destroyed keys"] if table.destroyed else []
        parts += [f"{table.broken} BROKEN"] if table.broken else []
        _say(f"{name}: {'; '.join(part for part in parts if part)}")
    for one in result.findings:
        print(f"ostiary: {one.table} {one.row}: {one.what} does not hold", file=sys.stderr)
    _say(f"{result.values} values open, {result.broken} rows are broken")


# --- status ---


async def _status(opened: Opened, asked: argparse.Namespace) -> int:
    counted = await SealedValues(opened.database, opened.keyring).count() if asked.count else None
    status = await status_of(opened.keyring, opened.place.seals()[0], counted)
    if asked.json:
        _say(msgspec.json.encode(status).decode())
    else:
        for line in show(status, opened.keyring.now()):
            _say(line)
    return 0


# --- shred ---


async def _shred(opened: Opened, asked: argparse.Namespace) -> int:
    keyring = opened.keyring
    if asked.check is not None:
        said = certified(keyring, bytes_of(Path(asked.check)))
        _say(f"the certificate holds: {len(said.keys)} keys of {said.organization}, {when(said.destroyed_at)}")
        return 0
    states = OrganizationStates(opened.database, keyring, opened.place.clock)
    shredding = Shredding(keyring, states, default_organization(keyring.instance_id), delay_of(opened.environment))
    if not asked.due:
        if asked.organization is None:
            raise refusal("name the organisation, or use --due or --check")
        organization = await shredding.candidate(asked.organization)
        if asked.undo:
            await shredding.undo(organization)
            _say(f"organisation {organization.id} goes on")
            return 0
        _confirm(organization, asked.confirm)
        due = await shredding.ask(organization)
        _say(f"organisation {organization.id} is refused from now on; its keys are destroyed {when(due)}")
        _say("until then: ostiary vault shred ORG --undo; from then on: ostiary vault shred --due")
        if due > keyring.now():
            return 0
    await shredding.due(_say)
    for one in await shredding.certificates():
        if path := write_certificate(opened.place.directory, one):
            _say(f"certificate: {path}")
    return 0


def _confirm(organization: Organization, given: str | None) -> None:
    """Have the name typed: nobody destroys another organisation by a slip.

    Raises:
        Fault: INVALID_REQUEST.
    """
    name = organization.name or organization.id
    if given is None:
        if not sys.stdin.isatty():
            raise refusal("type the name of the organisation again, after --confirm")
        print(
            f"This destroys all that is sealed of organisation {organization.id}. Type its name: ", end="", flush=True
        )
        given = sys.stdin.readline().rstrip("\n")
    if given != name:
        raise refusal("that is not the name of this organisation; nothing was changed")


def _say(line: str) -> None:
    print(line, flush=True)
