"""The virtual key a request carries. It must not look at anything but the headers."""

from __future__ import annotations

from collections.abc import Iterable

from ostiary.core.credential import carried, possible
from ostiary.core.fault import Fault, Kind


def credential_of(headers: Iterable[tuple[bytes, bytes]], extra: bytes = b"") -> str:
    """The one credential of a request; arguments as of `carried`.

    Raises:
        Fault: UNAUTHENTICATED where there is none or it cannot be one; INVALID_REQUEST for two different ones.
    """
    found = carried(headers, extra)
    if not found:
        raise Fault(Kind.UNAUTHENTICATED, "no credential: send a virtual key as 'Authorization: Bearer sk-…'")
    if not possible(found):
        raise unknown_key()
    return found.decode("ascii")


def unknown_key() -> Fault:
    """The one answer for every credential that is not a key of ours, whatever is wrong with it."""
    return Fault(Kind.UNAUTHENTICATED, "the virtual key is not valid")
