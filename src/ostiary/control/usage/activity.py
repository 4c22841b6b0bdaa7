"""Usage by day with its breakdowns, from the rollups alone. It must not read single records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostiary.control.access.documents import read, wrong
from ostiary.control.access.keyfields import dollars
from ostiary.control.usage.names import KeyBook
from ostiary.control.usage.queries import LONGEST_RANGE, Activity, day_range, day_text
from ostiary.core.clock import Clock
from ostiary.store.reports import Dimension, Sum, UsageFilter, UsageReports
from ostiary.store.usage import DAY_MILLISECONDS

LARGEST_PAGE = 31  # days
KEYS_SHOWN = 1000  # the costliest of a page

# Name of the breakdown -> dimension of the rollup.
_BREAKDOWNS: dict[str, Dimension] = {
    "models": "upstream_model",
    "model_groups": "model",
    "providers": "provider",
    "endpoints": "endpoint",
}


class ActivityService:
    """`/user/daily/activity`, plain and aggregated.

    Args:
        reports: the ledger.
        book: names of keys.
        clock: for today.
    """

    def __init__(self, reports: UsageReports, book: KeyBook, clock: Clock) -> None:
        self._reports = reports
        self._book = book
        self._clock = clock

    async def daily(self, query: Mapping[str, object]) -> dict[str, object]:
        """One page of days, newest first. The totals in `metadata` are the page's."""
        asked = read(query, Activity, strict=False)
        if not 1 <= asked.page_size <= LARGEST_PAGE:
            raise wrong("page_size", f"expected 1 to {LARGEST_PAGE} (days)")
        page, where = max(asked.page, 1), await self._where(asked)
        days, total = await self._reports.days(where, limit=asked.page_size, offset=(page - 1) * asked.page_size)
        pages = -(-total // asked.page_size)
        answer = await self._answer(where, days, by_model_and_key=True)
        metadata: dict[str, Any] = answer["metadata"]
        metadata.update(page=page, total_pages=pages, has_more=page < pages)
        return answer

    async def aggregated(self, query: Mapping[str, object]) -> dict[str, object]:
        """All days of the range in one answer; its models and providers are not broken down by key."""
        where = await self._where(read(query, Activity, strict=False))
        days, _ = await self._reports.days(where, limit=LONGEST_RANGE, offset=0)
        answer = await self._answer(where, days, by_model_and_key=False)
        answer["metadata"].update(page=1, total_pages=1, has_more=False)
        return answer

    async def _where(self, asked: Activity) -> UsageFilter:
        for field in ("start_date", "end_date"):
            if getattr(asked, field) is None:
                raise wrong(field, "is required")
        today = int(self._clock.now() * 1000) // DAY_MILLISECONDS
        first, last = day_range(asked.start_date, asked.end_date, today, 1)
        return UsageFilter(
            first_day=first,
            last_day=last,
            model=asked.model,
            user_id=asked.user_id,
            key_id=await self._book.id_of(asked.api_key),
        )

    async def _answer(self, where: UsageFilter, days: list[int], *, by_model_and_key: bool) -> dict[str, Any]:
        """The days asked for, and nothing of the days between the oldest and the newest that were not."""
        if not days:
            return {"results": [], "metadata": _totals([])}
        within = UsageFilter(
            first_day=min(days), last_day=max(days), model=where.model, user_id=where.user_id, key_id=where.key_id
        )
        sums = await self._reports.sums(("day",), within)
        results = {
            found.place[0]: {
                "date": day_text(found.place[0]),
                "metrics": metrics(found),
                "breakdown": {"mcp_servers": {}, "entities": {}, "api_keys": {}, **{name: {} for name in _BREAKDOWNS}},
            }
            for found in reversed(sums)
        }
        for name, dimension in _BREAKDOWNS.items():
            for found in await self._reports.sums(("day", dimension), within):
                breakdown: Any = results[found.place[0]]["breakdown"]
                breakdown[name][found.place[1]] = {
                    "metrics": metrics(found), "metadata": {}, "api_key_breakdown": {}
                }  # fmt: skip
        await self._by_key(within, results, _BREAKDOWNS if by_model_and_key else {})
        return {"results": list(results.values()), "metadata": _totals(sums)}

    async def _by_key(
        self, within: UsageFilter, results: dict[int, dict[str, Any]], further: Mapping[str, Dimension]
    ) -> None:
        """The keys of each day, and of each value of the further breakdowns of the day."""
        by: tuple[Dimension, ...] = ("day", "key_id")
        found = await self._reports.sums(by, within, largest=KEYS_SHOWN)
        names = await self._book.names(row.place[1] for row in found)
        for row in found:
            key = names[row.place[1]]
            entry = {"metrics": metrics(row), "metadata": {"key_alias": key.alias, "team_id": key.team_id}}
            results[row.place[0]]["breakdown"]["api_keys"][key.token] = entry
        for name, dimension in further.items():
            for row in await self._reports.sums((*by, dimension), within, largest=KEYS_SHOWN):
                key_id = row.place[1]
                if key_id not in names:
                    continue
                key = names[key_id]
                entry = {"metrics": metrics(row), "metadata": {"key_alias": key.alias, "team_id": key.team_id}}
                results[row.place[0]]["breakdown"][name][row.place[2]]["api_key_breakdown"][key.token] = entry


def metrics(found: Sum) -> dict[str, object]:
    """A sum under the names of the compatible surface."""
    return {
        "spend": dollars(found.cost),
        "prompt_tokens": found.input,
        "completion_tokens": found.output,
        "cache_read_input_tokens": found.cache_read,
        "cache_creation_input_tokens": found.cache_creation,
        "total_tokens": found.input + found.output,
        "successful_requests": found.ok,
        "failed_requests": found.failed,
        "api_requests": found.requests,
    }


def _totals(sums: list[Sum]) -> dict[str, Any]:
    counts = [sum(getattr(found, name) for found in sums) for name in Sum.__struct_fields__[1:]]
    named = metrics(Sum((), *counts)).items()
    return {name if name.startswith("total_") else f"total_{name}": value for name, value in named}
