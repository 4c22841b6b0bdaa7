"""Responses that are kept, as the first schema has them. It must not change any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def create() -> None:
    """Create the table."""
    op.create_table(
        "responses",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("owner_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name="fk_responses_org_id"),
        sa.PrimaryKeyConstraint("org_id", "id_index", name="pk_responses"),
    )
    op.create_index("ix_responses_expires_at", "responses", ["expires_at"], unique=False)
