"""Usage, its sums and the names they refer to, as the first schema has them. It must not change any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

OWNED = sa.text("user_id <> ''")


def create() -> None:
    """Create the tables, those first that others refer to."""
    _usage()
    _usage_daily()
    _usage_labels()
    _usage_totals()
    _end_users()
    _names()
    _tags()


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("end_user", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.BigInteger(), nullable=False),
        sa.Column("deployment", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("upstream_model", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("fault", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fallbacks", sa.Integer(), nullable=False),
        sa.Column("first_byte", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("input", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.BigInteger(), nullable=False),
        sa.Column("cache_read", sa.BigInteger(), nullable=False),
        sa.Column("cache_creation", sa.BigInteger(), nullable=False),
        sa.Column("reasoning", sa.BigInteger(), nullable=False),
        sa.Column("audio_input", sa.BigInteger(), nullable=False),
        sa.Column("audio_output", sa.BigInteger(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("characters", sa.BigInteger(), nullable=False),
        sa.Column("measured", sa.Boolean(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.String(length=64), nullable=False),
        sa.Column("tags", sa.LargeBinary(), nullable=False),
        sa.Column("upstream_ms", sa.BigInteger(), nullable=False),
        sa.Column("losses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "started", "id", name="pk_usage"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (started)",
    )
    op.create_index("ix_usage_key_id_started_id", "usage", ["key_id", "started", "id"], unique=False)
    op.create_index("ix_usage_started_id", "usage", ["started", "id"], unique=False)
    op.create_index(
        "ix_usage_user_id_started_id",
        "usage",
        ["user_id", "started", "id"],
        unique=False,
        sqlite_where=OWNED,
        postgresql_where=OWNED,
    )


def _usage_daily() -> None:
    op.create_table(
        "usage_daily",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("team_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.BigInteger(), nullable=False),
        sa.Column("upstream_model", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("ok", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("input", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.BigInteger(), nullable=False),
        sa.Column("cache_read", sa.BigInteger(), nullable=False),
        sa.Column("cache_creation", sa.BigInteger(), nullable=False),
        sa.Column("reasoning", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id",
            "day",
            "key_id",
            "user_id",
            "team_id",
            "model",
            "upstream_model",
            "provider",
            "endpoint",
            name="pk_usage_daily",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_daily_day_key_id", "usage_daily", ["day", "key_id"], unique=False)
    op.create_index("ix_usage_daily_key_id_day", "usage_daily", ["key_id", "day"], unique=False)
    op.create_index(
        "ix_usage_daily_user_id_day",
        "usage_daily",
        ["user_id", "day"],
        unique=False,
        sqlite_where=OWNED,
        postgresql_where=OWNED,
    )


def _usage_labels() -> None:
    op.create_table(
        "usage_labels",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("label", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("ok", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("input", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.BigInteger(), nullable=False),
        sa.Column("cache_read", sa.BigInteger(), nullable=False),
        sa.Column("cache_creation", sa.BigInteger(), nullable=False),
        sa.Column("reasoning", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "kind", "day", "label", name="pk_usage_labels"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_labels_kind_day", "usage_labels", ["kind", "day"], unique=False)
    op.create_index(
        "ix_usage_labels_org_id_kind_label_day", "usage_labels", ["org_id", "kind", "label", "day"], unique=False
    )


def _usage_totals() -> None:
    op.create_table(
        "usage_totals",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("team_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.BigInteger(), nullable=False),
        sa.Column("upstream_model", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("ok", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("input", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.BigInteger(), nullable=False),
        sa.Column("cache_read", sa.BigInteger(), nullable=False),
        sa.Column("cache_creation", sa.BigInteger(), nullable=False),
        sa.Column("reasoning", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id", "day", "team_id", "model", "upstream_model", "provider", "endpoint", name="pk_usage_totals"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_totals_day", "usage_totals", ["day"], unique=False)


def _end_users() -> None:
    op.create_table(
        "end_users",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("max_budget", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name="fk_end_users_org_id"),
        sa.PrimaryKeyConstraint("org_id", "id", name="pk_end_users"),
        sa.UniqueConstraint("org_id", "name_index", name="uq_end_users_org_id_name_index"),
    )


def _names() -> None:
    op.create_table(
        "names",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name="fk_names_org_id"),
        sa.PrimaryKeyConstraint("org_id", "id", name="pk_names"),
    )
    op.create_index("uq_names", "names", ["org_id", "kind", "name_index"], unique=True)


def _tags() -> None:
    op.create_table(
        "tags",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("max_budget", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name="fk_tags_org_id"),
        sa.PrimaryKeyConstraint("org_id", "id", name="pk_tags"),
        sa.UniqueConstraint("org_id", "name_index", name="uq_tags_org_id_name_index"),
    )
