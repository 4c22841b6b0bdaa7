"""The queries of the spend and usage API, and days as it writes them. It must not read the ledger."""

from __future__ import annotations

from datetime import date, timedelta

import msgspec

from ostiary.control.access.documents import Limit, instant, wrong
from ostiary.store.usage import DAY_MILLISECONDS

EPOCH = date(1970, 1, 1)
LONGEST_RANGE = 3660  # days


class SpendLogs(msgspec.Struct, kw_only=True):
    """`GET /spend/logs`. `cursor` is the `next_cursor` of the page before."""

    api_key: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    summarize: bool = True
    page: Limit = 1
    page_size: Limit = 50
    cursor: str | None = None


class DailyActivity(msgspec.Struct, kw_only=True):
    """What every `…/daily/activity` takes: `page_size` counts days."""

    start_date: str | None = None
    end_date: str | None = None
    page: Limit = 1
    page_size: Limit = 10


class Activity(DailyActivity, kw_only=True):
    """`GET /user/daily/activity`."""

    model: str | None = None
    api_key: str | None = None
    user_id: str | None = None


class TeamActivity(Activity, kw_only=True):
    """`GET /team/daily/activity`."""

    team_ids: str | None = None


class TagActivity(DailyActivity, kw_only=True):
    """`GET /tag/daily/activity`."""

    tags: str | None = None


class Spend(msgspec.Struct, kw_only=True):
    """`GET /global/spend/…` and `/global/activity…`."""

    start_date: str | None = None
    end_date: str | None = None
    api_key: str | None = None
    limit: Limit = 100
    group_by: str = "team"


def day_of(text: str, field: str) -> int:
    """Days since the epoch of a date or a date and time, in UTC."""
    return instant(text, field) // DAY_MILLISECONDS


def day_text(day: int) -> str:
    """A day as `2026-01-31`."""
    return (EPOCH + timedelta(days=day)).isoformat()


def day_range(start: str | None, end: str | None, today: int, default_days: int) -> tuple[int, int]:
    """First and last day of a query, both inclusive; without dates the last `default_days` days.

    Raises:
        Fault: INVALID_REQUEST, naming the field.
    """
    last = today if end is None else day_of(end, "end_date")
    first = last - default_days + 1 if start is None else day_of(start, "start_date")
    if first > last:
        raise wrong("start_date", "is after `end_date`")
    if last - first > LONGEST_RANGE:
        raise wrong("start_date", f"a range has at most {LONGEST_RANGE} days")
    return first, last
