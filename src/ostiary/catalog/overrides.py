"""Reads an operator's own rows, which stand before those of the shipped table. It must not take what makes no sense.

The format is that of the price table LiteLLM publishes; a row names what it changes, and a row for a model that the
shipped table does not hold names `mode` and `litellm_provider` too. Amounts are dollars per unit; the prices of a row
are taken together, and a zero is no price: what costs nothing is declared at its deployment. Other members are let be.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from ostiary.catalog.facts import CAPABILITIES, MODES, ModelFacts, line_of
from ostiary.catalog.models import Models, Provenance
from ostiary.catalog.published import EXAMPLE, facts_in, implausible, read_published

HEAD = msgspec.json.encode(Provenance(capabilities=CAPABILITIES)) + b"\n"
MAX_ROWS = 50_000
LONGEST_KEY = 512
MAX_DOLLARS = 1000  # per unit, as for a declared price
_COUNTS = ("max_tokens", "max_input_tokens", "max_output_tokens", "output_vector_size")
_MAX_COUNT = 10**9
_FOREIGN = "the gateway has no such mode; the row is left out"
_NEW = "the shipped table holds no such model: name `mode` and `litellm_provider`; the row is left out"
_UNMEASURED = "its prices are not such as can be measured, or not all of them; they are not taken"


class Overrides(msgspec.Struct, frozen=True):
    """The rows, None where there are none, and what is wrong with others: each a (row or member of it, reason).

    `refused` cannot be taken; `remarks` are about what is left out: rows of models whose mode nobody names, or which
    the gateway does not have, and prices that it cannot measure or that cannot be meant.
    """

    models: Models | None = None
    refused: tuple[tuple[str, str], ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()


def read_overrides(raw: bytes, shipped: Models) -> Overrides:
    """The rows of a file. Never raises; what is wrong is in the answer."""
    try:
        document = read_published(raw)
    except ValueError as failure:
        return Overrides(refused=(("", str(failure)),))
    document.pop(EXAMPLE, None)
    if len(document) > MAX_ROWS:
        return Overrides(refused=(("", f"holds more than {MAX_ROWS} rows"),))
    refused: list[tuple[str, str]] = []
    remarks: list[tuple[str, str]] = []
    lines: list[bytes] = []
    for key, entry in document.items():
        if wrong := list(_misfits(key, entry)):
            refused.extend(wrong)
        elif reason := _left_out(key, entry, shipped):
            remarks.append((key, reason))
        else:
            facts, reason = _stated(key, entry, shipped)
            lines.append(line_of(facts))
            remarks.extend([(key, reason)] if reason else [])
    models = Models(b"".join([HEAD, *sorted(lines)])) if lines else None
    return Overrides(models, tuple(refused), tuple(remarks))


def _left_out(key: str, entry: Mapping[str, Any], shipped: Models) -> str:
    mode = entry.get("mode")
    if mode is not None and mode not in MODES:
        return _FOREIGN
    complete = mode is not None and entry.get("litellm_provider")
    return "" if complete or shipped.row(key) else _NEW


def _stated(key: str, entry: Mapping[str, Any], shipped: Models) -> tuple[ModelFacts, str]:
    """What a row states, read as its mode or, where it names none, as that of the shipped row; and a remark."""
    mode = entry.get("mode")
    known = shipped.row(key)
    facts = facts_in(key, entry, mode or (known.mode if known else ""))
    facts = facts if mode else msgspec.structs.replace(facts, mode="")
    if complaint := implausible(facts):
        return msgspec.structs.replace(facts, price=None), f"{complaint} cannot be meant"
    priced = any(_is_price(name) and value for name, value in entry.items() if not isinstance(value, dict))
    return facts, _UNMEASURED if priced and facts.price is None else ""


def _misfits(key: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each member that cannot be taken, and why. Reasons hold no value of the file."""
    if not 0 < len(key) <= LONGEST_KEY:
        yield key[:80], f"expected a name of at most {LONGEST_KEY} characters"
    for name in ("mode", "litellm_provider", "deprecation_date"):
        if not isinstance(entry.get(name), str | None):
            yield f"{key}.{name}", "expected text"
    for name in CAPABILITIES:
        if not isinstance(entry.get(name), bool | None):
            yield f"{key}.{name}", "expected true or false"
    for name in _COUNTS:
        value = entry.get(name)
        if value is not None and not _number(value, _MAX_COUNT):
            yield f"{key}.{name}", "expected a whole number"
    if isinstance(entry.get("deprecation_date"), str) and not _day(entry["deprecation_date"]):
        yield f"{key}.deprecation_date", "expected a day as YYYY-MM-DD"
    yield from _misfits_of_prices(key, entry)


def _misfits_of_prices(key: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in entry.items():
        if not _is_price(name):
            continue
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, amount in parts:
            if amount is not None and not _number(amount, MAX_DOLLARS):
                yield f"{key}.{name}{part and '.'}{part}", f"expected dollars per unit, from 0 to {MAX_DOLLARS}"
    tiers = entry.get("tiered_pricing")
    if not isinstance(tiers, list | None) or not all(isinstance(tier, dict) for tier in tiers or ()):
        yield f"{key}.tiered_pricing", "expected a list of prices"
        return
    for index, tier in enumerate(tiers or ()):
        span = tier.get("range", [0])
        if not isinstance(span, list) or not span or not all(_number(bound, _MAX_COUNT) for bound in span):
            yield f"{key}.tiered_pricing.{index}.range", "expected two numbers"
        yield from _misfits_of_prices(f"{key}.tiered_pricing.{index}", {**tier, "tiered_pricing": None})


def _is_price(name: str) -> bool:
    return "cost_per_" in name or name.endswith("_token_cost")


def _number(value: object, most: int) -> bool:
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return number and 0 <= value <= most  # type: ignore[operator]


def _day(text: str) -> bool:
    try:
        return str(datetime.date.fromisoformat(text)) == text
    except ValueError:
        return False
