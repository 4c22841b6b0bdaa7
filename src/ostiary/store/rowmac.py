"""Keyed MACs over the rows that decide access: an edit past this program shows. It must not read or write a row.

A MAC is one byte, which says what set of columns it covers, and 32 bytes of HMAC-SHA256 under the row-mac key. Put back
whole, an older row of the same place carries a MAC that was right once: that is found only by comparing live rows with
a log of changes kept elsewhere (`revision` and the first bytes of `row_mac` are what such a log would hold).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

from ostiary.vault.scope import INSTANCE, Scope

_LIMITS = ("max_budget", "budget_seconds", "budget_from", "rpm_limit", "tpm_limit")
_CHANGED = ("created_at", "updated_at", "revision")
_DELETED = ("created_at", "updated_at", "deleted_at", "revision")

# Table -> version -> columns. The newest version is written, every one listed is read: an added column is covered by a
# new version, once no older program writes the table any more. Never change a version that was released.
COVERED: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "stamp": {1: ("id", "instance", "region", "default_org", "created_at")},
    "organizations": {1: ("id", "name_index", "details", "state", *_LIMITS, "session_version", *_DELETED)},
    "users": {
        1: ("id", "name_index", "email_index", "details", "state", "role", *_LIMITS, "session_version", *_DELETED)
    },
    "memberships": {1: ("org_id", "user_id", "role", "max_budget", *_CHANGED)},
    "teams": {1: ("org_id", "id", "name_index", "details", "blocked", *_LIMITS, "max_parallel", *_DELETED)},
    "team_members": {1: ("org_id", "team_id", "user_id", "role", "max_budget", *_CHANGED)},
    "sessions": {
        1: (
            "digest", "user_id", "org_id", "details", "version", "created_at", "seen_at", "expires_at", "revoked_at",
            "revision",
        )
    },
    "invitations": {
        1: (
            "org_id", "id", "digest", "email_index", "details", "invited_by", "role", "created_at", "expires_at",
            "used_at", "revoked_at", "revision",
        )
    },
    "virtual_keys": {
        1: (
            "org_id", "id", "digest", "alias_index", "details", "user_id", "team_id", "budget_id", "soft_budget",
            *_LIMITS, "max_parallel", "expires", "blocked", *_DELETED,
        )
    },
    "key_digests": {1: ("digest", "org_id", "key_id", "until")},
    "budgets": {
        1: (
            "org_id", "id", "name_index", "details", "max_budget", "soft_budget", "budget_seconds", "rpm_limit",
            "tpm_limit", "max_parallel", *_CHANGED,
        )
    },
    "credentials": {1: ("org_id", "id", "name_index", "details", "secret", *_CHANGED)},
    "models": {1: ("org_id", "id", "name_index", "details", "params", *_CHANGED)},
    "settings": {1: ("org_id", "name", "details", "updated_at", "revision")},
    "responses": {1: ("org_id", "id_index", "owner_index", "body", "created_at", "expires_at")},
    "audit_heads": {1: ("org_id", "size", "frontier")},
}  # fmt: skip

# Tables whose rows are asked before an organisation is known, or outlive its keys.
_OF_INSTANCE = frozenset({"stamp", "organizations", "users", "sessions", "key_digests"})
_DOMAIN = b"ostiary/row/1"
_NEWEST = {table: max(versions) for table, versions in COVERED.items()}


def keeper(table: str, values: Mapping[str, Any]) -> str:
    """The id of the scope whose row-mac key guards a row."""
    return INSTANCE if table in _OF_INSTANCE else str(values["org_id"])


def stamp(scope: Scope, table: str, values: Mapping[str, Any]) -> bytes:
    """The 33 bytes of `row_mac` for a row.

    Args:
        scope: the keys of `keeper(table, values)`.
        table: one of `COVERED`.
        values: every covered column, as SQLAlchemy takes and gives them; others are ignored.

    Raises:
        KeyError: a covered column is missing.
    """
    version = _NEWEST[table]
    return bytes((version,)) + scope.mac(_canonical(table, version, values))


def check(scope: Scope, table: str, values: Mapping[str, Any]) -> bool:
    """Whether a row is as this program wrote it. `values` holds its `row_mac` too."""
    row_mac = values["row_mac"]
    if not row_mac or row_mac[0] not in COVERED[table]:
        return False
    return scope.verifies(_canonical(table, row_mac[0], values), row_mac[1:])


def stamped(scope: Scope, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its `row_mac`."""
    return {**values, "row_mac": stamp(scope, table, values)}


def _canonical(table: str, version: int, values: Mapping[str, Any]) -> bytes:
    """Length-prefixed parts with type tags: no two rows share an encoding."""
    parts = list(_heads(table, version))
    for position, name in enumerate(COVERED[table][version]):
        parts[position + 1] += _tagged(values[name])
    return b"".join(parts)


@cache
def _heads(table: str, version: int) -> tuple[bytes, ...]:
    """What stands before each column's value, the first part before all of them."""
    begin = b"".join(map(_prefixed, (_DOMAIN, table.encode(), bytes((version,)))))
    return begin, *(_prefixed(column.encode()) for column in COVERED[table][version])


def _tagged(value: object) -> bytes:
    match value:
        case None:
            return b"n"
        case bool():
            return b"t" if value else b"f"
        case int():
            return b"i" + struct.pack(">q", value)
        case str():
            return b"s" + _prefixed(value.encode())
        case bytes():
            return b"b" + _prefixed(value)
    raise TypeError(f"a {type(value).__name__} cannot stand in a row")


def _prefixed(part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + part
