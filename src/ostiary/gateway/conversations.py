"""What is kept of a response, and what it gives again: a conversation to go on with, pages of its items. It must not
know who keeps it.

All of it is the wire's own JSON of the Responses API, as the caller sent it and was sent it. Source: official Python
SDK 3.54, `types.responses` (`Response`, `ResponseItemList`, `ResponseInputItemParam`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.gateway.objects import RESPONSE

PAGE, LARGEST_PAGE = 20, 100  # items of a page, as documented
PREVIOUS = "previous_response_id"
_ORDERS = ("asc", "desc")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Items that a model makes here; how they are called and how they came to be means nothing to another model.
_MADE = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "function_call_output": "fco",
    "custom_tool_call_output": "ctco",
}
_WITH_STATUS = frozenset({"function_call", "function_call_output"})

_NULL = msgspec.Raw(b"null")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Kept(msgspec.Struct, frozen=True):
    """A response and every item that was sent to get it, those of earlier turns first."""

    response: msgspec.Raw
    items: list[msgspec.Raw]


class _Output(msgspec.Struct):
    output: list[dict[str, msgspec.Raw]] = []


class _Part(msgspec.Struct):
    """A part of what a message says, as far as it is plain text."""

    type: str = ""
    text: str | None = None
    annotations: list[msgspec.Raw] = []


class _Item(msgspec.Struct):
    """What tells an item from a mere reference to one."""

    type: msgspec.Raw = _NULL
    role: msgspec.Raw = _NULL


_kept = msgspec.json.Decoder(Kept).decode
_output = msgspec.json.Decoder(_Output).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_items = msgspec.json.Decoder(list[_Item]).decode


def opened(body: bytes) -> Kept:
    """What was kept."""
    return _kept(body)


def input_items(members: Mapping[str, msgspec.Raw]) -> list[msgspec.Raw]:
    """The items of a request's `input`; a text is a message of the user. Of what is neither there are none."""
    raw = members.get("input")
    begins = _begins(raw)
    if raw is None or begins not in (b"[", b'"'):
        return []
    if begins == b"[":
        return _raws(raw)
    return [msgspec.Raw(_encode({"type": "message", "role": "user", "content": raw}))]


def joined(kept: Kept, members: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """The members of a request that goes on from a kept response, without the word that it does.

    What the model said follows what it was asked, and then comes the new input. Instructions are not inherited.
    """
    items = [*kept.items, *_said(kept.response), *input_items(members)]
    # the model first: nothing within the items is taken for it
    ordered = {"model": members["model"]} if "model" in members else {}
    ordered |= {name: value for name, value in members.items() if name != PREVIOUS}
    ordered["input"] = msgspec.Raw(b"[" + b",".join(map(bytes, items)) + b"]")
    return ordered


def without_reasoning(raw: msgspec.Raw) -> bytes:
    """A list of items without the reasoning in it: its proofs are another model's."""
    return (
        b"[" + b",".join(bytes(item) for item in _raws(raw) if _word(_members(item).get("type")) != "reasoning") + b"]"
    )


def refuse_references(members: Mapping[str, msgspec.Raw]) -> None:
    """Refuse what would name things that others keep in the same provider account.

    Raises:
        Fault: INVALID_REQUEST.
    """
    if bytes(members.get("conversation", b"null")) != b"null":
        public = f"conversations are not kept here; go on with {PREVIOUS!r}, or send the whole conversation"
        raise Fault(Kind.INVALID_REQUEST, public, param="conversation")
    raw = members.get("input")
    if raw is None or _begins(raw) != b"[":
        return
    try:
        items = _items(raw)
    except _UNREADABLE:
        return  # no list of objects; whoever reads it says so
    for place, item in enumerate(items):
        kind = _word(item.type)
        if kind == "item_reference" or (not kind and bytes(item.role) == b"null"):
            where = f"input.{place}"
            public = f"{where!r} names an item instead of being one; send it whole, or go on with {PREVIOUS!r}"
            raise Fault(Kind.INVALID_REQUEST, public, param=where)


def page(kept: Kept, response_id: str, query: bytes) -> bytes:
    """A page of what a response was made from, as `ResponseItemList`; the newest first, if not asked otherwise.

    Raises:
        Fault: INVALID_REQUEST for a limit or an order that is none; NOT_FOUND for an `after` that is not there.
    """
    asked = parsed(query)
    order, limit, after = asked.get("order", "desc"), _limit(asked.get("limit", "")), asked.get("after")
    if order not in _ORDERS:
        raise Fault(Kind.INVALID_REQUEST, "'order' must be asc or desc", param="order")
    mark = response_id.removeprefix(RESPONSE)
    items = [_listed(item, f"{mark}_in_{number}") for number, item in enumerate(kept.items)]
    if order == "desc":
        items.reverse()
    start = 0
    if after is not None:
        start = next((place + 1 for place, item in enumerate(items) if _word(item["id"]) == after), 0)
        if not start:
            raise Fault(Kind.NOT_FOUND, "there is no such item", param="after")
    shown = items[start : start + limit]
    ids = [item["id"] for item in shown] or [msgspec.Raw(b'""')]
    more = start + limit < len(items)
    return _encode({"object": "list", "data": shown, "first_id": ids[0], "last_id": ids[-1], "has_more": more})


def parsed(query: bytes) -> dict[str, str]:
    """The first value of each parameter of a query.

    Raises:
        Fault: INVALID_REQUEST for one that is not ASCII, or has too many.
    """
    try:
        return {name: values[0] for name, values in parse_qs(query.decode("ascii"), max_num_fields=50).items()}
    except (UnicodeDecodeError, ValueError):
        raise Fault(Kind.INVALID_REQUEST, "the query is not readable") from None


def with_members(document: bytes | msgspec.Raw, changes: Mapping[str, object]) -> bytes:
    """A JSON object with some members replaced, or added; as it is where it is none."""
    try:
        members: dict[str, Any] = dict(_members(document))
    except _UNREADABLE:
        return bytes(document)
    return _encode(members | dict(changes))


def _said(response: msgspec.Raw) -> list[msgspec.Raw]:
    """What a response adds to the conversation."""
    said = []
    for item in _output(response).output:
        kind = _word(item.get("type"))
        left = ("id", "status") if kind in _MADE else ()
        kept: dict[str, Any] = {name: value for name, value in item.items() if name not in left}
        if kind == "message" and (words := _words(item.get("content"))) is not None:
            kept["content"] = words
        said.append(msgspec.Raw(_encode(kept)))
    return said


def _words(content: msgspec.Raw | None) -> str | None:
    """The text of a message that says no more than one: as every provider understands it."""
    try:
        (part,) = _parts(content or b"[]")
    except (*_UNREADABLE, ValueError):
        return None
    return part.text if part.type == "output_text" and not part.annotations else None


def _listed(raw: msgspec.Raw, mark: str) -> dict[str, Any]:
    """An item as it is listed: it has a type, an id, and its content in parts."""
    item: dict[str, Any] = dict(_members(raw))
    kind = _word(item.get("type")) or "message"
    item["type"] = kind
    item["id"] = msgspec.Raw(_encode(f"{_PREFIXES.get(kind, 'item')}_{mark}"))
    if kind in _WITH_STATUS:
        item.setdefault("status", "completed")
    if kind == "message":
        spoken = _word(item.get("role")) == "assistant"
        content = item.get("content")
        if _begins(content) == b'"':
            part: dict[str, Any] = {"type": "output_text" if spoken else "input_text", "text": content}
            item["content"] = [part | ({"annotations": []} if spoken else {})]
        item.setdefault("status", "completed")
    return item


def _limit(text: str) -> int:
    if not text:
        return PAGE
    if not text.isdecimal() or not text.isascii() or len(text) > 3 or not 1 <= int(text) <= LARGEST_PAGE:
        raise Fault(Kind.INVALID_REQUEST, f"'limit' must be from 1 to {LARGEST_PAGE}", param="limit")
    return int(text)


def _begins(raw: msgspec.Raw | None) -> bytes:
    """The first byte of a value: what kind it is."""
    return b"" if raw is None else bytes(memoryview(raw)[:1])


def _word(raw: Any) -> str:
    """A member that is a text; empty for anything else."""
    try:
        return msgspec.json.decode(raw, type=str) if raw is not None else ""
    except _UNREADABLE:
        return ""
