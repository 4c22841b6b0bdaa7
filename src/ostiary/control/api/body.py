"""Reading a JSON request body, strictly: bounded, and with one meaning only. It must not repeat it in an error."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from ostiary.core.fault import Fault, Kind

LARGEST = 1024 * 1024  # bytes
DEEPEST = 64
BIGGEST = 2**63


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object a request carries; an empty body is an empty object.

    Raises:
        Fault: TOO_LARGE, UNSUPPORTED_MEDIA, or MALFORMED for what is not one unambiguous JSON object.
    """
    raw = await _bytes(request)
    if not raw.strip():
        return {}
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise Fault(Kind.UNSUPPORTED_MEDIA, "send JSON, with content-type: application/json", param="content-type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Fault(Kind.UNSUPPORTED_MEDIA, "send the body without content-encoding", param="content-encoding")
    value = _decoded(raw)
    _check(value)
    if not isinstance(value, dict):
        raise Fault(Kind.MALFORMED, "the request body is not a JSON object")
    return value


async def _bytes(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    too_large = Fault(Kind.TOO_LARGE, f"the request body is larger than {LARGEST} bytes")
    if length.isdecimal() and int(length[:20]) > LARGEST:
        raise too_large
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > LARGEST:
                raise too_large
            pieces.append(piece)
    except ClientDisconnect:
        raise Fault(Kind.MALFORMED, "the request body ended early") from None
    return b"".join(pieces)


def _decoded(raw: bytes) -> object:
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unambiguous, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise Fault(Kind.MALFORMED, "the request body is not valid JSON") from None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Whoever reads the first of two equal names and whoever reads the last would see different requests."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Fault(Kind.MALFORMED, "the request body has an object with a name that occurs twice")
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _check(value: object) -> None:
    """Bound what the grammar does not: depth, size of numbers, text that is no text."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.keys())
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str):
                if not item.isascii() and any("\ud800" <= char <= "\udfff" for char in item):
                    raise Fault(Kind.MALFORMED, "the request body has text that is not Unicode")
                if "\0" in item:
                    raise Fault(Kind.MALFORMED, "the request body has text with a NUL in it")
            elif isinstance(item, int) and not -BIGGEST <= item < BIGGEST:
                raise Fault(Kind.MALFORMED, "the request body has a number beyond 64 bits")
            elif isinstance(item, float) and item in {float("inf"), float("-inf")}:
                raise Fault(Kind.MALFORMED, "the request body has a number beyond what can be kept")
        level = below
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Fault:
    return Fault(Kind.MALFORMED, f"the request body is nested more than {DEEPEST} deep")
