"""Compares the shipped model table with another one. It must not decide which of them is right."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from ostiary.catalog.declared import FIELDS
from ostiary.catalog.facts import ModelFacts
from ostiary.catalog.models import Models
from ostiary.catalog.published import implausible, published_facts, read_published
from ostiary.core.price import Price

_PER_UNIT = Decimal(10) ** 15  # nanodollars per million units to dollars per unit
_PER_REQUEST = Decimal(10) ** 9
_FACTS = {
    "mode": "mode",
    "litellm_provider": "owner",
    "max_input_tokens": "max_input_tokens",
    "max_output_tokens": "max_output_tokens",
    "max_context_tokens": "context_window",
    "output_vector_size": "vector_size",
    "deprecation_date": "ends",
}
_OF_OUR_TABLE = "max_context_tokens"


class Change(msgspec.Struct, frozen=True):
    """One fact of a model: as shipped, and in the other table. None is unknown. Amounts are dollars per unit."""

    model: str
    field: str
    before: object
    after: object


class Difference(msgspec.Struct, frozen=True):
    """What an update would do: models that come, that go, and facts that change, each sorted by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(shipped: Models, raw: bytes) -> Difference:
    """The difference to a table of ours, or to one of the shape LiteLLM publishes.

    The latter is only one of our sources: it is compared with the rows that came from it, and by what it can state.

    Raises:
        ValueError: it is neither.
    """
    ours = {facts.name: facts for facts in shipped}
    theirs, whole = _read(raw)
    if not whole:
        ours = {name: facts for name, facts in ours.items() if facts.source == 0 or name in theirs}
    changed = [
        change
        for name in sorted(ours.keys() & theirs.keys())
        for change in _changes(ours[name], theirs[name])
        if whole or change.field != _OF_OUR_TABLE
    ]
    return Difference(tuple(sorted(theirs.keys() - ours.keys())), tuple(sorted(ours.keys() - theirs.keys())),
                      tuple(changed))  # fmt: skip


def _read(raw: bytes) -> tuple[dict[str, ModelFacts], bool]:
    """The rows, and whether it is a whole table of ours."""
    head, end, _ = raw.partition(b"\n")
    if end and head.startswith(b'{"as_of"'):
        try:
            return {facts.name: facts for facts in Models(raw)}, True
        except (msgspec.DecodeError, ValueError):
            raise ValueError("is a damaged model table") from None
    rows = {}
    for facts in published_facts(read_published(raw)):
        rows[facts.name] = msgspec.structs.replace(facts, price=None) if implausible(facts) else facts
    if not rows:
        raise ValueError("holds no model")
    return rows, False


def _changes(before: ModelFacts, after: ModelFacts) -> list[Change]:
    mine, theirs = stated(before), stated(after)
    fields = dict.fromkeys((*mine, *theirs))
    return [
        Change(before.name, field, mine.get(field), theirs.get(field))
        for field in fields
        if mine.get(field) != theirs.get(field)
    ]


def stated(facts: ModelFacts) -> dict[str, Any]:
    """What is known of a model, under the names of the compatible price table; what is unknown is not there."""
    known = {field: getattr(facts, name) for field, name in _FACTS.items()}
    return {**{field: value for field, value in known.items() if value}, **dollars(facts.price), **facts.capabilities}


def dollars(price: Price | None) -> Mapping[str, Decimal]:
    """Dollars per unit of every rate that a price has."""
    if price is None:
        return {}
    amounts: dict[str, Decimal] = {}
    told = set()
    for field, rate in FIELDS.items():  # of several fields for one rate the first
        value = getattr(price, rate)
        if value and rate not in told:
            amounts[field] = Decimal(value) / (_PER_REQUEST if rate == "request" else _PER_UNIT)
        told.add(rate)
    return amounts
