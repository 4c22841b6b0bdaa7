"""Another master key, and another root under it. It must not leave a moment in which no key at hand opens the keystore.

A master key in a file is replaced in place:

    master.key.next is written                     nothing depends on it yet
    the keystore gets a slot for it                a start with either key works
    master.key.next becomes master.key             a start with the new key works
    the slot becomes the active one                likewise
    the root is renewed, under the new key alone   the old key opens nothing any more, and the old root neither

One from the environment or a key service is not ours to replace: its slot is staged, the first start with it makes it
the active one, and the next run renews the root.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.hierarchy import renew_root, stage
from ostiary.vault.keyring import Keyring, promotion
from ostiary.vault.keystore import Contents, Edit, SlotState
from ostiary.vault.master import ENV_FILE, LENGTH, MasterKey, load_master_key
from ostiary.vault.scope import INSTANCE
from ostiary.vault.wrapper import LOCAL, LocalSeal, RootSeal

NEXT = ".next"
_DRAFT = ".draft"

Say = Callable[[str], None]


def begun(contents: Contents) -> bool:
    """Whether a master key was promoted and the root not renewed since."""
    return any(slot.state is SlotState.PREVIOUS for slot in contents.slots)


def is_under_way(contents: Contents, file: Path | None) -> bool:
    """Whether a change of the master key was begun and has not ended."""
    return begun(contents) or (file is not None and _next(file).exists())


async def rotate_file(keyring: Keyring, file: Path, say: Say) -> str:
    """Replace the master key in this file, or go on with that; the id of the new one.

    Raises:
        Fault: INTERNAL where the file cannot be replaced, with what to do instead; UNAVAILABLE.
    """
    now, following = key_in(file), _next(file)
    contents = await keyring.slots.read([INSTANCE])
    if not following.exists() and begun(contents) and keyring.master == now.id:
        return await finish(keyring, LocalSeal(now), say)
    new = _following(following)
    say(f"master key {new.id} waits in {following}")
    if not any(slot.state is SlotState.STAGED and slot.wrapper == new.id for slot in contents.slots):
        await stage(keyring, LocalSeal(new))
    _replace(following, file, new)
    say(f"{file} holds master key {new.id}")
    await keyring.change(lambda there: _promoted(there, new.id), [INSTANCE])
    return await finish(keyring, LocalSeal(new), say)


async def stage_other(keyring: Keyring, seal: RootSeal, say: Say) -> None:
    """Let the master key that another seal holds open the keystore; the first start with it makes it the active one."""
    if seal.kind == LOCAL and seal.id == keyring.master:
        raise _refusal("this is the master key in use: name another one")
    slot = await stage(keyring, seal)
    say(f"master key {slot.wrapper} ({slot.kind}) opens the keystore from its first start on")


async def finish(keyring: Keyring, seal: RootSeal, say: Say) -> str:
    """Renew the root under the key in use; the id of the key."""
    await renew_root(keyring, seal)
    say(f"the root is renewed; master key {keyring.master} ({seal.kind}) is the only one that opens the keystore")
    return keyring.master


def key_in(file: Path) -> MasterKey:
    """The master key in a file that is there.

    Raises:
        Fault: INTERNAL.
    """
    return load_master_key(file.parent, {ENV_FILE: str(file)})


def make_key(file: Path) -> MasterKey:
    """A new master key in a new file of mode 0600, which is on the disk.

    Raises:
        Fault: INTERNAL where the file exists or cannot be written.
    """
    draft = file.with_name(file.name + _DRAFT)
    try:
        draft.unlink(missing_ok=True)  # of a run that was killed
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(base64.b64encode(os.urandom(LENGTH)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.link(draft, file)
        draft.unlink()
        _sync(file.parent)
    except OSError as error:
        public = f"a master key cannot be written to {file} ({error.strerror})"
        raise _refusal(f"{public}; name a file by --new-key-file, and where processes find it afterwards") from None
    return key_in(file)


def _next(file: Path) -> Path:
    return file.with_name(file.name + NEXT)


def _following(file: Path) -> MasterKey:
    """The key that is to come: made now, or by a run that was killed."""
    return key_in(file) if file.exists() else make_key(file)


def _replace(following: Path, file: Path, new: MasterKey) -> None:
    try:
        following.replace(file)
        _sync(file.parent)
    except FileNotFoundError:  # another run was faster
        if key_in(file).id != new.id:
            raise _refusal("another rotation of the master key is under way: wait for its end") from None
    except OSError as error:
        public = f"{file} cannot be replaced ({error.strerror}): put the contents of {following} there by hand"
        raise _refusal(f"{public}, start the gateway, and run this again") from None


def _promoted(contents: Contents, master: str) -> Edit | None:
    staged = next((one for one in contents.slots if one.wrapper == master and one.state is SlotState.STAGED), None)
    return None if staged is None else promotion(contents, staged.id)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
