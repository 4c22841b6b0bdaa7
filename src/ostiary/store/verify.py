"""Opens everything that is sealed, and checks every MAC and every blind index. It must not keep or show what it opened.

Rows are looked at some at a time, so that the memory this takes does not grow with the database.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.store.database import Database
from ostiary.store.rowmac import check, keeper
from ostiary.store.sealing import Values, owner
from ostiary.store.walk import DETAILS, Finding, Place, Scopes, Unopened, batches, finding, opened, places, require_ours
from ostiary.vault.envelope import Context
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import Scope

MOST_FINDINGS = 1000  # that are named; all are counted
_NAME = ("name_index", "name")
# Blind indexes and the field of the details that each is of.
_INDEXED: Mapping[str, tuple[str, str]] = {
    "organizations": _NAME, "users": _NAME, "teams": _NAME, "budgets": _NAME, "names": _NAME, "end_users": _NAME,
    "tags": _NAME, "credentials": _NAME, "models": ("name_index", "id"), "virtual_keys": ("alias_index", "alias"),
}  # fmt: skip
_INDEXED_BY_INSTANCE = frozenset({"organizations", "users"})


class TableResult(msgspec.Struct):
    """What was found in one table. `values` counts by column what opened; `destroyed` are rows whose keys are gone on
    purpose.
    """

    rows: int = 0
    values: dict[str, int] = {}
    macs: int = 0
    indexes: int = 0
    destroyed: int = 0
    broken: int = 0


class Verified(msgspec.Struct):
    """What was found in all. `findings` names the first thousand broken rows, `broken` counts all."""

    tables: dict[str, TableResult] = {}
    findings: list[Finding] = []
    broken: int = 0

    @property
    def values(self) -> int:
        """How many values opened."""
        return sum(sum(table.values.values()) for table in self.tables.values())


async def verify(
    database: Database, keyring: Keyring, told: Callable[[str, int], None] = lambda _table, _rows: None
) -> Verified:
    """Look at everything.

    Args:
        told: told the table and how many of its rows were looked at, after each batch.

    Raises:
        Fault: UNAVAILABLE when the database or the keystore cannot be asked.
    """
    result, scopes = Verified(), Scopes(keyring)
    async with database.read() as connection:
        await require_ours(connection, keyring)
    for place in places():
        table = result.tables[place.name] = TableResult(values=dict.fromkeys(place.sealed, 0))
        async for rows in batches(database, place):
            await _looked_at(place, rows, keyring, scopes, table, result)
            told(place.name, len(rows))
    return result


async def _looked_at(
    place: Place, rows: Sequence[Values], keyring: Keyring, scopes: Scopes, table: TableResult, result: Verified
) -> None:
    opens: Counter[str] = Counter()
    refreshed = False
    for row in rows:
        table.rows += 1
        what = await _wrong(place, row, keyring, scopes, table, opens)
        if what is not None and not refreshed:  # keys that another process made a moment ago
            refreshed = True
            await keyring.refresh()
            what = await _wrong(place, row, keyring, scopes, table, opens)
        if what is not None:
            table.broken += 1
            result.broken += 1
            if len(result.findings) < MOST_FINDINGS:
                result.findings.append(finding(place, row, what))
    for column, count in opens.items():
        table.values[column] += count


async def _wrong(
    place: Place, row: Values, keyring: Keyring, scopes: Scopes, table: TableResult, opens: Counter[str]
) -> str | None:
    """What is wrong with a row, None where nothing is."""
    try:
        own = await scopes.of(owner(place.name, row)) if place.sealed else None
        guard = await scopes.of(keeper(place.name, row)) if place.guarded else None
    except Fault as fault:
        if fault.kind is not Kind.INTERNAL:
            raise
        return "keys"
    if (place.sealed and own is None) or (place.guarded and guard is None):
        table.destroyed += 1
    if guard is not None and not check(guard, place.name, row):
        return "row_mac"
    plain: dict[str, tuple[Context, bytes]] = {}
    if own is not None:
        try:
            plain = opened(place, row, own)
        except Unopened as unopened:
            return unopened.column
        indexing = keyring.instance if place.name in _INDEXED_BY_INSTANCE else own
        fits = _index_fits(place, row, indexing, plain)
        if fits is False:
            return _INDEXED[place.name][0]
        table.indexes += fits is True
    table.macs += guard is not None
    opens.update(plain.keys())
    return None


def _index_fits(place: Place, row: Values, scope: Scope, plain: Mapping[str, tuple[Context, bytes]]) -> bool | None:
    """Whether a row is found under what it says it is called; None where it has no index."""
    column, field = _INDEXED.get(place.name, ("", ""))
    if not column or row[column] is None:
        return None
    try:
        said = msgspec.json.decode(plain[DETAILS][1], type=dict[str, object]).get(field)
    except (KeyError, msgspec.MsgspecError):
        return False
    return isinstance(said, str) and hmac.compare_digest(scope.index(place.name, column, said), row[column])
