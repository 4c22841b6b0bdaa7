"""Responses that are kept for their owners, where that is allowed. It must not hold a word of them outside an envelope.

Rows never change: one is there from an answer until it expires, or is deleted.
"""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint, Index, PrimaryKeyConstraint

from ostiary.store.schema.columns import count, hashed, opaque, sealed, table

responses = table(
    "responses",
    opaque("org_id", "the organisation"),
    hashed("id_index", "blind index of the id that callers know", 16),
    hashed("owner_index", "blind index of whose it is: a team, a user or a key", 16),
    sealed("body", "the response, and every item of the conversation that led to it"),
    count("created_at", "when"),
    count("expires_at", "when it is deleted"),
    hashed("row_mac", "seals the row against edits", 33),
    PrimaryKeyConstraint("org_id", "id_index"),
    ForeignKeyConstraint(["org_id"], ["organizations.id"]),
)
Index(None, responses.c.expires_at)
