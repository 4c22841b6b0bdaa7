"""The end of an organisation's keys: asked for, waited for, done, certified. It must not destroy a key before its time.

A destruction cannot be undone, so that it waits, seven days unless the operator says otherwise, and can be called off
until then. Meanwhile the organisation is refused. The delay is what stands in the place of a second person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.certificate import certify
from ostiary.vault.hierarchy import destroy_scope
from ostiary.vault.keyring import Keyring
from ostiary.vault.rotation import Say, known_to_all

ENV_DELAY = "OSTIARY_SHRED_DELAY_DAYS"
DEFAULT_DAYS = 7.0
MOST_DAYS = 365.0
DAY = 86_400_000  # milliseconds

ACTIVE, SHREDDING, SHREDDED = "active", "shredding", "shredded"


class Organization(msgspec.Struct, frozen=True):
    """An organisation as this needs it. `changed_at` is Unix milliseconds; `name` is empty once its keys are gone."""

    id: str
    name: str
    state: str
    changed_at: int


class Organizations(Protocol):
    """Where organisations are kept. Every method raises a Fault UNAVAILABLE when it cannot be asked."""

    async def find(self, name_or_id: str) -> Organization | None:
        """The one of this name or id; None where there is none, or its row was edited."""
        ...

    async def in_state(self, state: str) -> list[Organization]:
        """All in this state."""
        ...

    async def change(self, org_id: str, before: str, after: str) -> bool:
        """Put one into another state; False where it is not in the state before any more."""
        ...


class Certified(msgspec.Struct, frozen=True):
    """An organisation whose keys are gone, and the certificate of that."""

    organization: str
    keys: int
    certificate: bytes


class Shredding:
    """Destroys organisations' keys.

    Args:
        keyring: where they are.
        organizations: who there is.
        default_org: who cannot be destroyed.
        delay_days: from the wish to the deed.
    """

    def __init__(
        self, keyring: Keyring, organizations: Organizations, default_org: str, delay_days: float = DEFAULT_DAYS
    ) -> None:
        self._keyring = keyring
        self._organizations = organizations
        self._default = default_org
        self._delay = int(delay_days * DAY)

    async def candidate(self, name_or_id: str) -> Organization:
        """The organisation that is meant.

        Raises:
            Fault: INVALID_REQUEST where there is none, or it cannot be destroyed.
        """
        found = await self._organizations.find(name_or_id)
        if found is None:
            raise _refusal("there is no organisation of this name or id")
        if found.id == self._default:
            raise _refusal("the default organisation cannot be destroyed: whatever names no organisation belongs to it")
        return found

    async def ask(self, organization: Organization) -> int:
        """Refuse the organisation from now on; when its keys go, in Unix milliseconds.

        Raises:
            Fault: INVALID_REQUEST where that is done already.
        """
        if organization.state == SHREDDED:
            raise _refusal("its keys are destroyed already")
        if organization.state != SHREDDING and not await self._organizations.change(
            organization.id, organization.state, SHREDDING
        ):
            raise _refusal("the organisation was changed meanwhile: try again")
        now = await self._organizations.find(organization.id)
        return (now or organization).changed_at + self._delay

    async def undo(self, organization: Organization) -> None:
        """Let the organisation go on.

        Raises:
            Fault: INVALID_REQUEST where it is too late, or nothing to undo.
        """
        if organization.state == SHREDDED or await self._is_dead(organization.id):
            raise _refusal("its keys are destroyed: nothing brings them back")
        if organization.state != SHREDDING or not await self._organizations.change(organization.id, SHREDDING, ACTIVE):
            raise _refusal("its keys are not about to be destroyed")

    async def due(self, say: Say) -> list[Certified]:
        """Destroy the keys whose time has come. Killed in the midst of it, it goes on when it is called again.

        Raises:
            Fault: UNAVAILABLE.
        """
        done, now = [], self._keyring.now()
        for one in await self._organizations.in_state(SHREDDING):
            if one.id == self._default or one.changed_at + self._delay > now:
                continue
            dead = await destroy_scope(self._keyring, one.id)
            await self._organizations.change(one.id, SHREDDING, SHREDDED)
            await known_to_all(self._keyring, "forget the destroyed keys", say)
            done.append(Certified(one.id, len(dead.keys), certify(self._keyring, dead)))
            say(f"organisation {one.id}: {len(dead.keys)} keys are destroyed")
        return done

    async def certificates(self) -> list[Certified]:
        """The certificates of all that was ever destroyed."""
        dead = (await self._keyring.slots.read([])).tombstones
        return [Certified(one.scope, len(one.keys), certify(self._keyring, one)) for one in dead]

    async def _is_dead(self, org_id: str) -> bool:
        return any(one.scope == org_id for one in (await self._keyring.slots.read([])).tombstones)


def delay_of(environment: Mapping[str, str]) -> float:
    """The delay that the operator wants, in days.

    Raises:
        Fault: INVALID_REQUEST for anything but a number from 0 to 365.
    """
    text = environment.get(ENV_DELAY, str(DEFAULT_DAYS))
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0.0 <= days <= MOST_DAYS:
        raise _refusal(f"{ENV_DELAY} must be a number of days from 0 to {MOST_DAYS:g}")
    return days


def _refusal(public: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, public, origin=Origin.GATEWAY)
