"""Images and tool calls of this dialect, from and to the pivot. It must not know requests from replies.

Source: Ollama's API documentation (official Python package 0.6, `Message`, `Message.ToolCall`). Images are base64 text
without a media type, which is read from their first bytes. The arguments of a call are an object; its `id` is told by
newer servers only, and else made from the call's place. What is not of the documented shape becomes an `UnknownPart`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Audio, Document, Image, Inline, Part, Reasoning, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.unknown import Loss, LossKind, inexpressible, losses_of

DIALECT = "ollama_chat"
CONTENT = "content"
THINKING = "thinking"
IMAGES = "images"
TOOL_CALLS = "tool_calls"
STRING = msgspec.json.Decoder(str)
INTEGER = msgspec.json.Decoder(int)
NUMBER = msgspec.json.Decoder(int | float)
FLAG = msgspec.json.Decoder(bool)
STRINGS = msgspec.json.Decoder(list[str])
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])

# How the base64 text of an image begins; magic numbers of the formats.
_MEDIA_TYPES = {
    "/9j/": "image/jpeg",
    "iVBORw0KGgo": "image/png",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
}


def decode_image(raw: msgspec.Raw) -> Image | UnknownPart:
    """One item of `images`."""
    try:
        data = STRING.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return UnknownPart(DIALECT, IMAGES, raw)
    media_type = media_type_of(data)
    return Image(Inline(media_type, data)) if media_type is not None else UnknownPart(DIALECT, IMAGES, raw)


def media_type_of(data: str) -> str | None:
    """The media type of an image in base64, None for one of no known format."""
    return next((name for start, name in _MEDIA_TYPES.items() if data.startswith(start)), None)


def encode_image(part: Part, where: str, losses: list[Loss]) -> Any:
    """One item of `images`.

    Raises:
        Fault: INVALID_REQUEST for an image that is not in the message, and for anything else.
    """
    if isinstance(part, UnknownPart) and part.said_by == DIALECT:
        return part.value
    if not isinstance(part, Image) or not isinstance(part.source, Inline):
        raise inexpressible(where)
    if part.source.media_type != media_type_of(part.source.base64):
        losses.append(Loss(LossKind.MARK, f"{where}.source.media_type"))
    if part.detail not in (None, "auto"):
        losses.append(Loss(LossKind.KNOB, f"{where}.detail"))
    losses += unsaid(part, where)
    losses += losses_of(part.rest, DIALECT, where)
    return part.source.base64


def decode_call(raw: msgspec.Raw, made_id: str, *, numbered: bool = False) -> ToolCall | UnknownPart:
    """One item of `tool_calls`.

    Args:
        raw: the item.
        made_id: its id where it tells none.
        numbered: its place in the list may stand in it and means nothing more.
    """
    members = Members.of(raw)
    if members is None or ("type" in members and members.take("type", STRING) != "function"):
        return UnknownPart(DIALECT, TOOL_CALLS, raw)
    inner = members.inside("function")
    call_id = members.take("id", STRING) if "id" in members else made_id
    name, arguments = inner.take("name", STRING), inner.take("arguments", RAW)
    if call_id is None or name is None or (arguments is not None and not bytes(arguments).startswith(b"{")):
        return UnknownPart(DIALECT, TOOL_CALLS, raw)
    if numbered:
        inner.take("index", INTEGER)
    text = bytes(arguments).decode() if arguments is not None else "{}"
    return ToolCall(call_id, name, text, rest=members.rest(DIALECT))


def encode_call(call: ToolCall | UnknownPart, made_id: str, where: str, losses: list[Loss]) -> Any:
    """One item of `tool_calls`. An id that is only made is left out.

    Raises:
        Fault: INVALID_REQUEST for a call whose arguments are no object, or of another dialect's kind.
    """
    if isinstance(call, UnknownPart):
        if call.said_by != DIALECT:
            raise inexpressible(where)
        return call.value
    arguments = call.arguments.strip() or "{}"
    if call.free or not _is_object(arguments):
        raise inexpressible(where)
    losses += unsaid(call, where)
    losses += losses_of(call.rest, DIALECT, where)
    named = {} if call.id == made_id else {"id": call.id}
    function = {"name": call.name, "arguments": msgspec.Raw(arguments.encode())}
    return with_rest({**named, "type": "function", "function": function}, call.rest, DIALECT)


def _is_object(text: str) -> bool:
    try:
        return Members.of(text.encode()) is not None
    except UnicodeEncodeError:  # half of a pair that stands for one character
        return False


def unsaid(part: Part, where: str) -> list[Loss]:
    """What of a part's marks and proofs this dialect has no place for."""
    losses = []
    if isinstance(part, (Text, Reasoning, ToolCall)) and part.seal is not None:
        losses.append(Loss(LossKind.SEAL, where))
    if isinstance(part, Text) and part.citations:
        losses.append(Loss(LossKind.MARK, f"{where}.citations"))
    if isinstance(part, (Text, Image, Audio, Document, ToolCall)) and part.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    return losses


def is_call(part: Part) -> bool:
    """Whether a part belongs into `tool_calls`."""
    return isinstance(part, ToolCall) or (isinstance(part, UnknownPart) and part.place == TOOL_CALLS)
