"""Follows the store and the keystore: reaches them, notices when they are away, and when their keys turned over.

It must not stand in the way of a request: those in the data plane ask nobody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ostiary.control.compile import StoredModel
from ostiary.core.fault import Fault, Kind
from ostiary.core.ids import random_tail
from ostiary.observe.log import log
from ostiary.store.shredding import OrganizationStates
from ostiary.vault.keystore import Holder

if TYPE_CHECKING:
    from ostiary.cli.house import House

LOOK_SECONDS = 1.0  # between two looks at the store, and at the keystore
HOLD_SECONDS = 30.0  # between two words to the keystore that this process lives


class StoreWatch:
    """One per process.

    Args:
        house: whose store it is.
        grace_seconds: how long known keys go on while the store is away.
        entropy: makes this process's name in the keystore.
    """

    def __init__(self, house: House, grace_seconds: float, entropy: int) -> None:
        self._house = house
        self._states = OrganizationStates(house.store.database, house.keyring, house.clock, alarm=house.alarm)
        self._grace = grace_seconds
        self._holder = random_tail(entropy)
        self._held: tuple[int, float] = (-1, 0.0)  # the generation last told, and when
        self._away_since: float | None = None
        self._suspended = False
        self.ready = False  # the store has been reached once, and is ours
        self.store_problem = ""  # why waiting does not help: the store is not for this process
        self.vault_problem = ""  # what is wrong with the keystore

    @property
    def well(self) -> bool:
        """The store answered when it was last asked."""
        return self.ready and self._away_since is None

    @property
    def suspended(self) -> bool:
        """The store has been away for longer than known keys may go on."""
        return self._suspended

    async def reach(self) -> None:
        """Make the store ready and put its models in force.

        Raises:
            Fault: UNAVAILABLE when it cannot be reached: try again; any other: the store is not for this process.
        """
        house = self._house
        await house.store.prepare()
        house.plane.keys.close_organizations(await self._states.closed())
        house.stored = tuple(
            StoredModel(row.id, row.model_name, row.litellm_params, row.model_info) for row in await house.models.all()
        )
        house.put_in_force(house.compile(house.loaded, house.stored))
        self.ready = True

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
                self._came_back()
            except Fault as fault:
                self._went_away(fault)
            await self.follow_keys()

    async def _look(self) -> None:
        if not self.ready:
            await self.reach()
            return
        self._house.plane.keys.close_organizations(await self._states.closed())

    def _came_back(self) -> None:
        if self._away_since is not None:
            log().info(
                "the store answers again", away_seconds=round(self._house.clock.monotonic() - self._away_since, 1)
            )
        self._away_since = None
        self._suspended = False
        self.store_problem = ""

    def _went_away(self, fault: Fault) -> None:
        house, now = self._house, self._house.clock.monotonic()
        if self._away_since is None:
            self._away_since = now
            log().error("the store cannot be asked; known keys go on", problem=fault.public, grace_seconds=self._grace)
        if fault.kind is not Kind.UNAVAILABLE and fault.public != self.store_problem:
            self.store_problem = fault.public
            log().critical("the store is not for this process", problem=fault.public)
        if not self._suspended and now - self._away_since >= self._grace:
            self._suspended = True
            house.plane.keys.suspend()
            log().error("the store has been away for too long: known keys are refused until it answers")

    async def follow_keys(self) -> None:
        """Load what is new in the keystore, and say there that this process has it. Does not raise."""
        keyring, now = self._house.keyring, self._house.clock.monotonic()
        try:
            await keyring.refresh()
            generation, told = self._held
            if generation != keyring.generation or now - told >= HOLD_SECONDS:
                await keyring.slots.hold(Holder(self._holder, keyring.generation, keyring.now()))
                self._held = keyring.generation, now
            if generation != keyring.generation:
                self._keys_changed()
            self.vault_problem = ""
        except Fault as fault:
            if not self.vault_problem:
                log().error("the keystore cannot be read; the keys in memory go on", problem=fault.public)
            self.vault_problem = fault.public

    def _keys_changed(self) -> None:
        """New keys are used from here on; what was opened under destroyed ones is forgotten."""
        self._house.journal.renew()
        self._house.book.forget()
        self._house.names.clear()

    async def close(self) -> None:
        """Tell the keystore that this process has ended, if it can be told."""
        try:
            await self._house.keyring.slots.release(self._holder)
        except Fault as fault:
            log().warning("the keystore was not told of the end", problem=fault.public)
