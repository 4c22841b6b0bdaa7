"""Looks up what a model costs and how much it takes, in the table that ships with the package. It must not guess.

Which row is a deployment's, in this order; the first that exists decides, and if none does the facts are unknown:

1. Where the operator names a `base_model`, only that is looked up: below the provider's names (`azure/` + `gpt-4o`),
   then as the whole key it may be. A `base_model` that the table does not know leaves the price unknown.
2. The upstream model below one of the provider's names in the table (`groq/llama-3.1-8b-instant`).
3. The upstream model as a whole key, if the row belongs to the provider: the makers' own models are listed bare
   (`gpt-4o`, `claude-sonnet-4-5`), and another provider's model of that name is another model.
4. The same three for a simpler name: of a fine-tuned model (`ft:gpt-4o-2024-08-06:acme::id`) its listed base
   (`ft:gpt-4o-2024-08-06`), of a dated snapshot that is not listed (`gpt-4o-2031-01-01`) the name without the date.

Names are compared whole and to the letter: a prefix, a variant (`:free`) or a capital letter is another model.

What the table does not hold, so that what it holds can be computed from a `Usage`: dearer rates beyond a length of the
prompt (the plain rate stands for all), discounts by hour, batch or service tier, surcharges by region, tools that the
provider runs (searches, sandboxes), cache writes kept for an hour, pictures by size or quality, pictures and video in a
prompt at a rate of their own, reranks of more than one search unit. A source's zero is not a price: it is unknown.

A table is one object of bytes, a row per line in the order of the lines, and is never parsed as a whole: a look-up
halves it until it has the line, and parses that. An operator's own rows are a second such table, asked first: what one
of them says stands in place of what the shipped row says, and what it does not say stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import msgspec

from ostiary.catalog.facts import ModelFacts, Row, facts_of
from ostiary.catalog.provider import Provider

__all__ = ["ModelFacts", "Models", "Provenance", "Source", "load_models"]

_DATE = re.compile(r"-(?:20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d)$")


class Source(msgspec.Struct, frozen=True):
    """A package whose figures are in the table: its wheel, and the wheel's SHA-256 in hexadecimal."""

    name: str
    version: str
    license: str
    sha256: str = ""


class Provenance(msgspec.Struct, frozen=True):
    """Where a table comes from: the day its sources were fetched (YYYY-MM-DD), and which they are.

    `capabilities` are the names of the bits in its lines.
    """

    as_of: str = ""
    sources: tuple[Source, ...] = ()
    capabilities: tuple[str, ...] = ()


class Models:
    """A model table, as bytes: a line of provenance, then sorted lines, one per model, `["key","owner",…]`.

    Args:
        table: the whole of it, every line ended.
        over: another one, whose rows stand before this one's.
    """

    def __init__(self, table: bytes, over: Models | None = None) -> None:
        self._table = table
        self._first = table.index(b"\n") + 1
        self._row = msgspec.json.Decoder(Row)
        self._over = over
        self._names = self.provenance().capabilities

    def provenance(self) -> Provenance:
        """Where the figures come from."""
        return msgspec.json.decode(self._table[: self._first], type=Provenance)

    def under(self, over: Models) -> Models:
        """The same table with the rows of another before its own."""
        return Models(self._table, over)

    def find(self, provider: Provider, upstream_model: str, base_model: str | None = None) -> ModelFacts | None:
        """Facts of the model that a deployment of `provider` serves, None if the table has no row for it."""
        names = provider.price_names or (provider.name,)
        for model in _spellings(base_model or upstream_model):
            for name in names:
                if facts := self.row(f"{name}/{model}"):
                    return facts
            facts = self.row(model)
            if facts and (base_model or facts.owner in names):
                return facts
        return None

    def row(self, key: str) -> ModelFacts | None:
        """The facts below a key, whoever serves the model."""
        row = self._find(key)
        mine = facts_of(row, self._names) if row else None
        theirs = self._over.row(key) if self._over else None
        if mine is None or theirs is None:
            return theirs or mine
        return _merged(mine, theirs)

    def __iter__(self) -> Iterator[ModelFacts]:
        """The rows of this table, in the order of its lines; those before it are not among them."""
        start = self._first
        while start < len(self._table):
            end = self._table.index(b"\n", start) + 1
            yield facts_of(self._row.decode(self._table[start:end]), self._names)
            start = end

    def _find(self, key: str) -> Row | None:
        sought = b"[" + msgspec.json.encode(key) + b","
        low, high = self._first, len(self._table)
        while low < high:  # both at the start of a line
            start = self._table.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self._table.index(b"\n", start) + 1
            head = self._table[start : start + len(sought)]
            if head == sought:
                return self._row.decode(self._table[start:end])
            if head < sought:
                low = end
            else:
                high = start
        return None


def _spellings(model: str) -> Iterator[str]:
    """The name as given, then the simpler names that the same model is listed under."""
    yield model
    if model.startswith("ft:"):
        model = ":".join(model.split(":", 2)[:2])
        yield model
    plain = _DATE.sub("", model)
    if plain != model:
        yield plain


def _merged(facts: ModelFacts, over: ModelFacts) -> ModelFacts:
    """The facts with those in their place that `over` states."""
    stated = {name: value for name in over.__struct_fields__ if (value := getattr(over, name)) not in (None, "", {})}
    stated["capabilities"] = {**facts.capabilities, **over.capabilities}
    stated["source"] = facts.source
    return msgspec.structs.replace(facts, **stated)


@cache
def load_models() -> Models:
    """The table that ships with the package."""
    return Models(files("ostiary.catalog").joinpath("data", "models.jsonl").read_bytes())
