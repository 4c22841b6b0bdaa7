"""Time as a port, so that every rule about time runs on a fake clock. The real clocks are wired in `cli`."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two readings: the calendar for people, the monotonic for durations."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary point, never going back."""
        ...
