"""Whose database it is, and of which version, as the first schema has it. It must not change any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def create() -> None:
    """Create the tables, those first that others refer to."""
    _schema_versions()
    _stamp()


def _schema_versions() -> None:
    op.create_table(
        "schema_versions",
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("oldest", sa.String(length=64), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_schema_versions"),
    )


def _stamp() -> None:
    op.create_table(
        "stamp",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("default_org", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stamp"),
    )
