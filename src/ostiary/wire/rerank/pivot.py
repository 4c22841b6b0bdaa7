"""Reranking as the pivot says it. It must not hold a wire shape's own spelling of anything.

Invariant: the index of every result is the place of a document in the request, and no place comes twice. `rest` is
sorted by path, so that equal requests are equal values.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.unknown import Rest


class Passage(msgspec.Struct, frozen=True, tag=True):
    """A text to be ranked. `title` is that of the document it is from."""

    text: str
    title: str | None = None
    rest: Rest = ()


class Record(msgspec.Struct, frozen=True, tag=True):
    """An object of named values to be ranked, as raw JSON."""

    value: msgspec.Raw


class UnknownDocument(msgspec.Struct, frozen=True, tag=True):
    """A document that only `said_by` understands, whole and raw."""

    said_by: str
    value: msgspec.Raw


Document: TypeAlias = Passage | Record | UnknownDocument


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to rank documents by how well they answer a query.

    `top` is how many results are wanted at most. `return_documents`: the results should hold the documents too.
    `truncate`: what is too long may be cut, and else is an error. `max_tokens` of a document are read. None always
    means: not said.
    """

    model: str
    query: str
    documents: tuple[Document, ...]
    top: int | None = None
    return_documents: bool | None = None
    truncate: bool | None = None
    max_tokens: int | None = None
    rest: Rest = ()


class Result(msgspec.Struct, frozen=True):
    """The score of a document, by its place in the request. The document itself is the request's."""

    index: int
    score: int | float
    rest: Rest = ()


class RerankReply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: the results in the provider's order, best first. `units` are searches billed as such, where a provider
    counts those; `id` and `model` are its own words."""

    results: tuple[Result, ...]
    usage: Usage | None = None
    units: int | float | None = None
    model: str = ""
    id: str = ""
    rest: Rest = ()
