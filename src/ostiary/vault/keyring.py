"""The keys of an instance in memory, by organisation. It must not let an unwrapped key leave but as a `Scope`.

The root key is unwrapped once, by whatever holds the master key, and then opens everything else. Another process may
change the keystore at any time (`vault rotate`): `refresh` looks whether it did, and gives the scopes that are in use
their new versions, so that whoever holds one need not know.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from weakref import WeakValueDictionary

import msgspec

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.ids import time_ordered_id
from ostiary.vault.envelope import KEY_ID_LENGTH, KEY_LENGTH, SealBroken
from ostiary.vault.keystore import KEK, Contents, Edit, KeySlots, KeyState, Slot, SlotState, WrappedKey
from ostiary.vault.purpose import OF_EVERY_SCOPE, OF_THE_INSTANCE, Purpose
from ostiary.vault.root import Root, slot_context
from ostiary.vault.scope import INSTANCE, Loaded, Scope
from ostiary.vault.wrapper import RootSeal

MOST_SCOPES = 4096  # organisations whose keys are in memory at once, besides those that somebody holds
_MOST_TRIES = 100

Wrappers = Callable[[], Sequence[RootSeal]]


class Keyring:
    """Made by `open_keyring`.

    Attributes:
        instance: the keys of the instance itself.
        master: the id of the master key that opened the keystore.
    """

    def __init__(self, slots: KeySlots, wrappers: Wrappers, clock: Clock, root: Root, contents: Contents) -> None:
        self.slots = slots
        self.clock = clock
        self._wrappers = wrappers
        self._announced: list[RootSeal] = []
        self.root = root
        self.master = root.master
        self.instance = Scope(INSTANCE, root.instance, root.region, {})
        self._scopes: OrderedDict[str, Scope] = OrderedDict()
        # Those that somebody holds, too: a scope that fell out of the others still learns of new and destroyed keys.
        self._alive: WeakValueDictionary[str, Scope] = WeakValueDictionary()
        self._turn = asyncio.Lock()  # what was read first is loaded first
        self._load(contents, ())

    @property
    def instance_id(self) -> str:
        """The instance's id."""
        return self.root.instance

    @property
    def region(self) -> str:
        """The region that the instance belongs to."""
        return self.root.region

    async def organization(self, org_id: str) -> Scope:
        """The keys of an organisation; of the instance for "-".

        Raises:
            Fault: INTERNAL when it has none: they were destroyed, or it is none of this instance's.
        """
        if org_id == INSTANCE:
            return self.instance
        scope = self._scopes.get(org_id)
        if scope is not None:
            self._scopes.move_to_end(org_id)
            return scope
        async with self._turn:
            return self._kept(self._alive.get(org_id) or await self._found(org_id))

    async def create(self, org_id: str) -> Scope:
        """The keys of a new organisation; those it has, if it has some.

        Raises:
            Fault: INTERNAL when its keys were destroyed: an id is not used twice.
        """

        def made(contents: Contents) -> Edit | None:
            if any(dead.scope == org_id for dead in contents.tombstones):
                raise Fault(Kind.INTERNAL, f"the keys of organisation {org_id} are destroyed", origin=Origin.GATEWAY)
            if contents.of(org_id):
                return None
            return Edit(put_keys=self.root.fresh(org_id, OF_EVERY_SCOPE, 1, KeyState.PRIMARY, self.now()))

        await self.change(made, [org_id])
        return await self.organization(org_id)

    async def refresh(self) -> None:
        """Look at the keystore again, if it has changed.

        Raises:
            Fault: UNAVAILABLE when it cannot be asked; INTERNAL when the master key was replaced by one not given.
        """
        async with self._turn:
            await self._refresh()

    async def change(self, make: Callable[[Contents], Edit | None], scopes: Sequence[str] | None = None) -> Contents:
        """Change the keystore in one transaction, made anew as long as others are faster; the contents before it.

        Args:
            make: the change for what is there now; None for none.
            scopes: whose keys it has to see; None for all.
        """
        for _ in range(_MOST_TRIES):
            contents = await self.slots.read(scopes)
            if contents.generation != self.generation:
                await self.refresh()
            if contents.generation != self.generation:  # changed once more: the root may be another
                continue
            edit = make(contents)
            if edit is None:
                return contents
            if await self.slots.apply(edit, contents.generation):
                await self.refresh()
                return contents
        public = "the keystore is being changed by others all the time: try again"
        raise Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY, retry_after=1.0)

    def announce(self, wrapper: RootSeal) -> None:
        """This one will hold the master key, as soon as the keystore says so."""
        self._announced.insert(0, wrapper)

    def now(self) -> int:
        """Unix milliseconds."""
        return int(self.clock.now() * 1000)

    def key(self, purpose: Purpose) -> bytes:
        """A key of the instance."""
        return self.instance.key(purpose)

    def __repr__(self) -> str:
        return f"Keyring(instance={self.instance_id}, region={self.region}, master={self.master})"

    async def _refresh(self) -> None:
        if await self.slots.generation() == self.generation:
            return
        asked = tuple(self._alive)
        contents = await self.slots.read([INSTANCE, *asked])
        if not self.root.opens(contents.of(INSTANCE)):  # the root was renewed
            self.root = await opened_root(contents, [*self._announced, *self._wrappers()])
            self.master = self.root.master
        self._load(contents, asked)

    async def _found(self, org_id: str) -> Scope:
        """The keys of an organisation as the keystore has them now, read in the same state as the root in memory."""
        while True:
            await self._refresh()
            contents = await self.slots.read([org_id])
            if contents.generation == self.generation:
                break
        if not contents.keys:
            raise Fault(Kind.INTERNAL, f"organisation {org_id} has no keys on this instance", origin=Origin.GATEWAY)
        return Scope(org_id, self.instance_id, self.region, self.root.opened(contents.of(org_id)))

    def _kept(self, scope: Scope) -> Scope:
        self._alive[scope.id] = self._scopes[scope.id] = scope
        self._scopes.move_to_end(scope.id)
        while len(self._scopes) > MOST_SCOPES:
            self._scopes.popitem(last=False)
        return scope

    def _load(self, contents: Contents, asked: Iterable[str]) -> None:
        by_scope: dict[str, list[WrappedKey]] = defaultdict(list)
        for key in contents.keys:
            by_scope[key.scope].append(key)
        self.instance.replace(self.root.opened(by_scope[INSTANCE]))
        for org_id in asked:
            scope = self._alive.get(org_id)
            if scope is None:
                continue
            keys = self._whole(by_scope[org_id])
            if keys:
                scope.replace(keys)
            else:
                scope.forget()
                self._scopes.pop(org_id, None)
                del self._alive[org_id]
        self.generation = contents.generation

    def _whole(self, keys: Sequence[WrappedKey]) -> dict[Purpose, list[Loaded]]:
        """No keys where one is damaged: whoever asks for this organisation is told so, and nobody else is stopped."""
        try:
            return self.root.opened(keys)
        except SealBroken:
            return {}


async def open_keyring(
    slots: KeySlots, wrappers: Wrappers, clock: Clock, *, region: str | None = None, create: bool = True
) -> Keyring:
    """The keyring of the instance whose keystore this is; an empty keystore becomes that of a new instance.

    Args:
        slots: where the keystore lies.
        wrappers: what holds the master key, asked again whenever the root has to be unwrapped: the file may be another.
        clock: dates what is made.
        region: refused when the keystore is of another region; None takes what it says ("local" when new).
        create: whether a keystore may be made.

    Raises:
        Fault: INTERNAL for another master key, another region, an edited or an empty keystore; UNAVAILABLE when the
            keystore or the key service cannot be asked.
    """
    await slots.prepare()
    contents = await slots.read([INSTANCE])
    if contents.stamp is None:
        if not create:
            raise _refusal("the keystore is empty: restore it from its backup (ostiary restore --keystore)")
        await _establish(slots, wrappers()[0], clock, region or "local")
        contents = await slots.read([INSTANCE])
    stamp = contents.stamp
    if stamp is None:
        raise _refusal("the keystore has lost the row that says whose it is: restore it from its backup")
    if region is not None and region != stamp.region:
        raise _refusal(f"the keystore belongs to region {stamp.region}, the configuration to {region}")
    root = await opened_root(contents, wrappers())
    keyring = Keyring(slots, wrappers, clock, root, contents)
    if root.slot.state is not SlotState.ACTIVE:
        await keyring.change(lambda now: promotion(now, root.slot.id), [INSTANCE])
    return keyring


def promotion(contents: Contents, slot_id: str) -> Edit | None:
    """Make a staged slot the active one: the active one becomes the only previous one, other staged ones go.

    A slot that is the previous one stays what it is: whoever starts with the key before the last change is served, and
    told by `vault status`.
    """
    promoted = next((slot for slot in contents.slots if slot.id == slot_id), None)
    if promoted is None or promoted.state is not SlotState.STAGED:
        return None
    active = [slot for slot in contents.slots if slot.state is SlotState.ACTIVE]
    return Edit(
        put_slots=(
            *(msgspec.structs.replace(slot, state=SlotState.PREVIOUS) for slot in active),
            msgspec.structs.replace(promoted, state=SlotState.ACTIVE),
        ),
        drop_slots=tuple(slot.id for slot in contents.slots if slot not in (promoted, *active)),
    )


async def opened_root(contents: Contents, wrappers: Iterable[RootSeal]) -> Root:
    """The root key, by the first wrapper and slot that fit.

    Raises:
        Fault: INTERNAL where none does, naming the ids of both sides; UNAVAILABLE when a key service cannot be asked.
    """
    assert contents.stamp is not None
    tried = list(wrappers)
    away: Fault | None = None
    for slot in sorted(contents.slots, key=lambda slot: slot.state is not SlotState.ACTIVE):
        for wrapper in tried:
            if wrapper.kind != slot.kind or (wrapper.id != slot.wrapper and wrapper.kind == "local"):
                continue
            context = slot_context(contents.stamp.instance, contents.stamp.region, slot.id)
            try:
                return Root(await wrapper.unwrap(slot.wrapped, context), contents.stamp, slot)
            except SealBroken:
                continue
            except Fault as fault:
                away = away or fault
    if away is not None:
        raise away
    given = ", ".join(f"{wrapper.kind} {wrapper.id}" for wrapper in tried) or "none"
    known = ", ".join(f"{slot.kind} {slot.wrapper} ({slot.state})" for slot in contents.slots) or "none"
    raise _refusal(f"the master key ({given}) does not open the keystore, which expects: {known}")


async def _establish(slots: KeySlots, wrapper: RootSeal, clock: Clock, region: str) -> None:
    """Make the keys of a new instance, unless another process is faster."""
    now = int(clock.now() * 1000)
    instance = time_ordered_id(now, int.from_bytes(os.urandom(10), "big"))
    secret, slot_id = os.urandom(KEY_LENGTH), os.urandom(KEY_ID_LENGTH).hex()
    wrapped = await wrapper.wrap(secret, slot_context(instance, region, slot_id))
    slot = Slot(slot_id, SlotState.ACTIVE, wrapper.kind, wrapper.id, wrapped, now)
    root = Root.new(secret, instance, region, now, slot)
    keys = root.fresh(INSTANCE, OF_THE_INSTANCE, 1, KeyState.PRIMARY, now)
    await slots.apply(Edit(stamp=root.stamp, put_slots=(slot,), put_keys=keys), 0)


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)


__all__ = ["KEK", "Keyring", "Loaded", "open_keyring", "opened_root", "promotion"]
