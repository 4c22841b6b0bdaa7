"""The keystore as one file, for its backup: every key in it is wrapped. It must not hold what opens them.

A line that says what it is, a line with a digest of the rest, and the contents as JSON. The digest finds damage, not
edits: those are found when the keys are unwrapped, each of which is bound to its place.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.keyring import Wrappers, opened_root
from ostiary.vault.keystore import Contents, Edit, KeySlots

FIRST_LINE = b"ostiary keystore 1"


async def keystore_copy(slots: KeySlots) -> bytes:
    """The whole keystore, in one consistent view.

    Raises:
        Fault: INTERNAL where it is empty; UNAVAILABLE where it cannot be asked.
    """
    contents = await slots.read()
    if contents.stamp is None:
        raise _refusal("the keystore is empty: there is nothing to back up")
    body = msgspec.json.encode(contents)
    return b"\n".join((FIRST_LINE, hashlib.sha256(body).hexdigest().encode(), body))


async def restore_keystore(slots: KeySlots, wrappers: Wrappers, data: bytes, region: str | None = None) -> Contents:
    """Write a copy into an empty keystore, once the master key has opened it; what was written.

    Args:
        slots: where to.
        wrappers: what holds the master key.
        data: what `keystore_copy` gave.
        region: refused when the copy is of another; None takes what it says.

    Raises:
        Fault: INTERNAL where the copy is damaged, of another region or master key, or there is a keystore already;
            UNAVAILABLE where it cannot be written.
    """
    contents = read_keystore_copy(data)
    assert contents.stamp is not None
    if region is not None and contents.stamp.region != region:
        raise _refusal(f"the keystore is of region {contents.stamp.region}, the configuration of {region}")
    await opened_root(contents, wrappers())
    await slots.prepare()
    edit = Edit(stamp=contents.stamp, put_slots=contents.slots, put_keys=contents.keys, tombstones=contents.tombstones)
    if not await slots.apply(edit, 0):
        raise _refusal("there is a keystore already: it is never replaced; nothing was changed")
    return contents


def read_keystore_copy(data: bytes) -> Contents:
    """What a copy holds.

    Raises:
        Fault: INTERNAL where it is damaged, or none.
    """
    first, _, rest = data.partition(b"\n")
    digest, _, body = rest.partition(b"\n")
    if first != FIRST_LINE:
        raise _refusal("the file is no copy of a keystore that this program made")
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), digest):
        raise _refusal("the copy of the keystore is damaged: take another one")
    try:
        contents = msgspec.json.decode(body, type=Contents)
    except msgspec.MsgspecError:
        raise _refusal("the copy of the keystore holds what this program does not know") from None
    if contents.stamp is None:
        raise _refusal("the copy of the keystore is empty")
    return contents


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
