"""Usage by day with its breakdowns, from the rollups alone. It must not read single records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

import msgspec

from ostiary.control.access.documents import read, wrong
from ostiary.control.access.keyfields import dollars
from ostiary.control.usage.names import KeyBook
from ostiary.control.usage.queries import (
    LONGEST_RANGE,
    Activity,
    DailyActivity,
    TagActivity,
    TeamActivity,
    day_range,
    day_text,
)
from ostiary.core.clock import Clock
from ostiary.store.reports import Dimension, LabelFilter, Sum, UsageFilter, UsageReports, folded
from ostiary.store.usage import DAY_MILLISECONDS

LARGEST_PAGE = 31  # days
KEYS_SHOWN = 500  # the costliest of a page
PARTS_SHOWN = 2000  # rows that the shares of the costliest of those keys are made of
LABELS_SHOWN = 1000
LARGEST_CHOICE = 100  # teams or tags of one query

# Name of the breakdown -> dimension of the rollup.
_BREAKDOWNS: dict[str, Dimension] = {
    "models": "upstream_model",
    "model_groups": "model",
    "providers": "provider",
    "endpoints": "endpoint",
}
_BY_TEAM: dict[str, Dimension] = {**_BREAKDOWNS, "entities": "team_id"}


class ActivityService:
    """`/user/daily/activity`, plain and aggregated, `/team/daily/activity` and `/tag/daily/activity`.

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
        return await self._page(asked, await self._where(asked), _BREAKDOWNS)

    async def by_team(self, query: Mapping[str, object]) -> dict[str, object]:
        """The same for what teams used, each team an entity of the day. `team_ids` names some, separated by commas."""
        asked = read(query, TeamActivity, strict=False)
        teams = _named(asked.team_ids, "team_ids")
        return await self._page(asked, msgspec.structs.replace(await self._where(asked), team_ids=teams), _BY_TEAM)

    async def aggregated(self, query: Mapping[str, object]) -> dict[str, object]:
        """All days of the range in one answer; its models and providers are not broken down by key."""
        where = await self._where(read(query, Activity, strict=False))
        days, _ = await self._reports.days(where, limit=LONGEST_RANGE, offset=0)
        answer = await self._answer(where, days, _BREAKDOWNS, narrow=())
        answer["metadata"].update(page=1, total_pages=1, has_more=False)
        return answer

    async def by_tag(self, query: Mapping[str, object]) -> dict[str, object]:
        """A page of days with each tag as an entity. Requests with two of the tags count for both, in totals too."""
        asked = read(query, TagActivity, strict=False)
        first, last = self._range(asked)
        size, page = _page_of(asked)
        where = LabelFilter(kind="tag", first_day=first, last_day=last, labels=_named(asked.tags, "tags"))
        days, total = await self._reports.label_days(where, limit=size, offset=(page - 1) * size)
        if not days:
            return _paged({"results": [], "metadata": _totals([])}, page, size, total)
        within = msgspec.structs.replace(where, first_day=min(days), last_day=max(days))
        sums = await self._reports.label_sums(("day",), within)
        results = {found.place[0]: _day(found) for found in reversed(sums)}
        for found in await self._reports.label_sums(("day", "label"), within, largest=LABELS_SHOWN):
            results[found.place[0]]["breakdown"]["entities"][found.place[1]] = _part(found)
        return _paged({"results": list(results.values()), "metadata": _totals(sums)}, page, size, total)

    async def _page(
        self, asked: Activity, where: UsageFilter, breakdowns: Mapping[str, Dimension]
    ) -> dict[str, object]:
        size, page = _page_of(asked)
        days, total = await self._reports.days(where, limit=size, offset=(page - 1) * size)
        return _paged(await self._answer(where, days, breakdowns, narrow=breakdowns), page, size, total)

    async def _where(self, asked: Activity) -> UsageFilter:
        first, last = self._range(asked)
        return UsageFilter(
            first_day=first,
            last_day=last,
            model=asked.model,
            user_id=asked.user_id,
            key_id=await self._book.id_of(asked.api_key),
        )

    def _range(self, asked: DailyActivity) -> tuple[int, int]:
        for field in ("start_date", "end_date"):
            if getattr(asked, field) is None:
                raise wrong(field, "is required")
        today = int(self._clock.now() * 1000) // DAY_MILLISECONDS
        return day_range(asked.start_date, asked.end_date, today, 1)

    async def _answer(
        self, where: UsageFilter, days: list[int], breakdowns: Mapping[str, Dimension], *, narrow: Iterable[str]
    ) -> dict[str, Any]:
        """The days asked for, and nothing of the days between the oldest and the newest that were not."""
        if not days:
            return {"results": [], "metadata": _totals([])}
        within = msgspec.structs.replace(where, first_day=min(days), last_day=max(days))
        # One look at what has few values; teams may be many, and would multiply the groups.
        together = [name for name in breakdowns if name in _BREAKDOWNS]
        sums, shown = await asyncio.gather(
            self._reports.sums(("day", *(breakdowns[name] for name in together)), within),
            self._reports.costliest_keys(within, KEYS_SHOWN),
        )
        daily = await asyncio.to_thread(folded, sums, 0)
        results = {found.place[0]: _day(found) for found in reversed(daily)}
        parts = {name: await asyncio.to_thread(folded, sums, 0, position) for position, name in enumerate(together, 1)}
        for name in breakdowns.keys() - parts:
            parts[name] = await self._reports.sums(("day", breakdowns[name]), within)
        for name in breakdowns:
            for found in sorted(parts[name], key=lambda found: found.place):
                results[found.place[0]]["breakdown"][name][found.place[1]] = _part(found)
            await asyncio.sleep(0)
        await self._by_key(shown, within, results, {name: breakdowns[name] for name in narrow})
        return {"results": list(results.values()), "metadata": _totals(daily)}

    async def _by_key(
        self,
        shown: list[tuple[Sum, int]],
        within: UsageFilter,
        results: dict[int, dict[str, Any]],
        by: Mapping[str, Dimension],
    ) -> None:
        """The costliest keys of these days, and their shares of the breakdowns to be narrowed down by key."""
        names = await self._book.names(found.place[1] for found, _ in shown)

        def entry(found: Sum) -> dict[str, object]:
            key = names[found.place[1]]
            return {"metrics": metrics(found), "metadata": {"key_alias": key.alias, "team_id": key.team_id}}

        for found, _ in sorted(shown, key=lambda one: one[0].place):
            day, key_id = found.place
            results[day]["breakdown"]["api_keys"][names[key_id].token] = entry(found)
        sizes = accumulate(rows for _, rows in shown)
        leading = [found.place for (found, _), sofar in zip(shown, sizes, strict=True) if sofar <= PARTS_SHOWN]
        sums = await self._reports.sums(("day", "key_id", *by.values()), within, of=leading) if by else []
        for position, name in enumerate(by, 2):
            for found in await asyncio.to_thread(folded, sums, 0, 1, position):
                day, key_id, value = found.place
                results[day]["breakdown"][name][value]["api_key_breakdown"][names[key_id].token] = entry(found)
            await asyncio.sleep(0)  # thousands of entries: requests get their turn


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


def _day(found: Sum) -> dict[str, Any]:
    parts: dict[str, Any] = {"mcp_servers": {}, "entities": {}, "api_keys": {}, **{name: {} for name in _BREAKDOWNS}}
    return {"date": day_text(found.place[0]), "metrics": metrics(found), "breakdown": parts}


def _part(found: Sum) -> dict[str, object]:
    return {"metrics": metrics(found), "metadata": {}, "api_key_breakdown": {}}


def _named(text: str | None, field: str) -> tuple[str, ...]:
    """Names separated by commas; none mean all."""
    names = tuple(name for name in (part.strip() for part in (text or "").split(",")) if name)
    if len(names) > LARGEST_CHOICE:
        raise wrong(field, f"at most {LARGEST_CHOICE} names")
    return names


def _page_of(asked: DailyActivity) -> tuple[int, int]:
    if not 1 <= asked.page_size <= LARGEST_PAGE:
        raise wrong("page_size", f"expected 1 to {LARGEST_PAGE} (days)")
    return asked.page_size, max(asked.page, 1)


def _paged(answer: dict[str, Any], page: int, size: int, total: int) -> dict[str, object]:
    pages = -(-total // size)
    answer["metadata"].update(page=page, total_pages=pages, has_more=page < pages)
    return answer


def _totals(sums: list[Sum]) -> dict[str, Any]:
    counts = [sum(getattr(found, name) for found in sums) for name in Sum.__struct_fields__[1:]]
    named = metrics(Sum((), *counts)).items()
    return {name if name.startswith("total_") else f"total_{name}": value for name, value in named}
