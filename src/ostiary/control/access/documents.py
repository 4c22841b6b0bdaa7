"""Reading what an API caller wrote: typed fields, the rest as it came. It must not repeat a value in an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ostiary.core.fault import Fault, Kind
from ostiary.core.money import Nano, nano_from_dollars

T = TypeVar("T", bound=msgspec.Struct)

Name = Annotated[str, Meta(max_length=256)]
Names = Annotated[list[Name], Meta(max_length=1000)]
Limit = Annotated[int, Meta(ge=0, le=10**15)]
Limits = Annotated[dict[Name, Limit], Meta(max_length=1000)]
Dollars = int | float | str

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "mo": 30 * 86_400}
LONGEST_SECONDS = 100 * 366 * 86_400

_DURATION = re.compile(r"([0-9]{1,10})(s|m|h|d|w|mo)", re.ASCII)
_PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")


def read(document: Mapping[str, object], kind: type[T], *, strict: bool = True) -> T:
    """The typed fields of a document.

    Args:
        document: a decoded JSON object, or the parameters of a query.
        kind: a struct; fields it does not have are left to `rest`.
        strict: False takes numbers and booleans written as text, as queries do.

    Raises:
        Fault: INVALID_REQUEST, naming the field and what was expected there.
    """
    try:
        return msgspec.convert(document, kind, strict=strict)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        missing = re.search(r"missing required field `(\w+)`", text)
        field = ".".join(part for part in (place and place[1], missing and missing[1]) if part)
        expected = re.match(r"Expected `[^`]*`(?: (?:of length )?[<>]=? [0-9.e+]+)?", text)
        reason = "is required" if missing else (expected[0].lower().replace("`", "") if expected else "is not valid")
        raise wrong(field, reason) from None


def rest(document: Mapping[str, object], *kinds: type[msgspec.Struct]) -> dict[str, object]:
    """The fields that none of the structs has, as they came."""
    known = {name for kind in kinds for name in kind.__struct_fields__}
    return {name: value for name, value in document.items() if name not in known}


def wrong(field: str, reason: str, *, status: int | None = None) -> Fault:
    """A field that cannot be taken."""
    subject = f"`{field}`" if field else "the request"
    return Fault(Kind.INVALID_REQUEST, f"{subject}: {reason}", param=field or None, status=status)


def money(value: Dollars | None, field: str) -> Nano | None:
    """Nanodollars of an amount in dollars.

    Raises:
        Fault: INVALID_REQUEST, naming the field.
    """
    if value is None:
        return None
    try:
        return nano_from_dollars(value)
    except ValueError as error:
        raise wrong(field, str(error)) from None


def seconds(duration: str | None, field: str) -> int | None:
    """Seconds of a duration: `30s`, `30m`, `30h`, `30d`, `2w`, `1mo` (30 days).

    Raises:
        Fault: INVALID_REQUEST, naming the field.
    """
    if duration is None:
        return None
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise wrong(field, "expected a duration such as 30s, 30m, 30h, 30d, 2w or 1mo")
    length = int(found[1]) * SECONDS[found[2]]
    if not 0 < length <= LONGEST_SECONDS:
        raise wrong(field, "expected a duration between one second and a hundred years")
    return length


def instant(text: str, field: str) -> int:
    """Unix milliseconds of a date (`2026-01-31`, midnight UTC) or a date and time; without a zone it is UTC.

    Raises:
        Fault: INVALID_REQUEST, naming the field.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise wrong(field, "expected a date such as 2026-01-31 or a date and time in ISO 8601") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(milliseconds: int | None) -> str | None:
    """A time for an answer: ISO 8601 in UTC."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
