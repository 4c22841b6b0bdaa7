"""One known setting as a row: name, what becomes of it, what it holds, what it means. It must not read anything."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import msgspec

from ostiary.config.problem import Severity, Status


class Shape(StrEnum):
    """What a setting holds, in the words used in reports and in the reference."""

    TEXT = "text"
    SECRET = "secret"  # noqa: S105 (the name of a shape)
    SECRET_DOCUMENT = "secret text or mapping"  # noqa: S105 (the name of a shape)
    WHOLE = "whole number"
    NUMBER = "number"
    FLAG = "true or false"
    FLAG_OR_TEXT = "true, false or text"
    NAMES = "text or a list of texts"
    LIST = "list"
    MAP = "mapping"
    ANY = "anything"
    SECTION = "block"
    ROWS = "list of blocks"


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of one particular value."""

    status: Status
    note: str
    severity: Severity | None = None  # None: a refusal is an error, anything else goes without a problem


Rule: TypeAlias = Callable[[object], Verdict | None]


class Setting(msgspec.Struct, frozen=True):
    """A row of the registry.

    `path` is dotted; `[]` stands for any row of a list and a last part `*` for any name. `meaning` is one line; for a
    refused setting it says why. `rule` judges a value where the status depends on it; None keeps the row's status.
    `loud`: being inert is worth a warning, because something the operator asked for does not happen.
    """

    path: str
    status: Status
    shape: Shape
    meaning: str
    default: str = ""
    least: float | None = None
    choices: tuple[str, ...] = ()
    rule: Rule | None = None
    loud: bool = False


def used(
    name: str,
    shape: Shape,
    meaning: str,
    default: str = "",
    *,
    least: float | None = None,
    choices: tuple[str, ...] = (),
    rule: Rule | None = None,
) -> Setting:
    """A setting that is put in force."""
    return Setting(name, Status.USED, shape, meaning, default, least, choices, rule)


def inert(name: str, shape: Shape, meaning: str, *, rule: Rule | None = None, loud: bool = False) -> Setting:
    """A setting that is accepted and changes nothing; `meaning` says why that is right."""
    return Setting(name, Status.INERT, shape, meaning, rule=rule, loud=loud)


def refused(name: str, reason: str, shape: Shape = Shape.ANY) -> Setting:
    """A setting that stops the load when it is on: not null, false, zero or empty."""
    return Setting(name, Status.REFUSED, shape, reason)


def below(prefix: str, *settings: Setting) -> tuple[Setting, ...]:
    """The settings with `prefix.` before their names."""
    return tuple(msgspec.structs.replace(setting, path=f"{prefix}.{setting.path}") for setting in settings)
