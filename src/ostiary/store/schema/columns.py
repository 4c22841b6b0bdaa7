"""How columns are declared: each says what kind of data it holds. It must not offer a column without a class."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, String, Table, text

ID_LENGTH = 64
CLASS = "class"
MEANING = "meaning"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Class(StrEnum):
    """What somebody who holds the database file, and no key, can read of a column."""

    SEALED = "sealed"  # nothing: an envelope
    HASHED = "hashed"  # nothing, but that two values are equal: a keyed digest
    OPAQUE = "opaque"  # a random id
    MEASURE = "measure"  # the value: a count, a cost, a time, or one word of a closed set


def sealed(name: str, meaning: str, **options: Any) -> Column[bytes]:
    """An envelope (`vault.envelope`). `meaning` lists what is inside."""
    return _column(name, LargeBinary(), Class.SEALED, meaning, options)


def hashed(name: str, meaning: str, length: int = 32, **options: Any) -> Column[bytes]:
    """A keyed digest of `length` bytes."""
    return _column(name, LargeBinary(length), Class.HASHED, meaning, options)


def opaque(name: str, meaning: str, **options: Any) -> Column[str]:
    """A random id as text, made by this program and never by a caller."""
    return _column(name, String(ID_LENGTH), Class.OPAQUE, meaning, options)


def number_id(name: str, meaning: str, **options: Any) -> Column[int]:
    """A random id as a number of 63 bits, where rows are many."""
    return _column(name, BigInteger(), Class.OPAQUE, meaning, options)


def number_ids(name: str, meaning: str, **options: Any) -> Column[bytes]:
    """Several random ids, eight bytes each, big-endian."""
    return _column(name, LargeBinary(), Class.OPAQUE, meaning, options)


def count(name: str, meaning: str, **options: Any) -> Column[int]:
    """A number of 64 bits: a count, a cost in nanodollars, a time in Unix milliseconds."""
    return _column(name, BigInteger(), Class.MEASURE, meaning, options)


def small(name: str, meaning: str, **options: Any) -> Column[int]:
    """A number of 32 bits."""
    return _column(name, Integer(), Class.MEASURE, meaning, options)


def flag(name: str, meaning: str, **options: Any) -> Column[bool]:
    """Yes or no."""
    if options.get("server_default") is None and not options.get("nullable", True):
        options["server_default"] = text("false")
    return _column(name, Boolean(), Class.MEASURE, meaning, options)


def word(name: str, meaning: str, **options: Any) -> Column[str]:
    """One word of a closed set that the program knows."""
    return _column(name, String(ID_LENGTH), Class.MEASURE, meaning, options)


def class_of(column: Column[Any]) -> Class | None:
    """The class of a column, None where it was declared past this module."""
    return column.info.get(CLASS)


def table(name: str, *parts: Any, without_rowid: bool = False) -> Table:
    """A table of the house."""
    return Table(name, metadata, *parts, sqlite_with_rowid=not without_rowid)


def _column(name: str, kind: Any, class_: Class, meaning: str, options: dict[str, Any]) -> Column[Any]:
    nullable = options.pop("nullable", False)
    info = {CLASS: class_, MEANING: meaning}
    return Column(name, kind, nullable=nullable, info=info, **options)
