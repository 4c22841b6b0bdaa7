"""Who this database belongs to: instance, region and root key, written once. It must not change them afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sqlalchemy import insert, select

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.ids import time_ordered_id
from ostiary.store.database import Database, connect
from ostiary.store.migrate import migrate
from ostiary.store.tables import settings
from ostiary.vault.envelope import SealBroken
from ostiary.vault.keyring import Keyring, new_root, open_keyring
from ostiary.vault.master import MasterKey

DEFAULT_REGION = "local"


async def open_store(url: str, master: MasterKey, clock: Clock, region: str | None = None) -> Store:
    """The database at `url`, migrated, with its keyring open. Made at the first start.

    Args:
        url: `sqlite:///path`.
        master: wraps the root key.
        clock: dates the instance's id.
        region: refused when the database is of another region; None takes what it says ("local" when new).

    Raises:
        Fault: with a clear message, for a store of another region, master key or schema version.
    """
    database = connect(url)
    try:
        await migrate(database)
        return await _identified(database, master, clock, region)
    except BaseException:
        await database.close()
        raise


class Store:
    """An open database that knows whose it is."""

    def __init__(self, database: Database, keyring: Keyring, instance: str, region: str) -> None:
        self.database = database
        self.keyring = keyring
        self.instance = instance
        self.region = region

    async def close(self) -> None:
        """Close the database."""
        await self.database.close()


async def _identified(database: Database, master: MasterKey, clock: Clock, region: str | None) -> Store:
    found = await _settings(database)
    if not found:
        await _establish(database, master, clock, region or DEFAULT_REGION)
        found = await _settings(database)
    own_region, instance = found["region"].decode(), found["instance"].decode()
    if region is not None and region != own_region:
        raise _refusal(f"the database belongs to region {own_region}, the configuration to {region}")
    try:
        keyring = open_keyring(master, found["root"], instance, own_region)
    except SealBroken:
        expected = found["master"].decode()
        raise _refusal(
            f"the master key {master.id} from {master.source} does not open this database, which expects {expected}"
        ) from None
    return Store(database, keyring, instance, own_region)


async def _settings(database: Database) -> Mapping[str, bytes]:
    async with database.read() as connection:
        return dict((await connection.execute(select(settings.c.name, settings.c.value))).all())


async def _establish(database: Database, master: MasterKey, clock: Clock, region: str) -> None:
    instance = time_ordered_id(int(clock.now() * 1000), int.from_bytes(os.urandom(10), "big"))
    rows = {
        "instance": instance.encode(),
        "region": region.encode(),
        "master": master.id.encode(),
        "root": new_root(master, instance, region),
    }
    async with database.write() as connection:
        if (await connection.execute(select(settings.c.name).limit(1))).first() is None:
            await connection.execute(insert(settings), [{"name": name, "value": rows[name]} for name in sorted(rows)])


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
