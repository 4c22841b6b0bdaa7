"""Single requests as the spend API shows them. It must not show content: there is none in a record."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from ostiary.control.access.documents import instant, iso, read, wrong
from ostiary.control.access.keyfields import dollars
from ostiary.control.usage.names import KeyBook, KeyNames
from ostiary.control.usage.queries import SpendLogs, day_range, day_text
from ostiary.core.clock import Clock
from ostiary.core.record import Lost, Outcome, Record
from ostiary.store.reports import LogFilter, UsageFilter, UsageReports
from ostiary.store.usage import DAY_MILLISECONDS

LARGEST_PAGE = 1000
SHARES_SHOWN = 3000  # the costliest users, and models, of the days in a summary
DEEPEST = 100_000  # rows; beyond it a cursor is asked for
_FINE = frozenset({Outcome.COMPLETED, Outcome.CLIENT_GONE})


class SpendLogService:
    """`/spend/logs` and its pages.

    Args:
        reports: the ledger.
        book: names of keys.
        clock: for today.
    """

    def __init__(self, reports: UsageReports, book: KeyBook, clock: Clock) -> None:
        self._reports = reports
        self._book = book
        self._clock = clock

    async def logs(self, query: Mapping[str, object]) -> list[dict[str, object]]:
        """Days summed up when dates are given and `summarize` is not false; else rows, newest first."""
        asked = read(query, SpendLogs, strict=False)
        dated = asked.start_date is not None and asked.end_date is not None
        if dated and asked.summarize and asked.request_id is None:
            return await self._summary(asked)
        return await self._rows(await self._page(asked))

    async def page(self, query: Mapping[str, object]) -> dict[str, object]:
        """A page of rows with its place among all: `page` or, however deep, `cursor`."""
        asked = read(query, SpendLogs, strict=False)
        records = await self._page(asked)
        total = await self._total(asked)
        more = len(records) == asked.page_size
        return {
            "data": await self._rows(records),
            "total": total,
            "page": max(asked.page, 1),
            "page_size": asked.page_size,
            "total_pages": -(-total // asked.page_size),
            "next_cursor": _cursor(records[-1]) if more else None,
        }

    async def _page(self, asked: SpendLogs) -> list[Record]:
        if not 1 <= asked.page_size <= LARGEST_PAGE:
            raise wrong("page_size", f"expected 1 to {LARGEST_PAGE}")
        offset = (max(asked.page, 1) - 1) * asked.page_size
        if offset > DEEPEST:
            raise wrong("page", f"pages end at row {DEEPEST}; go on with `cursor`")
        before = None if asked.cursor is None else _place(asked.cursor)
        where = await self._where(asked)
        return await self._reports.records(where, limit=asked.page_size, offset=0 if before else offset, before=before)

    async def _total(self, asked: SpendLogs) -> int:
        """From the rollup where it can tell, else counted, up to a bound."""
        where = await self._where(asked)
        whole_days = not any(at and at % DAY_MILLISECONDS for at in (where.since, where.until))
        if whole_days and where.record_id is None:
            days = UsageFilter(
                first_day=None if where.since is None else where.since // DAY_MILLISECONDS,
                last_day=None if where.until is None else where.until // DAY_MILLISECONDS - 1,
                key_id=where.key_id,
                user_id=where.user_id,
            )
            return sum(found.requests for found in await self._reports.sums((), days))
        return await self._reports.count(where)

    async def _where(self, asked: SpendLogs) -> LogFilter:
        since = None if asked.start_date is None else instant(asked.start_date, "start_date")
        until = None if asked.end_date is None else instant(asked.end_date, "end_date")
        if until is not None and asked.end_date is not None and len(asked.end_date) == len("2026-01-31"):
            until += DAY_MILLISECONDS  # a date includes its day
        return LogFilter(
            since=since,
            until=until,
            record_id=asked.request_id,
            key_id=await self._book.id_of(asked.api_key),
            user_id=asked.user_id,
        )

    async def _rows(self, records: list[Record]) -> list[dict[str, object]]:
        names = await self._book.names(record.key_id for record in records)
        return [log_view(record, names[record.key_id]) for record in records]

    async def _summary(self, asked: SpendLogs) -> list[dict[str, object]]:
        """One entry a day: what was spent, and the largest shares by user and by model."""
        today = int(self._clock.now()) * 1000 // DAY_MILLISECONDS
        first, last = day_range(asked.start_date, asked.end_date, today, 1)
        where = UsageFilter(
            first_day=first,
            last_day=last,
            key_id=await self._book.id_of(asked.api_key),
            user_id=asked.user_id,
        )
        spent, users, models = await asyncio.gather(
            self._reports.sums(("day",), where, only=("cost",)),
            self._reports.sums(("day", "user_id"), where, largest=SHARES_SHOWN, only=("cost",)),
            self._reports.sums(("day", "model"), where, largest=SHARES_SHOWN, only=("cost",)),
        )
        days: dict[int, dict[str, Any]] = {}
        for found in spent:
            day = found.place[0]
            days[day] = {"startTime": day_text(day), "spend": dollars(found.cost), "users": {}, "models": {}}
        for field, shares in (("users", users), ("models", models)):
            for found in sorted(shares, key=lambda found: found.place):
                days[found.place[0]][field][found.place[1]] = dollars(found.cost)
        return list(days.values())


def log_view(record: Record, key: KeyNames) -> dict[str, object]:
    """A record as a row of the spend log."""
    return {
        "request_id": record.id,
        "call_type": record.endpoint,
        "api_key": key.token,
        "spend": dollars(record.cost),
        "total_tokens": record.usage.total,
        "prompt_tokens": record.usage.input,
        "completion_tokens": record.usage.output,
        "startTime": iso(record.started),
        "endTime": iso(record.ended or None),
        "completionStartTime": iso(record.first_byte or None),
        "model": record.upstream_model or record.model,
        "model_id": record.deployment,
        "model_group": record.model,
        "custom_llm_provider": record.provider,
        "user": record.user_id,
        "team_id": record.team_id or None,
        "organization_id": record.organization_id or None,
        "end_user": record.end_user,
        "cache_hit": "False",
        "request_tags": list(record.tags),
        "status": "success" if record.outcome in _FINE else "failure",
        "messages": {},
        "response": {},
        "metadata": {
            "user_api_key_alias": key.alias,
            "user_api_key": key.token,
            "outcome": record.outcome,
            "http_status": record.status,
            "error": record.fault or None,
            "attempted_retries": max(record.attempts - 1, 0),
            "attempted_fallbacks": record.fallbacks,
            "stream": record.stream,
            "usage_measured": record.measured,
            "price_state": record.price,
            "losses": [flag.name.lower() for flag in Lost(record.losses) if flag.name],
            "usage": msgspec.to_builtins(record.usage),
        },
    }


def _cursor(record: Record) -> str:
    return base64.urlsafe_b64encode(f"{record.started}:{record.id}".encode()).decode()


def _place(cursor: str) -> tuple[int, str]:
    try:
        started, _, name = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition(":")
        return int(started), name
    except (binascii.Error, ValueError):
        raise wrong("cursor", "is not one of ours") from None
