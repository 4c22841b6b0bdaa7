"""From the configuration to the keyring: which master key, keystore and database. It must not replace a lost key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ostiary.config.shapes import Loaded
from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.observe.log import log
from ostiary.store.keystore import FILE_NAME, DatabaseKeySlots
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.master import load_master_key
from ostiary.vault.wrapper import LocalSeal, RootSeal

DEFAULT_DIRECTORY = "ostiary-data"
DATABASE = "ostiary.db"
AGAIN_SECONDS = 2.0  # between two questions to a key service that cannot be reached


async def unlock(
    loaded: Loaded, environment: Mapping[str, str], directory: Path, clock: Clock, *, remains: Sequence[Path] = ()
) -> Keyring:
    """The keyring of this instance, made at the first start. Waits for a key service that is away.

    Args:
        remains: what an earlier start made: where one of these is there, neither a master key nor a keystore is made.

    Raises:
        Fault: INTERNAL, naming what is wrong and the remedy; UNAVAILABLE when the keystore cannot be reached.
    """
    slots = key_slots(loaded, directory)
    seals = root_seals(loaded, environment, directory, [*remains, *([slots.file] if slots.file else [])])
    try:
        seals()  # what is wrong with a key of our own is said before the keystore is touched
        _refuse_lost(slots.file, remains)
        return await _opened(slots, seals, clock, region_asked(loaded, environment))
    except BaseException:
        await slots.close()
        raise


def directory_of(loaded: Loaded) -> Path:
    """The data directory, which need not be there."""
    return Path(loaded.general.data_dir or DEFAULT_DIRECTORY).absolute()


def database_url(loaded: Loaded, directory: Path) -> str:
    """Where the database lies: what the configuration or `DATABASE_URL` names, else a file in the data directory."""
    url = loaded.general.database_url
    return url.reveal() if url is not None else f"sqlite:///{directory / DATABASE}"


def region_asked(loaded: Loaded, environment: Mapping[str, str]) -> str | None:
    """The region that the keystore has to be of; None where nobody says so, and it tells its own."""
    return loaded.general.region if environment.get("OSTIARY_REGION") else None


def key_slots(loaded: Loaded, directory: Path) -> DatabaseKeySlots:
    """Where the keystore lies: a file beside the database, or what `OSTIARY_KEYSTORE_URL` names."""
    url = loaded.general.keystore_url
    where = url.reveal() if url is not None else f"sqlite:///{directory / FILE_NAME}"
    return DatabaseKeySlots(where, strict=loaded.ostiary.store.strict_tls)


def root_seals(
    loaded: Loaded, environment: Mapping[str, str], directory: Path, needed_by: Sequence[Path]
) -> Callable[[], Sequence[RootSeal]]:
    """What holds the master key, looked at anew with each call: a rotation replaces the file."""
    if loaded.general.kms:
        from ostiary.vault.kms.configured import wrapper_from  # loads what speaks to key services, for few only

        seal = wrapper_from(loaded.general.kms, environment)
        return lambda: [seal]
    return lambda: [LocalSeal(load_master_key(directory, environment, needed_by=needed_by))]


async def _opened(
    slots: DatabaseKeySlots, seals: Callable[[], Sequence[RootSeal]], clock: Clock, region: str | None
) -> Keyring:
    while True:
        try:
            return await open_keyring(slots, seals, clock, region=region)
        except Fault as fault:
            if fault.retry is not Retry.SAME:
                raise
            log().warning("the key service does not answer; trying again", problem=fault.public)
            await asyncio.sleep(AGAIN_SECONDS)


def _refuse_lost(file: Path | None, remains: Sequence[Path]) -> None:
    made_before = next((path for path in remains if path.exists()), None)
    if made_before is None or file is None or file.exists():
        return
    public = f"the keystore {file} is missing, and {made_before} cannot be read without it"
    ways = "restore it: ostiary restore --keystore FILE"
    raise Fault(Kind.INTERNAL, f"{public}; {ways}", origin=Origin.GATEWAY)
