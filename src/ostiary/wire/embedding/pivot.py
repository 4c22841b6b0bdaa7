"""Embeddings as the pivot says them. It must not hold a wire shape's own spelling of anything.

Invariants: a `Blend` holds one part only where that is unknown (any other is the input itself). Every `Vectors` of a
reply holds one row for each input, in the order of the inputs. `rest` is sorted by path, so that equal requests are
equal values.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.parts import Image
from ostiary.wire.conversation.unknown import Rest


class Purpose(StrEnum):
    """What the vectors are for."""

    QUERY = "query"
    DOCUMENT = "document"
    SIMILARITY = "similarity"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"
    ANSWERING = "answering"
    VERIFICATION = "verification"
    CODE_QUERY = "code_query"
    CODE_DOCUMENT = "code_document"


class Number(StrEnum):
    """What a vector is made of. BINARY and UBINARY hold eight dimensions in each byte."""

    FLOAT = "float"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"
    UBINARY = "ubinary"


class Form(msgspec.Struct, frozen=True):
    """How vectors are wanted: their numbers, and `packed` as base64 text (floats as four bytes, the least first)."""

    number: Number = Number.FLOAT
    packed: bool = False


class Cut(StrEnum):
    """Which end of an input may be left out where it is too long. NONE: such an input is an error."""

    NONE = "none"
    START = "start"
    END = "end"


class Words(msgspec.Struct, frozen=True, tag=True):
    """A text. `title` is that of the document it is from."""

    text: str
    title: str | None = None
    rest: Rest = ()


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """A text as the numbers of its tokens; they mean something to one family of models only."""

    ids: tuple[int, ...]


class UnknownInput(msgspec.Struct, frozen=True, tag=True):
    """An input, or a part of one, that only `said_by` understands, whole and raw."""

    said_by: str
    value: msgspec.Raw


class Blend(msgspec.Struct, frozen=True, tag=True):
    """Several parts that make one vector together."""

    parts: tuple[Words | Image | UnknownInput, ...]
    rest: Rest = ()


Input: TypeAlias = Words | Tokens | Image | Blend | UnknownInput


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for one vector per input.

    `model` is empty where a shape says it in the path. `dimensions` is the length of a vector. `forms` are the ways in
    which the vectors are wanted, each of them; empty: not said, which is floats. `normalize`: to length one. None
    always means: not said.
    """

    model: str
    inputs: tuple[Input, ...]
    dimensions: int | None = None
    kind: Purpose | None = None
    forms: tuple[Form, ...] = ()
    cut: Cut | None = None
    normalize: bool | None = None
    user: str | None = None
    rest: Rest = ()


Row: TypeAlias = tuple[int | float, ...] | str


class Vectors(msgspec.Struct, frozen=True):
    """One row for each input: its numbers, or base64 text as in `Form`."""

    number: Number
    rows: tuple[Row, ...]


class EmbeddingReply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: the vectors in each form that was asked for. `id` and `model` are the provider's own words."""

    vectors: tuple[Vectors, ...]
    usage: Usage | None = None
    model: str = ""
    id: str = ""
    rest: Rest = ()
