"""Whose database this is, and whether it may be used yet. It must not write into a database that is not ours.

The keystore says which instance this is; the database carries a stamp that has to say the same, under a MAC. A store
can be made while its database is down: nothing passes then, everybody gets UNAVAILABLE, and `prepare` is tried again
until it succeeds. What cannot get better by waiting is refused with what to do about it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.ids import time_ordered_id
from ostiary.store import partitions
from ostiary.store.database import CONNECTIONS, Database, Gate, connect
from ostiary.store.directory import establish
from ostiary.store.migrate import migrate
from ostiary.store.rowmac import check, stamped
from ostiary.store.schema.people import organizations
from ostiary.store.schema.stamp import stamp
from ostiary.vault.keyring import Keyring

NOT_YET = "the database is not ready yet: it is asked again and again"


class Store:
    """A database and the keys to it.

    Args:
        database: nothing is asked of it before `prepare`.
        keyring: the instance that it has to belong to.
        clock: dates what is made at the first start.

    Attributes:
        database: what repositories work with: UNAVAILABLE until it is prepared.
        default_org: id of the organisation of whatever names none; known without the database.
    """

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self._raw = database
        self._gate = Gate()
        self._gate.shut(NOT_YET)
        self._clock = clock
        self.database = database.behind(self._gate)
        self.keyring = keyring
        self.default_org = default_organization(keyring.instance_id)

    @property
    def instance(self) -> str:
        """The instance's id."""
        return self.keyring.instance_id

    @property
    def region(self) -> str:
        """The region that it belongs to."""
        return self.keyring.region

    @property
    def waits_for(self) -> str | None:
        """Why the database cannot be used yet; None when it can."""
        return self._gate.closed

    async def prepare(self) -> None:
        """Migrate the database, see that it is ours, and make what a first start needs. Harmless when done again, and
        when another process does it at the same time.

        Raises:
            Fault: UNAVAILABLE when it is worth trying again; INTERNAL when it is not: the database belongs to
                somebody else, is newer, damaged, or a migration failed. Nothing is written then.
        """
        try:
            await migrate(self._raw, self._clock)
            await self._identify()
            if not await self._has_default():
                await establish(self._raw, self.keyring, self._clock, self.default_org)
        except Fault as fault:
            self._gate.shut(fault.public)
            raise
        with contextlib.suppress(Fault):  # a month that is not there yet costs nothing but a move later
            await partitions.ensure_around(self._raw, self._now())
        self._gate.open()

    async def close(self) -> None:
        """Close the database."""
        self._gate.shut("the store is closed")
        await self._raw.close()

    async def _identify(self) -> None:
        """Hold the database's stamp against the keystore's; stamp a new database."""
        found = await self._stamp()
        if found is None:
            await self._put_stamp()
            found = await self._stamp()
        if found is None:
            raise _refusal("the database has lost the row that says whose it is: restore it from a backup")
        if found["instance"] != self.instance:
            raise _refusal(
                f"the database belongs to instance {_shown(found['instance'])}, the keystore to {self.instance}: "
                "correct the database URL, or restore the keystore that belongs to it"
            )
        if found["region"] != self.region:
            raise _refusal(f"the database belongs to region {_shown(found['region'])}, the keystore to {self.region}")
        if not check(self.keyring.instance, stamp.name, found):
            await self.keyring.refresh()
            if not check(self.keyring.instance, stamp.name, found):
                raise _refusal("the row that says whose database it is was edited: restore it from a backup")
        if found["default_org"] != self.default_org:
            raise _refusal("the database names another default organisation than this instance has")

    async def _has_default(self) -> bool:
        query = select(organizations.c.id).where(organizations.c.id == self.default_org)
        async with self._raw.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def _stamp(self) -> Mapping[str, Any] | None:
        async with self._raw.read() as connection:
            found = (await connection.execute(select(stamp))).mappings().first()
        return None if found is None else dict(found)

    async def _put_stamp(self) -> None:
        """Only into a database in which nothing is: a stamp that was deleted must not make room for another."""
        values = {
            "id": 1,
            "instance": self.instance,
            "region": self.region,
            "default_org": self.default_org,
            "created_at": self._now(),
        }
        try:
            async with self._raw.write() as connection:
                if (await connection.execute(select(organizations.c.id).limit(1))).first() is None:
                    await connection.execute(insert(stamp), stamped(self.keyring.instance, stamp.name, values))
        except IntegrityError:  # another process was first
            return

    def _now(self) -> int:
        return int(self._clock.now() * 1000)


def open_store(
    url: str, keyring: Keyring, clock: Clock, *, strict: bool = False, connections: int = CONNECTIONS
) -> Store:
    """The store at `url`, which nobody has asked anything yet: `prepare` it. See `database.connect`."""
    return Store(connect(url, strict=strict, connections=connections), keyring, clock)


def default_organization(instance: str) -> str:
    """The id of the default organisation: a function of the instance's, so that all processes know it at once."""
    digest = hashlib.sha256(f"ostiary/default-organisation/{instance}".encode()).digest()
    milliseconds = int(instance.replace("-", "")[:12], 16)
    return time_ordered_id(milliseconds, int.from_bytes(digest, "big"))


def _shown(value: str) -> str:
    """A value of a stranger's database, as it may be repeated."""
    return "".join(letter for letter in value[:64] if letter.isalnum() or letter in "-_")


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
