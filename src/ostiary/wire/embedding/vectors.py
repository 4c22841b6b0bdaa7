"""Rows of numbers and their base64 text. It must not change a number but for the four bytes of a packed float.

Source of the packing: the parsers of the official Python SDKs (openai 3.54 `lib/_parsing/_embeddings`, voyageai 0.5
`util`): the bytes of all numbers in a row, float32 with the least byte first, or int8 and uint8.
"""

from __future__ import annotations

import binascii
import math
import sys
from array import array
from collections.abc import Iterable

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.wire.conversation.unknown import inexpressible
from ostiary.wire.embedding.pivot import EmbeddingReply, EmbeddingRequest, Form, Number, Row, Vectors

PLAIN = Form()
_CODES = {Number.FLOAT: "f", Number.INT8: "b", Number.UINT8: "B", Number.BINARY: "b", Number.UBINARY: "B"}


def bad_answer(public: str = "the provider's answer is not readable") -> Fault:
    """The fault for an answer that is no answer."""
    return Fault(Kind.BAD_ANSWER, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)


def pack(row: tuple[int | float, ...], number: Number) -> str:
    """The base64 text of a row.

    Raises:
        Fault: BAD_ANSWER for a number that its kind cannot hold.
    """
    try:
        numbers = array(_CODES[number], row)
    except (OverflowError, TypeError):
        raise bad_answer() from None
    if number is Number.FLOAT:
        _require_finite(numbers)
        if sys.byteorder == "big":
            numbers.byteswap()
    return binascii.b2a_base64(numbers, newline=False).decode()


def unpack(text: str, number: Number) -> tuple[int | float, ...]:
    """The row of a base64 text.

    Raises:
        Fault: BAD_ANSWER for what is no base64 of such numbers, or not finite.
    """
    numbers = array(_CODES[number])
    try:
        numbers.frombytes(binascii.a2b_base64(text, strict_mode=True))
    except ValueError:  # binascii.Error is one
        raise bad_answer() from None
    if number is Number.FLOAT:
        if sys.byteorder == "big":
            numbers.byteswap()
        _require_finite(numbers)
    return tuple(numbers)


def _require_finite(numbers: Iterable[float]) -> None:
    """Float32 values sum up to what a double holds, so the sum is finite where all of them are."""
    if not math.isfinite(sum(numbers)):
        raise bad_answer()


def rows_as(reply: EmbeddingReply, form: Form) -> tuple[Row, ...]:
    """The rows of a reply in a form; what is packed otherwise is converted.

    Raises:
        Fault: BAD_ANSWER where the provider gave no such numbers.
    """
    found = next((vectors for vectors in reply.vectors if vectors.number is form.number), None)
    if found is None:
        raise bad_answer("the provider did not give the vectors in the form that was asked for")
    if form.packed:
        return tuple(row if isinstance(row, str) else pack(row, form.number) for row in found.rows)
    return tuple(unpack(row, form.number) if isinstance(row, str) else row for row in found.rows)


def only_form(request: EmbeddingRequest) -> Form:
    """The one form in which to ask for vectors; packed only where nobody wants them plain.

    Raises:
        Fault: INVALID_REQUEST where vectors of two kinds of numbers are wanted.
    """
    if len({form.number for form in request.forms}) > 1:
        raise inexpressible("forms")
    return min(request.forms, key=lambda form: form.packed, default=PLAIN)


def require_floats(request: EmbeddingRequest) -> None:
    """Refuse kinds of numbers that a provider of floats cannot give; packing is left to us.

    Raises:
        Fault: INVALID_REQUEST.
    """
    if any(form.number is not Number.FLOAT for form in request.forms):
        raise inexpressible("forms")


def floats(rows: tuple[Row, ...]) -> tuple[Vectors, ...]:
    """Rows of a provider that gives nothing but floats."""
    return (Vectors(Number.FLOAT, rows),)
