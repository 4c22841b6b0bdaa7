"""Keys, limits, models and settings: what the policy is made of. It must not hold a credential in clear."""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint, Index, PrimaryKeyConstraint, UniqueConstraint

from ostiary.store.schema.columns import count, flag, hashed, opaque, sealed, table, word
from ostiary.store.schema.people import LIVE

_ORG = "the organisation"

virtual_keys = table(
    "virtual_keys",
    opaque("org_id", _ORG),
    opaque("id", "the key"),
    hashed("digest", "digest of the key's text"),
    hashed("alias_index", "blind index of the alias", 16, nullable=True),
    sealed(
        "details",
        "last four characters, alias, models, model aliases, limits by model, routes, tags, metadata, other fields, "
        "who made and changed it",
    ),
    opaque("user_id", "whose", nullable=True),
    opaque("team_id", "which team's", nullable=True),
    opaque("budget_id", "shared limits", nullable=True),
    count("max_budget", "nanodollars", nullable=True),
    count("soft_budget", "nanodollars", nullable=True),
    count("budget_seconds", "length of the budget window", nullable=True),
    count("budget_from", "start of the first budget window"),
    count("rpm_limit", "requests per minute", nullable=True),
    count("tpm_limit", "tokens per minute", nullable=True),
    count("max_parallel", "requests at once", nullable=True),
    count("expires", "when", nullable=True),
    flag("blocked", "refused"),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("deleted_at", "when", nullable=True),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "id"),
    UniqueConstraint("id"),
    ForeignKeyConstraint(["org_id"], ["organizations.id"]),
    ForeignKeyConstraint(["org_id", "user_id"], ["memberships.org_id", "memberships.user_id"]),
    ForeignKeyConstraint(["org_id", "team_id"], ["teams.org_id", "teams.id"]),
    ForeignKeyConstraint(["org_id", "budget_id"], ["budgets.org_id", "budgets.id"]),
)
# PostgreSQL's condition stands in the migration only: to name it here would load that dialect into every process.
Index("uq_virtual_keys_alias", virtual_keys.c.org_id, virtual_keys.c.alias_index, unique=True, sqlite_where=LIVE)
# Lists and their totals are read off this index alone, deleted keys being told apart in it.
Index(None, virtual_keys.c.created_at, virtual_keys.c.id, virtual_keys.c.deleted_at)
Index(None, virtual_keys.c.digest)
Index(None, virtual_keys.c.org_id, virtual_keys.c.user_id, virtual_keys.c.created_at)
Index(None, virtual_keys.c.org_id, virtual_keys.c.team_id, virtual_keys.c.created_at)

# Which key answers to a digest, across organisations: the one question that is asked before the organisation is known.
# A digest that a regenerated key keeps answering to for a while has an `until`.
key_digests = table(
    "key_digests",
    hashed("digest", "digest of the key's text", primary_key=True),
    opaque("org_id", _ORG),
    opaque("key_id", "the key"),
    count("until", "when it answers no more", nullable=True),
    hashed("row_mac", "seals the row against edits", 33),
    ForeignKeyConstraint(["org_id", "key_id"], ["virtual_keys.org_id", "virtual_keys.id"], ondelete="CASCADE"),
)
Index(None, key_digests.c.org_id, key_digests.c.key_id)

# What a key spent in one budget window. `window_start` is `budget_from` plus a whole number of windows.
key_spend = table(
    "key_spend",
    opaque("org_id", _ORG),
    opaque("key_id", "the key"),
    count("window_start", "when the window began"),
    count("cost", "nanodollars"),
    PrimaryKeyConstraint("org_id", "key_id", "window_start"),
    without_rowid=True,
)

budgets = table(
    "budgets",
    opaque("org_id", _ORG),
    opaque("id", "the budget"),
    hashed("name_index", "blind index of its name", 16),
    sealed("details", "name, limits by model, who made and changed it"),
    count("max_budget", "nanodollars", nullable=True),
    count("soft_budget", "nanodollars", nullable=True),
    count("budget_seconds", "length of the budget window", nullable=True),
    count("rpm_limit", "requests per minute", nullable=True),
    count("tpm_limit", "tokens per minute", nullable=True),
    count("max_parallel", "requests at once", nullable=True),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "id"),
    UniqueConstraint("org_id", "name_index"),
    ForeignKeyConstraint(["org_id"], ["organizations.id"]),
)

# `org_id` is "-" in the three tables below where a row belongs to the instance.
credentials = table(
    "credentials",
    opaque("org_id", "the organisation, or the instance"),
    opaque("id", "the credential"),
    hashed("name_index", "blind index of its name", 16),
    sealed("details", "name, provider, description, origin"),
    sealed("secret", "the values, bound to the origin they may be sent to"),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "id"),
    UniqueConstraint("org_id", "name_index"),
)

models = table(
    "models",
    opaque("org_id", "the organisation, or the instance"),
    opaque("id", "the deployment"),
    hashed("name_index", "blind index of the id that callers know", 16),
    sealed("details", "the id that callers know, model name, origin, information, who made and changed it"),
    sealed("params", "provider, address and credentials, bound to the origin they may be sent to"),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "id"),
    UniqueConstraint("org_id", "name_index"),
)

settings = table(
    "settings",
    opaque("org_id", "the organisation, or the instance"),
    word("name", "which setting"),
    sealed("details", "its value"),
    count("updated_at", "when"),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "name"),
)
