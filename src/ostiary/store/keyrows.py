"""Virtual keys between rows of the database and `KeyRow`: sealed and stamped, checked and opened. It must not write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.money import Nano
from ostiary.store.rowmac import stamped
from ostiary.store.rows import KeyRow, window_start
from ostiary.store.schema.access import key_digests, key_spend, virtual_keys
from ostiary.store.sealing import Guard, Values, context, rows_of, seal
from ostiary.vault.scope import Scope

IN_LIST = 500  # parameters of one IN list

# Columns that stand in `KeyRow` under the same name, and those where nothing is NULL here and "" there.
_SAME = (
    "id", "digest", "max_budget", "soft_budget", "budget_seconds", "budget_from", "rpm_limit", "tpm_limit",
    "max_parallel", "expires", "blocked", "created_at", "updated_at", "deleted_at", "revision",
)  # fmt: skip
_REFERENCES = ("user_id", "team_id", "budget_id")

Spent = Mapping[tuple[str, int], Nano]  # by key and start of the window


class KeyDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sealed of a key."""

    hint: str = ""
    alias: str | None = None
    models: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    model_rpm: dict[str, int] = {}
    model_tpm: dict[str, int] = {}
    allowed_routes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    extra: dict[str, object] = {}
    budget_duration: str | None = None
    created_by: str = ""
    updated_by: str = ""


_SEALED = KeyDetails.__struct_fields__


def key_values(scope: Scope, row: KeyRow) -> dict[str, Any]:
    """A row of `virtual_keys`, sealed and stamped.

    Args:
        scope: the keys of the row's organisation.
    """
    values: dict[str, Any] = {name: getattr(row, name) for name in _SAME}
    values.update((name, getattr(row, name) or None) for name in _REFERENCES)
    values["org_id"] = row.organization_id
    values["alias_index"] = None if row.alias is None else alias_index(scope, row.alias)
    details = KeyDetails(**{name: getattr(row, name) for name in _SEALED})
    values["details"] = seal(scope, details, context(virtual_keys, values))
    return stamped(scope, virtual_keys.name, values)


def digest_values(instance: Scope, row: KeyRow, digest: bytes, until: int | None = None) -> dict[str, Any]:
    """A row of `key_digests`: this key answers to this digest, until then if that is said."""
    values = {"digest": digest, "org_id": row.organization_id, "key_id": row.id, "until": until}
    return stamped(instance, key_digests.name, values)


def alias_index(scope: Scope, alias: str) -> bytes:
    """Under which an alias is found in its organisation."""
    return scope.index(virtual_keys.name, "alias_index", alias)


def window_start_of(row: KeyRow, at: int) -> int:
    """The start of the key's budget window at this time, Unix milliseconds."""
    return window_start(row.budget_from, row.budget_seconds, at)


async def fetched(connection: AsyncConnection, query: Select[Any], now: int) -> tuple[list[Values], Spent]:
    """Rows of `virtual_keys` as they stand, and what they spent in the windows that run now."""
    rows = await rows_of(connection, query)
    return rows, await spent(connection, rows, now)


async def spent(connection: AsyncConnection, rows: Sequence[Values], now: int) -> Spent:
    """What keys spent in the windows that run now."""
    costs, places = dict[tuple[str, int], Nano](), [(row["org_id"], *_window(row, now)) for row in rows]
    columns = key_spend.c.org_id, key_spend.c.key_id, key_spend.c.window_start
    for start in range(0, len(places), IN_LIST):
        query = select(key_spend).where(tuple_(*columns).in_(places[start : start + IN_LIST]))
        found = await rows_of(connection, query)
        costs.update(((row["key_id"], row["window_start"]), row["cost"]) for row in found)
    return costs


async def opened(guard: Guard, rows: Iterable[Values], costs: Spent, now: int) -> list[KeyRow]:
    """Those of the rows that are as this program wrote them, opened.

    Raises:
        SealBroken: one of them does not open.
    """
    whole: list[KeyRow] = []
    for row in await guard.checked(virtual_keys, rows):
        place = _window(row, now)
        whole.append(_key_row(row, await guard.opened(virtual_keys, row, KeyDetails), costs.get(place, 0), place[1]))
    return whole


def _window(row: Values, now: int) -> tuple[str, int]:
    return row["id"], window_start(row["budget_from"], row["budget_seconds"], now)


def _key_row(row: Values, details: KeyDetails, spend: Nano, spend_from: int) -> KeyRow:
    fields: dict[str, Any] = {name: row[name] for name in _SAME}
    fields.update((name, row[name] or "") for name in _REFERENCES)
    fields.update((name, getattr(details, name)) for name in _SEALED)
    return KeyRow(**fields, organization_id=row["org_id"], spend=spend, spend_from=spend_from)
