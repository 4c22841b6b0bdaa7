"""Usage and its sums, and the names they refer to. It must not hold a text from a request: only the ids of names."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, Index, PrimaryKeyConstraint, UniqueConstraint, text

from ostiary.store.schema.columns import (
    count,
    flag,
    hashed,
    number_id,
    number_ids,
    opaque,
    sealed,
    small,
    table,
    word,
)

_ORG = "the organisation"


def _named(name: str, what: str, *more: Any) -> Any:
    """A dictionary: texts by random number, each text once per organisation."""
    return table(
        name,
        opaque("org_id", _ORG),
        number_id("id", what),
        hashed("name_index", "blind index of the name", 16),
        sealed("details", "the name, and what is set for it"),
        *more,
        count("created_at", "when"),
        count("revision", "times changed"),
        PrimaryKeyConstraint("org_id", "id"),
        ForeignKeyConstraint(["org_id"], ["organizations.id"]),
    )


# Public model names, deployments and upstream models, as they stood in requests.
names = _named("names", "the name", word("kind", "model, deployment or upstream_model"))
Index("uq_names", names.c.org_id, names.c.kind, names.c.name_index, unique=True)

end_users = _named(
    "end_users",
    "the end user of a customer",
    flag("blocked", "refused"),
    count("max_budget", "nanodollars", nullable=True),
    UniqueConstraint("org_id", "name_index"),
)

tags = _named(
    "tags",
    "the tag",
    count("max_budget", "nanodollars", nullable=True),
    UniqueConstraint("org_id", "name_index"),
)

usage = table(
    "usage",
    opaque("org_id", _ORG),
    count("started", "when"),
    opaque("id", "the request"),
    word("endpoint", "kind of request"),
    opaque("key_id", "the key"),
    opaque("team_id", "the key's team, or nothing"),
    opaque("user_id", "the key's user, or nothing"),
    number_id("end_user", "see end_users; 0 for none"),
    number_id("model", "see names; 0 for none"),
    number_id("deployment", "see names; 0 for none"),
    word("provider", "who served it"),
    number_id("upstream_model", "see names; 0 for none"),
    flag("stream", "streamed"),
    word("outcome", "how it ended"),
    small("status", "HTTP status"),
    word("fault", "kind of failure"),
    small("attempts", "attempts made"),
    small("fallbacks", "fallbacks taken"),
    count("first_byte", "when"),
    count("ended", "when"),
    count("input", "tokens"),
    count("output", "tokens"),
    count("cache_read", "tokens"),
    count("cache_creation", "tokens"),
    count("reasoning", "tokens"),
    count("audio_input", "tokens"),
    count("audio_output", "tokens"),
    count("images", "images"),
    count("milliseconds", "of audio or video"),
    count("characters", "characters"),
    flag("measured", "by the provider, not estimated"),
    count("cost", "nanodollars"),
    word("price", "where the price came from"),
    number_ids("tags", "see tags"),
    count("upstream_ms", "waited for the provider"),
    small("losses", "flags: what a translation left out", server_default=text("0")),
    PrimaryKeyConstraint("org_id", "started", "id"),
    without_rowid=True,
)
# Every index costs each request half a microsecond or more. These are the orders in which pages of records are read:
# all, one key's, one user's (where requests have no users, the last one is empty), and one by its id.
OWNED = text("user_id <> ''")
Index(None, usage.c.started, usage.c.id)
Index(None, usage.c.key_id, usage.c.started, usage.c.id)
Index(None, usage.c.user_id, usage.c.started, usage.c.id, sqlite_where=OWNED)


def _sums() -> list[Column[int]]:
    return [
        count("requests", "requests"),
        count("ok", "requests that succeeded"),
        count("failed", "requests that did not"),
        count("unpriced", "requests without a known price"),
        count("input", "tokens"),
        count("output", "tokens"),
        count("cache_read", "tokens"),
        count("cache_creation", "tokens"),
        count("reasoning", "tokens"),
        count("cost", "nanodollars"),
    ]


# Sums of `usage` by UTC day (days since the epoch) and everything that reports group by.
usage_daily = table(
    "usage_daily",
    opaque("org_id", _ORG),
    small("day", "days since 1970"),
    opaque("key_id", "the key"),
    opaque("user_id", "the key's user, or nothing"),
    opaque("team_id", "the key's team, or nothing"),
    number_id("model", "see names"),
    number_id("upstream_model", "see names"),
    word("provider", "who served it"),
    word("endpoint", "kind of request"),
    *_sums(),
    PrimaryKeyConstraint(
        "org_id", "day", "key_id", "user_id", "team_id", "model", "upstream_model", "provider", "endpoint"
    ),
    without_rowid=True,
)
Index(None, usage_daily.c.day, usage_daily.c.key_id)
Index(None, usage_daily.c.key_id, usage_daily.c.day)
Index(None, usage_daily.c.user_id, usage_daily.c.day, sqlite_where=OWNED)

# The same sums with teams as the only owners: what reports over everybody and by team read, small however many keys
# there are.
usage_totals = table(
    "usage_totals",
    opaque("org_id", _ORG),
    small("day", "days since 1970"),
    opaque("team_id", "the key's team, or nothing"),
    number_id("model", "see names"),
    number_id("upstream_model", "see names"),
    word("provider", "who served it"),
    word("endpoint", "kind of request"),
    *_sums(),
    PrimaryKeyConstraint("org_id", "day", "team_id", "model", "upstream_model", "provider", "endpoint"),
    without_rowid=True,
)
Index(None, usage_totals.c.day)

# Sums by day and label: the tags and end users of requests, of which one request may have several or none.
usage_labels = table(
    "usage_labels",
    opaque("org_id", _ORG),
    word("kind", "tag or end_user"),
    small("day", "days since 1970"),
    number_id("label", "see tags, end_users"),
    *_sums(),
    PrimaryKeyConstraint("org_id", "kind", "day", "label"),
    without_rowid=True,
)
Index(None, usage_labels.c.kind, usage_labels.c.day)
# Whether a label was seen since some day: what retention asks of every label there is.
Index(None, usage_labels.c.org_id, usage_labels.c.kind, usage_labels.c.label, usage_labels.c.day)
