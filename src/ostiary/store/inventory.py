"""What is stored: every column of every table, every file, how it is protected and for how long it stays. It must not
hold a column of its own: columns come from the schema, and a test compares both with what the engines really have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import msgspec
from sqlalchemy import Column, MetaData, String, Table

from ostiary.catalog.providers import load_providers
from ostiary.core.fault import Kind
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome
from ostiary.store.keystore import keystore_metadata
from ostiary.store.migrate import HEAD
from ostiary.store.schema import metadata
from ostiary.store.schema.columns import MEANING, Class, class_of
from ostiary.vault.keystore import KEK, KeyState, SlotState
from ostiary.vault.purpose import Purpose
from ostiary.wire.dialects.openai_chat import raw
from ostiary.wire.registry import SPOKEN

_DELETED = "until the organisation is destroyed"
_MARKED = "until the organisation is destroyed; a deleted one stays, marked, for the records that name it"
_RECORDS = "as the retention of records says; for ever where none is set"


class Kept(msgspec.Struct, frozen=True):
    """A table in one sentence, and how long its rows stay."""

    what: str
    how_long: str


class Entry(msgspec.Struct, frozen=True):
    """One column. `class_` is None where it was declared past `schema.columns`."""

    table: str
    column: str
    class_: Class | None
    meaning: str


class File(msgspec.Struct, frozen=True):
    """What lies outside the database."""

    name: str
    what: str
    form: str
    how_long: str


TABLES: Mapping[str, Kept] = {
    "stamp": Kept("Whose database this is", "for ever"),
    "schema_versions": Kept("Which versions the schema has had", "for ever"),
    "organizations": Kept("Organisations", "until destroyed; a deleted one stays, marked"),
    "users": Kept("People and other users", "until erased; a deleted one stays, marked"),
    "memberships": Kept("Who belongs to which organisation", "until the membership ends"),
    "teams": Kept("Teams", _MARKED),
    "team_members": Kept("Who belongs to which team", "until the membership ends"),
    "sessions": Kept("Signed-in browsers", "until the session ends, 24 hours at most"),
    "invitations": Kept("Invitations", _DELETED),
    "virtual_keys": Kept("Virtual keys: rights and limits", _MARKED),
    "key_digests": Kept("Which key answers to which text", "until the key is deleted, or its replaced text has ended"),
    "key_spend": Kept("What a key has spent in one budget window", _DELETED),
    "budgets": Kept("Limits that keys share", "until deleted"),
    "credentials": Kept("Credentials of providers", "until deleted"),
    "models": Kept("Deployments that were added while the gateway ran", "until deleted"),
    "settings": Kept("Settings that were changed while the gateway ran", "until changed"),
    "audit_heads": Kept("Where the audit log of an organisation ends", "for ever"),
    "audit_events": Kept("The audit log", "for ever; payloads as the retention of the log says"),
    "audit_checkpoints": Kept("Signed states of the audit log", "for ever"),
    "names": Kept("Names of models and deployments, each once", _DELETED),
    "end_users": Kept("End users as requests name them, each once", "as long as a record names them or limits are set"),
    "tags": Kept("Tags, each once", "as long as a record names them or limits are set"),
    "usage": Kept("One row for each request, on PostgreSQL divided by month", _RECORDS),
    "usage_daily": Kept("Sums of records by day, key, model and provider", _DELETED),
    "usage_totals": Kept("The same sums without keys and users", _DELETED),
    "usage_labels": Kept("Sums of records by day and tag or end user", _DELETED),
    "responses": Kept("Responses that are kept to go on from; none, if `ostiary.responses.keep` is not set",
                      "as long as that setting says, 30 days at most, or until deleted"),
    "keystore_state": Kept("Whose keystore this is", "for ever"),
    "keystore_slots": Kept("The root key, wrapped by the master key", "until the master key has been replaced twice"),
    "keystore_keys": Kept("Keys of organisations and data keys, wrapped", "until rotated out or destroyed"),
    "keystore_tombstones": Kept("Organisations whose keys were destroyed", "for ever"),
    "keystore_holders": Kept("Running processes and which keys they have loaded", "until the process ends"),
}  # fmt: skip

FILES = (
    File("`ostiary.db`, `-wal`, `-shm`", "the database, where it is SQLite", "see the tables; mode 0600", "for ever"),
    File(
        "`keystore.db`, `-wal`, `-shm`", "the keystore, where it is SQLite", "every key wrapped; mode 0600", "for ever"
    ),
    File(
        "`master.key`", "the master key, where neither environment nor key service holds it", "as it is; mode 0600",
        "until replaced",
    ),
    File("`admin.digest`", "the administrator's key, where none is configured", "keyed digest; mode 0600", "for ever"),
    File(
        "`journal/`", "records on their way to the database", "sealed, each file under a key of its own; mode 0600",
        "until they are in the database: seconds, or as long as the database is away",
    ),
    File(
        "what `ostiary backup` writes", "all tables below but the keystore's", "sealed as a whole; mode 0600",
        "as long as the operator keeps it",
    ),
    File(
        "what `ostiary backup --keystore` writes", "the keystore", "every key wrapped; mode 0600",
        "as long as the operator keeps it: it can bring back destroyed organisations",
    ),
)  # fmt: skip

# What the classes show to whoever has the files and no key.
SHOWN = {
    Class.SEALED: "nothing but the length: AES-256-GCM under a key of its own, bound to its place",
    Class.HASHED: "that two values are equal: a digest under a key, a MAC, a signature, or a hash of what is random",
    Class.OPAQUE: "that two rows mean the same: a random id",
    Class.MEASURE: "the value: a count, a cost, a time, yes or no, or a word of a closed set",
}

_INTRODUCTION = (
    "Prompts, answers, files, and the addresses and headers of those who call models are stored nowhere, but for the "
    "responses that an operator allows to be kept (`ostiary.responses.keep`, off by default): sealed, for their "
    "owners, until they expire. There is no cache of answers. What callers and operators write otherwise (names, "
    "aliases, tags, end users, metadata, credentials) stands in sealed columns only. The class of a "
    "column says what somebody sees of it who has the files, or the database's password, and no key:"
)

_ORGANIZATION_ROLES = {"owner", "admin", "member", "viewer", "billing"}
_FIXED: Mapping[str, Iterable[str]] = {
    "organizations.state": ("active", "locked", "shredding", "shredded"),
    "users.state": ("active", "invited", "disabled", "deleted"),
    "users.role": ("admin", "viewer", "user"),
    "memberships.role": _ORGANIZATION_ROLES,
    "team_members.role": ("admin", "member"),
    "invitations.role": _ORGANIZATION_ROLES,
    "names.kind": ("model", "deployment", "upstream_model"),
    "usage_labels.kind": ("tag", "end_user"),
    "usage.outcome": [str(outcome) for outcome in Outcome],
    "usage.fault": ["", *map(str, Kind)],
    "usage.price": [str(price) for price in PriceState],
    "keystore_slots.state": [str(state) for state in SlotState],
    "keystore_slots.kind": ("local", "aws-kms", "transit", "gcp-kms", "azure-kv"),
    "keystore_keys.state": [str(state) for state in KeyState],
    "keystore_keys.purpose": [KEK, *map(str, Purpose)],
    "schema_versions.version": (HEAD,),
    "schema_versions.oldest": (HEAD,),
    # nothing writes these yet: whoever does, lists the words here
    "settings.name": (),
    "audit_events.event": (),
    "audit_events.outcome": (),
    "audit_events.target_type": (),
}
# Regions are an operator's: two to eight letters or digits, the same one in every row.
REGIONS = frozenset({"stamp.region", "keystore_state.region"})


@cache
def words() -> Mapping[str, frozenset[str]]:
    """`table.column` -> the words that may stand there, for every text of class measure but the regions."""
    providers = frozenset({"", "demo", *load_providers().names()})
    chats = (endpoint for dialect in SPOKEN.values() for endpoint in dialect.endpoints)
    endpoints = frozenset(endpoint.name for endpoint in (*chats, *raw.ENDPOINTS))
    sets = {name: frozenset(values) for name, values in _FIXED.items()}
    for table in ("usage", "usage_daily", "usage_totals"):
        sets |= {f"{table}.provider": providers, f"{table}.endpoint": endpoints}
    return sets


def tables() -> Iterator[Table]:
    """Every table that this program makes: the database's, then the keystore's."""
    for one in (metadata, keystore_metadata):
        yield from sorted(one.tables.values(), key=lambda table: list(TABLES).index(table.name))


def entries(*of: MetaData) -> list[Entry]:
    """Every column of these tables, of the database and the keystore where none are named."""
    chosen = tables() if not of else (table for one in of for table in one.tables.values())
    return [_entry(table, column) for table in chosen for column in table.c]


def text_measures() -> list[str]:
    """`table.column` of every column that shows a text."""
    return [
        f"{table.name}.{column.name}"
        for table in tables()
        for column in table.c
        if class_of(column) is Class.MEASURE and isinstance(column.type, String)
    ]


def stored_data_markdown() -> str:
    """The page `docs/reference/stored-data.md`, ending in a newline."""
    parts = [
        "# What is stored",
        "Generated by `make docs` from `store/schema/`, `store/keystore.py` and `store/inventory.py`; change it there.",
        _INTRODUCTION,
        "\n".join(f"- **{class_}**: {shown}" for class_, shown in SHOWN.items()),
        "## Files",
        _table(("File", "Holds", "Form", "Kept"), ((f.name, f.what, f.form, f.how_long) for f in FILES)),
    ]
    for title, one in (("The database", metadata), ("The keystore", keystore_metadata)):
        parts.append(f"## {title}")
        parts += [_section(table) for table in tables() if table.metadata is one]
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> str:
    kept = TABLES[table.name]
    rows = ((f"`{e.column}`", str(e.class_), _shown(e)) for e in (_entry(table, column) for column in table.c))
    head = f"### `{table.name}`\n\n{kept.what}. Kept {kept.how_long}.\n\n"
    return head + _table(("Column", "Class", "Meaning"), rows)


def _shown(entry: Entry) -> str:
    return f"in it: {entry.meaning}" if entry.class_ is Class.SEALED else entry.meaning


def _entry(table: Table, column: Column[object]) -> Entry:
    return Entry(str(table.name), str(column.name), class_of(column), str(column.info.get(MEANING, "")))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
