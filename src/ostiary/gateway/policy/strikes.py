"""How often a source has shown a credential that is none of ours. It must not keep anybody out who has a key in use.

Guessing a key is hopeless (256 bits), but each guess may cost a look-up in the store, and a wrong key shown without end
is worth slowing down. Past `MOST` failures in a minute, a source's unknown credentials are refused without asking the
store until the minute is over. Keys that the index holds are served all the same, so that a neighbour behind the same
address is not shut out, and nobody is for longer than a minute.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address

from ostiary.core.fault import Fault, Kind, Origin

MOST = 300
WINDOW = 60.0  # seconds
SOURCES = 10_000  # remembered at once; beyond, the one that failed longest ago is forgotten


class Strikes:
    """Failures by source, in fixed windows that begin with the first failure. `now` is in monotonic seconds."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, peer: str, now: float) -> None:
        """Refuse to look a credential up for a peer whose source has failed too often.

        Raises:
            Fault: RATE_LIMITED, with the rest of the window.
        """
        began, count = self._sources.get(_source(peer), (0.0, 0))
        left = began + WINDOW - now
        if count >= MOST and left > 0:
            public = "too many requests with keys that are not valid"
            raise Fault(Kind.RATE_LIMITED, public, origin=Origin.POLICY, retry_after=left)

    def add(self, peer: str, now: float) -> None:
        """Count a failure."""
        source = _source(peer)
        began, count = self._sources.pop(source, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        self._sources[source] = (began, count + 1)
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)

    def __len__(self) -> int:
        return len(self._sources)


def _source(peer: str) -> str:
    """What an address counts as: an IPv6 host has a /64 of them to choose from."""
    if ":" not in peer:
        return peer
    try:
        return IPv6Address(peer).exploded[:19]
    except ValueError:
        return peer
