"""Spend over everything: totals, days, and rankings by key, model, provider, team, user, tag. From rollups alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ostiary.control.access.documents import read, wrong
from ostiary.control.access.keyfields import dollars
from ostiary.control.usage.names import KeyBook
from ostiary.control.usage.queries import Spend, day_range, day_text
from ostiary.core.clock import Clock
from ostiary.store.reports import Dimension, LabelFilter, Sum, UsageFilter, UsageReports
from ostiary.store.usage import DAY_MILLISECONDS

DEFAULT_DAYS = 30
LARGEST_LIMIT = 1000

_REPORTS: dict[str, tuple[Dimension, str]] = {
    "team": ("team_id", "team_id"),
    "user": ("user_id", "user_id"),
    "organization": ("organization_id", "organization_id"),
    "api_key": ("key_id", "api_key"),
    "model": ("model", "model"),
    "provider": ("provider", "provider"),
}


class SpendService:
    """`/global/spend/…`, `/global/activity…`.

    Args:
        reports: the ledger.
        book: names of keys.
        clock: for today.
    """

    def __init__(self, reports: UsageReports, book: KeyBook, clock: Clock) -> None:
        self._reports = reports
        self._book = book
        self._clock = clock

    async def total(self) -> dict[str, object]:
        """All that was ever spent."""
        (found,) = await self._reports.sums((), UsageFilter())
        return {"spend": dollars(found.cost), "max_budget": None}

    async def days(self, query: Mapping[str, object]) -> list[dict[str, object]]:
        """Spend by day."""
        _, where = await self._asked(query)
        return [
            {"date": day_text(found.place[0]), "spend": dollars(found.cost)}
            for found in await self._reports.sums(("day",), where)
        ]

    async def keys(self, query: Mapping[str, object]) -> list[dict[str, object]]:
        """The costliest keys."""
        ranked = await self._ranked(query, "key_id")
        names = await self._book.names(found.place[0] for found in ranked)
        return [
            {
                "api_key": names[found.place[0]].token,
                "key_alias": names[found.place[0]].alias,
                "key_name": names[found.place[0]].name,
                "total_spend": dollars(found.cost),
            }
            for found in ranked
        ]

    async def by(self, query: Mapping[str, object], dimension: Dimension, name: str) -> list[dict[str, object]]:
        """The costliest values of a dimension, under this name; `spend` and `total_spend` are the same amount."""
        return [
            {name: found.place[0], "spend": dollars(found.cost), "total_spend": dollars(found.cost)}
            for found in await self._ranked(query, dimension)
        ]

    async def report(self, query: Mapping[str, object]) -> list[dict[str, object]]:
        """Spend by day and by what `group_by` names."""
        asked, where = await self._asked(query)
        if asked.group_by not in _REPORTS:
            raise wrong("group_by", "expected one of " + ", ".join(_REPORTS))
        dimension, name = _REPORTS[asked.group_by]
        sums = await self._reports.sums(("day", dimension), where)
        names = await self._book.names(row.place[1] for row in sums) if dimension == "key_id" else {}
        return [
            {
                "group_by_day": day_text(found.place[0]),
                name: names[found.place[1]].token if names else found.place[1],
                "total_spend": dollars(found.cost),
                "total_tokens": found.input + found.output,
                "api_requests": found.requests,
            }
            for found in sums
        ]

    async def tags(self, query: Mapping[str, object]) -> dict[str, object]:
        """The costliest tags."""
        rows = [
            {"name": tag.place[0], "spend": dollars(tag.cost), "log_count": tag.requests}
            for tag in await self._labels(query, "tag")
        ]
        return {"spend_per_tag": rows}

    async def tag_names(self) -> dict[str, object]:
        """Tags ever seen."""
        return {"tag_names": await self._reports.label_names("tag", limit=LARGEST_LIMIT)}

    async def end_users(self, query: Mapping[str, object]) -> list[dict[str, object]]:
        """The costliest end users."""
        return [
            {"end_user": user.place[0], "total_count": user.requests, "total_spend": dollars(user.cost)}
            for user in await self._labels(query, "end_user")
        ]

    async def activity(self, query: Mapping[str, object]) -> dict[str, object]:
        """Requests and tokens by day."""
        _, where = await self._asked(query)
        return _activity(await self._reports.sums(("day",), where))

    async def model_activity(self, query: Mapping[str, object]) -> list[dict[str, object]]:
        """Requests and tokens by model and day."""
        _, where = await self._asked(query)
        models: dict[str, list[Sum]] = {}
        for found in await self._reports.sums(("model", "day"), where):
            models.setdefault(found.place[0], []).append(found)
        return [{"model": model, **_activity(sums)} for model, sums in models.items()]

    async def _ranked(self, query: Mapping[str, object], dimension: Dimension) -> list[Sum]:
        asked, where = await self._asked(query)
        return await self._reports.sums((dimension,), where, largest=_limit(asked))

    async def _labels(self, query: Mapping[str, object], kind: Literal["tag", "end_user"]) -> list[Sum]:
        asked = read(query, Spend, strict=False)
        first, last = self._range(asked)
        where = LabelFilter(kind=kind, first_day=first, last_day=last)
        return await self._reports.label_sums(("label",), where, largest=_limit(asked))

    async def _asked(self, query: Mapping[str, object]) -> tuple[Spend, UsageFilter]:
        asked = read(query, Spend, strict=False)
        first, last = self._range(asked)
        key_id = await self._book.id_of(asked.api_key)
        return asked, UsageFilter(first_day=first, last_day=last, key_id=key_id)

    def _range(self, asked: Spend) -> tuple[int, int]:
        today = int(self._clock.now() * 1000) // DAY_MILLISECONDS
        return day_range(asked.start_date, asked.end_date, today, DEFAULT_DAYS)


def _activity(sums: list[Sum]) -> dict[str, object]:
    days = [
        {
            "date": day_text(found.place[-1]),
            "api_requests": found.requests,
            "total_tokens": found.input + found.output,
        }
        for found in sums
    ]
    return {
        "daily_data": days,
        "sum_api_requests": sum(found.requests for found in sums),
        "sum_total_tokens": sum(found.input + found.output for found in sums),
    }


def _limit(asked: Spend) -> int:
    if not 1 <= asked.limit <= LARGEST_LIMIT:
        raise wrong("limit", f"expected 1 to {LARGEST_LIMIT}")
    return asked.limit
