"""What the configuration has to say about itself: places, problems and findings. It must never quote a value."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """An error stops the load; a warning changes what is offered; an info is a remark."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Status(StrEnum):
    """What becomes of a setting."""

    USED = "used"
    INERT = "inert"  # accepted, kept and reported; changes nothing
    REFUSED = "refused"  # makes the load fail
    UNKNOWN = "unknown"  # kept and reported


class Place(msgspec.Struct, frozen=True):
    """A line of a file, counted from 1. Line 0 means the file as a whole or, without a file, the environment."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        if not self.file:
            return "environment"
        return f"{self.file}:{self.line}" if self.line else self.file


class Problem(msgspec.Struct, frozen=True):
    """One clear line about one setting. `message` and `hint` are ours and safe to log: no values, no secrets."""

    severity: Severity
    file: str
    line: int
    setting: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = Place(self.file, self.line)
        subject = f" {self.setting}:" if self.setting else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}:{subject} {self.severity}: {self.message}{hint}"


class Finding(msgspec.Struct, frozen=True):
    """What becomes of one setting that a file names."""

    place: Place
    setting: str
    status: Status
    note: str = ""
    hint: str = ""


def error(place: Place, setting: str, message: str, hint: str = "") -> Problem:
    """A problem that stops the load."""
    return Problem(Severity.ERROR, place.file, place.line, setting, message, hint)


def warning(place: Place, setting: str, message: str, hint: str = "") -> Problem:
    """A problem that leaves something out."""
    return Problem(Severity.WARNING, place.file, place.line, setting, message, hint)


def info(place: Place, setting: str, message: str, hint: str = "") -> Problem:
    """A remark."""
    return Problem(Severity.INFO, place.file, place.line, setting, message, hint)
