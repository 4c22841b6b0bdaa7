"""The tables, as SQLAlchemy sees them. It must not be used to create them: migrations do that.

Times are Unix milliseconds, money is nanodollars, JSON is text written by this package only.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

virtual_keys = Table(
    "virtual_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("hint", String(16), nullable=False),
    Column("alias", String(256)),
    Column("models", Text, nullable=False, server_default="[]"),
    Column("aliases", Text, nullable=False, server_default="{}"),
    Column("max_budget", BigInteger),
    Column("soft_budget", BigInteger),
    Column("budget_duration", String(32)),
    Column("budget_seconds", BigInteger),
    Column("budget_from", BigInteger, nullable=False),
    Column("rpm_limit", BigInteger),
    Column("tpm_limit", BigInteger),
    Column("max_parallel", BigInteger),
    Column("model_rpm", Text, nullable=False, server_default="{}"),
    Column("model_tpm", Text, nullable=False, server_default="{}"),
    Column("expires", BigInteger),
    Column("blocked", Boolean, nullable=False, server_default=text("false")),
    Column("user_id", String(256), nullable=False, server_default=""),
    Column("team_id", String(256), nullable=False, server_default=""),
    Column("organization_id", String(256), nullable=False, server_default=""),
    Column("allowed_routes", Text, nullable=False, server_default="[]"),
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("extra", Text, nullable=False, server_default="{}"),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(256), nullable=False, server_default=""),
    Column("updated_at", BigInteger, nullable=False),
    Column("updated_by", String(256), nullable=False, server_default=""),
    Column("deleted_at", BigInteger),
    Column("revision", BigInteger, nullable=False, server_default="1"),
)
LIVE = text("deleted_at IS NULL")
# PostgreSQL's condition stands in the migration only: to name it here would load that dialect into every process.
Index("uq_virtual_keys_digest", virtual_keys.c.digest, unique=True, sqlite_where=LIVE)
Index("uq_virtual_keys_alias", virtual_keys.c.alias, unique=True, sqlite_where=LIVE)
Index(None, virtual_keys.c.created_at, virtual_keys.c.id)
Index(None, virtual_keys.c.user_id, virtual_keys.c.created_at)
Index(None, virtual_keys.c.team_id, virtual_keys.c.created_at)

# Digests that a regenerated key keeps answering to until its grace period ends.
retired_digests = Table(
    "retired_digests",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("key_id", String(64), ForeignKey("virtual_keys.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("until", BigInteger, nullable=False),
)

# What a key spent in one budget window. `window_start` is `budget_from` plus a whole number of windows.
key_spend = Table(
    "key_spend",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("window_start", BigInteger, primary_key=True),
    Column("cost", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

models = Table(
    "models",
    metadata,
    Column("id", String(256), primary_key=True),
    Column("model_name", String(256), nullable=False),
    Column("origin", String(512), nullable=False),
    Column("params", LargeBinary, nullable=False),
    Column("info", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(256), nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("updated_by", String(256), nullable=False),
    Column("revision", BigInteger, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("started", BigInteger, nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("team_id", String(256), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("organization_id", String(256), nullable=False),
    Column("end_user", String(256), nullable=False),
    Column("model", String(256), nullable=False),
    Column("deployment", String(256), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("upstream_model", String(256), nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("fault", String(32), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fallbacks", Integer, nullable=False),
    Column("first_byte", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("cache_read", BigInteger, nullable=False),
    Column("cache_creation", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    Column("audio_input", BigInteger, nullable=False),
    Column("audio_output", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("measured", Boolean, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("price", String(16), nullable=False),
    Column("tags", Text, nullable=False),
    Column("upstream_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
# Every index costs each request half a microsecond or more. These are the orders in which pages of records are read:
# all, one key's, one user's (where requests have no users, the last one is empty).
OWNED = text("user_id <> ''")
Index(None, usage.c.started, usage.c.id)
Index(None, usage.c.key_id, usage.c.started, usage.c.id)
Index(None, usage.c.user_id, usage.c.started, usage.c.id, sqlite_where=OWNED)

# Sums of `usage` by UTC day (days since the epoch) and everything that reports group by.
usage_daily = Table(
    "usage_daily",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("key_id", String(64), primary_key=True),
    Column("user_id", String(256), primary_key=True),
    Column("team_id", String(256), primary_key=True),
    Column("organization_id", String(256), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("upstream_model", String(256), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("endpoint", String(64), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("ok", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("cache_read", BigInteger, nullable=False),
    Column("cache_creation", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index(None, usage_daily.c.key_id, usage_daily.c.day)
Index(None, usage_daily.c.user_id, usage_daily.c.day, sqlite_where=OWNED)


def _sums() -> list[Column[int]]:
    return [Column(column.name, BigInteger, nullable=False) for column in usage_daily.c if not column.primary_key]


# The same sums with teams as the only owners: what reports over everybody and by team read, small however many keys
# there are.
usage_totals = Table(
    "usage_totals",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("team_id", String(256), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("upstream_model", String(256), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("endpoint", String(64), primary_key=True),
    *_sums(),
    sqlite_with_rowid=False,
)

# Sums by day and label: the tags and end users of requests, of which one request may have several or none.
usage_labels = Table(
    "usage_labels",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("label", String(256), primary_key=True),
    *_sums(),
    sqlite_with_rowid=False,
)
