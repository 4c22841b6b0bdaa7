"""The real clock."""

from __future__ import annotations

import time


class SystemClock:
    """`core.clock.Clock` from the operating system."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
