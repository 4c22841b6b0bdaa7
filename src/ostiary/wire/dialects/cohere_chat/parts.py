"""Content parts and tool calls of this dialect, from and to the pivot. It must not know requests from replies.

Source: Cohere API reference, v2 chat (official Python SDK 7.3, `Content`, `AssistantMessageV2ContentOneItem`,
`ToolContent`, `ToolCallV2`). What is not of the documented shape becomes an `UnknownPart`, and goes back as it came.

A `document` of a tool's result is the text of its `data`, with `type` in its rest; an empty string in the rest at
`document.data` stands for "the data was a string". A `tool_plan` is reasoning with `type` in its rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import (
    Content,
    Image,
    Inline,
    Link,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, Rest, find, inexpressible, losses_of

DIALECT = "cohere_chat"
CONTENT = "content"
TOOL_CALLS = "tool_calls"
TOOL_PLAN = "tool_plan"
STRING = msgspec.json.Decoder(str)
INTEGER = msgspec.json.Decoder(int)
NUMBER = msgspec.json.Decoder(int | float)
FLAG = msgspec.json.Decoder(bool)
STRINGS = msgspec.json.Decoder(list[str])
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])

# The kinds of content that each role may say.
OF_SYSTEM = frozenset({"text"})
OF_USER = frozenset({"text", "image_url"})
OF_ASSISTANT = frozenset({"text", "thinking"})
OF_TOOL = frozenset({"text", "document"})

_DOCUMENT = msgspec.Raw(b'"document"')
_WAS_STRING = msgspec.Raw(b'""')
_PLAN: Rest = (Extra(DIALECT, ("type",), msgspec.Raw(b'"tool_plan"')),)
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,([A-Za-z0-9+/=_-]*)", re.ASCII)


def decode_part(raw: msgspec.Raw, kinds: Set[str]) -> Content | Reasoning:
    """One item of a content list, of one of these kinds."""
    members = Members.of(raw)
    kind = members.take("type", STRING) if members is not None else None
    decode = _DECODERS.get(kind or "") if kind in kinds else None
    part = decode(members) if decode is not None and members is not None else None
    return part if part is not None else UnknownPart(DIALECT, CONTENT, raw)


def _text(members: Members) -> Text | None:
    text = members.take("text", STRING)
    return None if text is None else Text(text, members.rest(DIALECT))


def _thinking(members: Members) -> Reasoning | None:
    text = members.take("thinking", STRING)
    return None if text is None else Reasoning(text, rest=members.rest(DIALECT))


def _image(members: Members) -> Image | None:
    inner = members.inside("image_url")
    url = inner.take("url", STRING)
    if url is None:
        return None
    source: Link | Inline = Link(url)
    if url.startswith("data:"):
        match = _DATA_URL.fullmatch(url)
        if match is None:
            return None
        source = Inline(match[1], match[2])
    return Image(source, inner.take("detail", STRING), members.rest(DIALECT))


def _document(members: Members) -> Text | None:
    inner = members.inside("document")
    text = inner.take("data", STRING)
    if text is not None:
        inner.put_back("data", _WAS_STRING)
    else:
        data = inner.take("data", RAW)
        if data is None or not bytes(data).startswith(b"{"):
            return None
        text = bytes(data).decode()
    members.put_back("type", _DOCUMENT)
    return Text(text, members.rest(DIALECT))


_DECODERS = {"text": _text, "thinking": _thinking, "image_url": _image, "document": _document}


def encode_part(part: Part, kinds: Set[str], where: str, losses: list[Loss]) -> Any:
    """One item of a content list.

    Raises:
        Fault: INVALID_REQUEST for content that this dialect cannot say there.
    """
    if isinstance(part, UnknownPart) and part.said_by == DIALECT:
        return part.value
    document: dict[str, Any]
    match part:
        case Text(text):
            document = _said(part) if "document" in kinds else {"type": "text", "text": text}
        case Refusal(text):
            losses.append(Loss(LossKind.MARK, where))
            document = {"type": "text", "text": text}
        case Reasoning(text) if "thinking" in kinds:
            document = {"type": "thinking", "thinking": text}
        case Image(Link() | Inline() as source, detail) if "image_url" in kinds:
            url = source.url if isinstance(source, Link) else f"data:{source.media_type};base64,{source.base64}"
            document = {"type": "image_url", "image_url": {"url": url}}
            if detail is not None:
                document["image_url"]["detail"] = detail
        case _:
            raise inexpressible(where)
    losses += unsaid(part, where)
    return with_rest(document, part.rest, DIALECT)


def _said(part: Text) -> dict[str, Any]:
    """A tool's words: as text, or as the document they came from."""
    if find(part.rest, DIALECT, "type") is None:
        return {"type": "text", "text": part.text}
    if find(part.rest, DIALECT, "document", "data") is not None:
        return {"type": "document", "document": {"data": part.text}}
    data = part.text.encode()
    if data.startswith(b"{") and Members.of(data) is not None:
        return {"type": "document", "document": {"data": msgspec.Raw(data)}}
    return {"type": "document", "document": {"data": part.text}}


def unsaid(part: Part, where: str) -> list[Loss]:
    """What of a part's marks and proofs this dialect has no place for; citations are the caller's to write."""
    losses = losses_of(part.rest, DIALECT, where) if not isinstance(part, UnknownPart) else []
    if isinstance(part, (Text, Reasoning, ToolCall)) and part.seal is not None:
        losses.append(Loss(LossKind.SEAL, where))
    if isinstance(part, (Text, Image, ToolCall)) and part.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    return losses


def decode_call(raw: msgspec.Raw) -> ToolCall | UnknownPart:
    """One item of `tool_calls`."""
    members = Members.of(raw)
    if members is None or ("type" in members and members.take("type", STRING) != "function"):
        return UnknownPart(DIALECT, TOOL_CALLS, raw)
    inner = members.inside("function")
    call_id, name, arguments = members.take("id", STRING), inner.take("name", STRING), inner.take("arguments", STRING)
    if call_id is None or name is None or arguments is None:
        return UnknownPart(DIALECT, TOOL_CALLS, raw)
    return ToolCall(call_id, name, arguments, rest=members.rest(DIALECT))


def encode_call(call: ToolCall | UnknownPart, where: str, losses: list[Loss]) -> Any:
    """One item of `tool_calls`.

    Raises:
        Fault: INVALID_REQUEST for a call of free words, or of another dialect's kind.
    """
    if isinstance(call, UnknownPart):
        if call.said_by != DIALECT:
            raise inexpressible(where)
        return call.value
    if call.free:
        raise inexpressible(where)
    losses += unsaid(call, where)
    document = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return with_rest(document, call.rest, DIALECT)


def plan(text: str) -> Reasoning:
    """What a model says before it calls tools."""
    return Reasoning(text, rest=_PLAN)


def is_plan(part: Part) -> bool:
    """Whether a part belongs into `tool_plan`."""
    return isinstance(part, Reasoning) and find(part.rest, DIALECT, "type") is not None


def is_call(part: Part) -> bool:
    """Whether a part belongs into `tool_calls`."""
    return isinstance(part, ToolCall) or (isinstance(part, UnknownPart) and part.place == TOOL_CALLS)


def is_plain(parts: Sequence[Part]) -> bool:
    """Whether a list of content says no more than one string, or nothing."""
    return not parts or (len(parts) == 1 and isinstance(parts[0], Text) and not parts[0].rest)
