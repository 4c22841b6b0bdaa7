"""What a failure of a database means for whoever asked. It must not quote the database: its words may hold a row."""

from __future__ import annotations

import errno
import sqlite3

from ostiary.core.fault import Fault, Kind, Origin

_UNREACHABLE = "the database cannot be reached"
_FULL = "the disk of the database is full: free some space, nothing that was stored is lost"
_READ_ONLY = "the database can only be read: {}"

_SQLITE = {
    sqlite3.SQLITE_CORRUPT: "the database file is damaged, or is no SQLite database: restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the database file is damaged, or is no SQLite database: restore it from a backup",
    sqlite3.SQLITE_READONLY: _READ_ONLY.format("make its file, its directory and their disk writable"),
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: "the disk of the database fails: look at the system's log",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened: look at its directory, its owner and its mode",
    sqlite3.SQLITE_BUSY: "the database is in use by another process for too long",
}
# By SQLSTATE, or by its first two characters, the class.
_POSTGRESQL = {
    "25006": _READ_ONLY.format("it is a standby, or default_transaction_read_only is set"),
    "28": "the database refuses this login: look at the user, the password and pg_hba.conf",
    "3D000": "the server has no database of that name: create it, or correct the database URL",
    "42501": "the database refuses this to the role: look at ostiary_app and ostiary_instance",
    "42P01": "the database lacks a table: its schema is not that of this program",
    "42703": "the database lacks a column: its schema is not that of this program",
    "53100": _FULL,
    "53300": "the database has no connection left: raise max_connections, or lower the connection budget",
    "55P03": "the database has kept a row locked for too long: try again",
    "57014": "the database took too long to answer: try again",
    "57P03": "the database is starting or stopping: try again",
    "XX001": "the database is damaged: restore it from a backup",
    "XX002": "an index of the database is damaged: rebuild it with REINDEX",
}


def unavailable(error: BaseException | None = None) -> Fault:
    """The failure of a store that cannot be asked: UNAVAILABLE, with what can be done about it where that is known."""
    return Fault(Kind.UNAVAILABLE, _meaning(error), origin=Origin.GATEWAY, retry_after=1.0)


_UNPROVEN = (
    "the database server does not prove who it is: look at its certificate, at the host name in the database URL, "
    "and at sslrootcert"
)


def _meaning(error: BaseException | None) -> str:
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2]) or _UNREACHABLE
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _SQLITE.get(code & 0xFF, _UNREACHABLE)  # the primary result code
    if isinstance(cause, OSError) and (hasattr(cause, "verify_code") or "rejected SSL upgrade" in str(cause)):
        return _UNPROVEN  # the type of the first is none that this package may import; the second the driver's words
    if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _FULL
    if isinstance(cause, OSError) and cause.errno == errno.EROFS:
        return _SQLITE[sqlite3.SQLITE_READONLY]
    return _UNREACHABLE
