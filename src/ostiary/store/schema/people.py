"""Organisations and people. It must not hold a name that can be read without a key.

`name_index` is the blind index of the name by which callers know a row (`organization_id`, `team_id`, `user_id` of the
compatible API); the name itself is in `details`. Organisations and users belong to the instance and are found under its
keys; everything else belongs to one organisation, and its keys say so.
"""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint, Index, PrimaryKeyConstraint, UniqueConstraint, text

from ostiary.store.schema.columns import count, flag, hashed, opaque, sealed, table, word

_ORG = "the organisation"

organizations = table(
    "organizations",
    opaque("id", "the organisation", primary_key=True),
    hashed("name_index", "blind index of its name, under the instance's key", 16),
    sealed("details", "name, alias, contacts, metadata, models, settings; under its own key"),
    word("state", "active, locked, shredding or shredded"),
    count("max_budget", "nanodollars", nullable=True),
    count("budget_seconds", "length of the budget window", nullable=True),
    count("budget_from", "start of the first budget window", nullable=True),
    count("rpm_limit", "requests per minute", nullable=True),
    count("tpm_limit", "tokens per minute", nullable=True),
    count("session_version", "sessions of an older one are dead", server_default="1"),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("deleted_at", "when", nullable=True),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    UniqueConstraint("name_index"),
)

users = table(
    "users",
    opaque("id", "the user", primary_key=True),
    hashed("name_index", "blind index of the user's name, under the instance's key", 16),
    hashed("email_index", "blind index of the e-mail address", 16, nullable=True),
    sealed("details", "name, e-mail, alias, metadata, password hash, models; under the instance's key"),
    word("state", "active, invited, disabled or deleted"),
    word("role", "role in the instance"),
    count("max_budget", "nanodollars", nullable=True),
    count("budget_seconds", "length of the budget window", nullable=True),
    count("budget_from", "start of the first budget window", nullable=True),
    count("rpm_limit", "requests per minute", nullable=True),
    count("tpm_limit", "tokens per minute", nullable=True),
    count("session_version", "sessions of an older one are dead", server_default="1"),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("deleted_at", "when", nullable=True),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    UniqueConstraint("name_index"),
    UniqueConstraint("email_index"),
)

memberships = table(
    "memberships",
    opaque("org_id", _ORG),
    opaque("user_id", "the member"),
    word("role", "role in the organisation"),
    count("max_budget", "nanodollars", nullable=True),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "user_id"),
    ForeignKeyConstraint(["org_id"], ["organizations.id"]),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)

teams = table(
    "teams",
    opaque("org_id", _ORG),
    opaque("id", "the team"),
    hashed("name_index", "blind index of its name", 16),
    sealed("details", "name, alias, metadata, models, tags, settings"),
    flag("blocked", "its keys are refused"),
    count("max_budget", "nanodollars", nullable=True),
    count("budget_seconds", "length of the budget window", nullable=True),
    count("budget_from", "start of the first budget window", nullable=True),
    count("rpm_limit", "requests per minute", nullable=True),
    count("tpm_limit", "tokens per minute", nullable=True),
    count("max_parallel", "requests at once", nullable=True),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("deleted_at", "when", nullable=True),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "id"),
    UniqueConstraint("id"),
    UniqueConstraint("org_id", "name_index"),
    ForeignKeyConstraint(["org_id"], ["organizations.id"]),
)

team_members = table(
    "team_members",
    opaque("org_id", _ORG),
    opaque("team_id", "the team"),
    opaque("user_id", "the member"),
    word("role", "role in the team"),
    count("max_budget", "nanodollars", nullable=True),
    count("created_at", "when"),
    count("updated_at", "when"),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "team_id", "user_id"),
    ForeignKeyConstraint(["org_id", "team_id"], ["teams.org_id", "teams.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["org_id", "user_id"], ["memberships.org_id", "memberships.user_id"], ondelete="CASCADE"),
)

sessions = table(
    "sessions",
    hashed("digest", "digest of the session's id"),
    opaque("user_id", "whose"),
    opaque("org_id", "organisation it acts in", nullable=True),
    sealed("details", "address, browser, sign-in method and the provider's session; under the instance's key"),
    count("version", "session version of the user when it began"),
    count("created_at", "when"),
    count("seen_at", "when it was last used"),
    count("expires_at", "when it ends at the latest"),
    count("revoked_at", "when", nullable=True),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("digest"),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
)
Index(None, sessions.c.user_id)

invitations = table(
    "invitations",
    opaque("org_id", _ORG),
    opaque("id", "the invitation"),
    hashed("digest", "digest of its token"),
    hashed("email_index", "blind index of the invited address", 16),
    sealed("details", "address, team, message"),
    opaque("invited_by", "the inviting user"),
    word("role", "role on offer"),
    count("created_at", "when"),
    count("expires_at", "when"),
    count("used_at", "when", nullable=True),
    count("revoked_at", "when", nullable=True),
    count("revision", "times changed"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "id"),
    UniqueConstraint("digest"),
    ForeignKeyConstraint(["org_id"], ["organizations.id"]),
)

LIVE = text("deleted_at IS NULL")
