"""Whether a response may be kept: the one function that says so. It must not know who would keep it."""

from __future__ import annotations

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.snapshot import KeepSettings, PolicySnapshot

SETTING = "ostiary.responses.keep"
OF_KEY = "store_responses"


def keeping(snapshot: PolicySnapshot, key: VirtualKey) -> KeepSettings | None:
    """For how long, and how much, may be kept for this key; None where nothing may.

    The instance allows it, and a key may be excepted. A word of its organisation belongs here.
    """
    return snapshot.keep if key.store_responses is not False else None


def not_kept(snapshot: PolicySnapshot, *, param: str | None = None, status: int = 400) -> Fault:
    """The refusal of what needs responses that are kept; it says what would allow it."""
    if snapshot.keep is None:
        public = f"responses are not kept here; the operator can allow it (`{SETTING}`). Send the whole conversation"
    else:
        public = f"responses are not kept for this key (`{OF_KEY}` in its metadata). Send the whole conversation"
    kind = Kind.NOT_FOUND if status == 404 else Kind.INVALID_REQUEST
    return Fault(kind, public, origin=Origin.POLICY, status=status, param=param)
