"""Keys, limits, models and settings, as the first schema has them. It must not change any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

LIVE = sa.text("deleted_at IS NULL")


def create() -> None:
    """Create the tables, those first that others refer to."""
    _credentials()
    _key_spend()
    _models()
    _settings()
    _budgets()
    _virtual_keys()
    _key_digests()


def _credentials() -> None:
    op.create_table(
        "credentials",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id", name="pk_credentials"),
        sa.UniqueConstraint("org_id", "name_index", name="uq_credentials_org_id_name_index"),
    )


def _key_spend() -> None:
    op.create_table(
        "key_spend",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "key_id", "window_start", name="pk_key_spend"),
        sqlite_with_rowid=False,
    )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("params", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id", name="pk_models"),
        sa.UniqueConstraint("org_id", "name_index", name="uq_models_org_id_name_index"),
    )


def _settings() -> None:
    op.create_table(
        "settings",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "name", name="pk_settings"),
    )


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name_index", sa.LargeBinary(length=16), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("max_budget", sa.BigInteger(), nullable=True),
        sa.Column("soft_budget", sa.BigInteger(), nullable=True),
        sa.Column("budget_seconds", sa.BigInteger(), nullable=True),
        sa.Column("rpm_limit", sa.BigInteger(), nullable=True),
        sa.Column("tpm_limit", sa.BigInteger(), nullable=True),
        sa.Column("max_parallel", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name="fk_budgets_org_id"),
        sa.PrimaryKeyConstraint("org_id", "id", name="pk_budgets"),
        sa.UniqueConstraint("org_id", "name_index", name="uq_budgets_org_id_name_index"),
    )


def _virtual_keys() -> None:
    op.create_table(
        "virtual_keys",
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("alias_index", sa.LargeBinary(length=16), nullable=True),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("team_id", sa.String(length=64), nullable=True),
        sa.Column("budget_id", sa.String(length=64), nullable=True),
        sa.Column("max_budget", sa.BigInteger(), nullable=True),
        sa.Column("soft_budget", sa.BigInteger(), nullable=True),
        sa.Column("budget_seconds", sa.BigInteger(), nullable=True),
        sa.Column("budget_from", sa.BigInteger(), nullable=False),
        sa.Column("rpm_limit", sa.BigInteger(), nullable=True),
        sa.Column("tpm_limit", sa.BigInteger(), nullable=True),
        sa.Column("max_parallel", sa.BigInteger(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "budget_id"], ["budgets.org_id", "budgets.id"], name="fk_virtual_keys_org_id_budget_id"
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "team_id"], ["teams.org_id", "teams.id"], name="fk_virtual_keys_org_id_team_id"
        ),
        sa.ForeignKeyConstraint(
            ["org_id", "user_id"], ["memberships.org_id", "memberships.user_id"], name="fk_virtual_keys_org_id_user_id"
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name="fk_virtual_keys_org_id"),
        sa.PrimaryKeyConstraint("org_id", "id", name="pk_virtual_keys"),
        sa.UniqueConstraint("id", name="uq_virtual_keys_id"),
    )
    op.create_index(
        "ix_virtual_keys_created_at_id_deleted_at", "virtual_keys", ["created_at", "id", "deleted_at"], unique=False
    )
    op.create_index("ix_virtual_keys_digest", "virtual_keys", ["digest"], unique=False)
    op.create_index(
        "ix_virtual_keys_org_id_team_id_created_at", "virtual_keys", ["org_id", "team_id", "created_at"], unique=False
    )
    op.create_index(
        "ix_virtual_keys_org_id_user_id_created_at", "virtual_keys", ["org_id", "user_id", "created_at"], unique=False
    )
    op.create_index(
        "uq_virtual_keys_alias",
        "virtual_keys",
        ["org_id", "alias_index"],
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )


def _key_digests() -> None:
    op.create_table(
        "key_digests",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("org_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("row_mac", sa.LargeBinary(length=33), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id", "key_id"],
            ["virtual_keys.org_id", "virtual_keys.id"],
            name="fk_key_digests_org_id_key_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("digest", name="pk_key_digests"),
    )
    op.create_index("ix_key_digests_org_id_key_id", "key_digests", ["org_id", "key_id"], unique=False)
