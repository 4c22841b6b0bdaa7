"""The audit log's room: headers that stay, payloads that can be purged. It must not hold a payload in clear."""

from __future__ import annotations

from sqlalchemy import PrimaryKeyConstraint

from ostiary.store.schema.columns import count, hashed, opaque, sealed, small, table, word

_ORG = "the organisation, or the instance"

audit_heads = table(
    "audit_heads",
    opaque("org_id", _ORG, primary_key=True),
    count("size", "events so far"),
    hashed("frontier", "hashes of the tree's right edge", 2048),
    hashed("row_mac", "seals the row against edits", 33),
)

audit_events = table(
    "audit_events",
    opaque("org_id", _ORG),
    count("seq", "number in the organisation's log"),
    count("at", "when"),
    word("event", "what happened"),
    small("event_version", "of its payload"),
    word("outcome", "how it ended"),
    opaque("actor", "who, as a pseudonym"),
    word("target_type", "what was acted on"),
    opaque("target", "which one, as a pseudonym"),
    hashed("payload_commit", "commitment to the payload"),
    sealed("payload", "who, from where, what exactly, before and after", nullable=True),
    hashed("salt", "of the commitment; goes with the payload", 16, nullable=True),
    hashed("leaf", "leaf of the tree"),
    PrimaryKeyConstraint("org_id", "seq"),
)

audit_checkpoints = table(
    "audit_checkpoints",
    opaque("org_id", _ORG),
    count("size", "events covered"),
    count("at", "when"),
    hashed("root", "root of the tree"),
    hashed("signature", "of the checkpoint", 64),
    PrimaryKeyConstraint("org_id", "size"),
)
