"""Whose database this is, and of which version. It must not be changed once written, but for the version."""

from __future__ import annotations

from ostiary.store.schema.columns import count, hashed, opaque, small, table, word

# One row, with id 1.
stamp = table(
    "stamp",
    small("id", "always 1", primary_key=True),
    opaque("instance", "the instance"),
    word("region", "the region it belongs to"),
    opaque("default_org", "organisation of whatever names none"),
    count("created_at", "when"),
    hashed("row_mac", "seals the row against edits", 33),
)

# Every version that this schema has had. `oldest` is the oldest version of the program that can work with it.
schema_versions = table(
    "schema_versions",
    word("version", "of the schema", primary_key=True),
    word("oldest", "version of the program that can use it"),
    count("applied_at", "when"),
)
