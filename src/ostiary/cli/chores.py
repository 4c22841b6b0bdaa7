"""Work that comes due by itself: records past their time, organisations to be destroyed. It must not be hurried."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ostiary.cli.certificates import write_certificate
from ostiary.core.fault import Fault
from ostiary.observe.log import log
from ostiary.store.retention import A_DAY, Purged, Retention, Rules
from ostiary.store.shredding import OrganizationStates
from ostiary.vault.shred import Certified, Shredding, delay_of

if TYPE_CHECKING:
    from ostiary.cli.house import House

EXPIRY_SECONDS = 60.0  # between two looks whether the time of responses is over
SHRED_SECONDS = 600.0  # between two looks whether the keys of an organisation are to go


def retention(house: House) -> Retention:
    """The task that deletes old records, by the configuration in force."""

    def rules() -> Rules:
        general = house.loaded.general
        return Rules(keep=general.keep_seconds, every=min(general.purge_seconds, A_DAY))

    return Retention(house.store.database, house.names, house.clock, rules, done=_purged, failed=_failed)


async def forget_expired(house: House) -> None:
    """Delete responses whose time is over, for ever looking: also those of a time when more was allowed."""
    while True:
        try:
            await house.kept.delete_expired()
        except Fault as fault:
            log().warning("expired responses could not be deleted; trying again", problem=fault.public)
        await asyncio.sleep(EXPIRY_SECONDS)


async def shred_what_is_due(house: House) -> None:
    """Destroy the keys of organisations whose delay is over, for ever looking."""
    states = OrganizationStates(house.store.database, house.keyring, house.clock, alarm=house.alarm)
    shredding = Shredding(house.keyring, states, house.store.default_org, delay_of(house.environment))
    while True:
        await asyncio.sleep(SHRED_SECONDS)
        try:
            for one in await shredding.due(_say):
                _keep(house, one)
        except Fault as fault:
            log().warning("organisations that are to be destroyed could not be looked through", problem=fault.public)


def _keep(house: House, one: Certified) -> None:
    path = write_certificate(house.directory, one)
    log().warning("the keys of an organisation are destroyed", organization=one.organization, certificate=str(path))


def _say(_line: str) -> None:
    """What is said to an operator at a terminal is logged here by `_keep`."""


def _purged(purged: Purged) -> None:
    if purged.rows or purged.partitions:
        log().info(
            "old records are deleted",
            rows=purged.rows,
            partitions=purged.partitions,
            longest_ms=round(purged.longest * 1000, 1),
        )


def _failed(fault: Fault) -> None:
    log().warning("old records could not be deleted; trying again", problem=fault.public)
