"""The audit log's room, as the first schema has it. It must not change any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def create() -> None:
    """Create the tables, those first that others refer to."""
    _audit_checkpoints()
    _audit_events()
    _audit_heads()


def _audit_checkpoints() -> None:
    op.create_table(
        "audit_checkpoints",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(length=32), nullable=False),
        sa.Column("signature", sa.LargeBinary(length=64), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "size", name="pk_audit_checkpoints"),
    )


def _audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("event_version", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("target_type", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("payload_commit", sa.LargeBinary(length=32), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=True),
        sa.Column("leaf", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "seq", name="pk_audit_events"),
    )


def _audit_heads() -> None:
    op.create_table(
        "audit_heads",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(length=2048), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.PrimaryKeyConstraint("org_id", name="pk_audit_heads"),
    )
