"""Content parts and tool calls of this dialect, from and to the pivot. It must not know requests from replies.

Source: OpenAI API reference, chat completions, content parts and tool calls (official Python SDK 3.54, `types.chat`).
What is not of the documented shape becomes an `UnknownPart`, and goes back as it came. `cache_control` on a part or a
call is not OpenAI's, but OpenRouter's and LiteLLM's (its reference, `ChatCompletionCachedContent`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Content,
    Document,
    Image,
    Inline,
    Link,
    Part,
    Refusal,
    Stored,
    Text,
    ToolCall,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Loss, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.openai_chat.proofs import extra_content, take_call_seal
from ostiary.wire.dialects.openai_chat.values import DIALECT, INTEGER, STRING

CONTENT = "content"
TOOL_CALLS = "tool_calls"
IMAGES = "images"
CACHE_CONTROL = "cache_control"

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,([A-Za-z0-9+/=_-]*)", re.ASCII)
_MEDIA_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "aac": "audio/aac",
    "opus": "audio/opus",
    "pcm16": "audio/pcm",
}
_FORMATS = {media_type: name for name, media_type in _MEDIA_TYPES.items()}
# The two kinds of tools, and the member that holds what the model wrote for them.
ARGUMENTS = {"function": "arguments", "custom": "input"}


class _Mark(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["ephemeral"]
    ttl: str | msgspec.UnsetType = msgspec.UNSET


_mark = msgspec.json.Decoder(_Mark)


def take_cache(members: Members) -> Cache | None:
    """The mark for the prompt cache; what is none stays where it is."""
    mark = members.take(CACHE_CONTROL, _mark)
    return None if mark is None else Cache(None if mark.ttl is msgspec.UNSET else mark.ttl)


def put_cache(document: dict[str, Any], cache: Cache | None) -> None:
    """Write the mark for the prompt cache, where there is one."""
    if cache is not None:
        document[CACHE_CONTROL] = {"type": "ephemeral", **({} if cache.ttl is None else {"ttl": cache.ttl})}


def decode_part(raw: msgspec.Raw) -> Content:
    """One item of a content list."""
    members = Members.of(raw)
    kind = members.take("type", STRING) if members is not None else None
    decode = _DECODERS.get(kind or "")
    part = decode(members) if decode is not None and members is not None else None
    return part if part is not None else UnknownPart(DIALECT, CONTENT, raw)


def _text(members: Members) -> Content | None:
    text = members.take("text", STRING)
    cache = take_cache(members)
    return None if text is None else Text(text, members.rest(DIALECT), cache=cache)


def _refusal(members: Members) -> Content | None:
    text = members.take("refusal", STRING)
    members.put_back("type", msgspec.Raw(b'"refusal"'))  # it stood in the list, not beside it
    return None if text is None else Refusal(text, members.rest(DIALECT))


def _image(members: Members) -> Content | None:
    inner = members.inside("image_url")
    url = inner.take("url", STRING)
    if url is None:
        return None
    source = _inline(url) if url.startswith("data:") else Link(url)
    detail, cache = inner.take("detail", STRING), take_cache(members)
    return Image(source, detail, members.rest(DIALECT), cache) if source is not None else None


def _audio(members: Members) -> Content | None:
    inner = members.inside("input_audio")
    data, name = inner.take("data", STRING), inner.take("format", STRING)
    if data is None or name not in _MEDIA_TYPES:
        return None
    cache = take_cache(members)
    return Audio(Inline(_MEDIA_TYPES[name], data), members.rest(DIALECT), cache)


def _file(members: Members) -> Content | None:
    inner = members.inside("file")
    data = inner.take("file_data", STRING)
    source: Inline | Stored | None = None
    if data is not None:
        source = _inline(data)
    elif (stored := inner.take("file_id", STRING)) is not None:
        source = Stored(stored, DIALECT)
    name, cache = inner.take("filename", STRING), take_cache(members)
    return Document(source, name, members.rest(DIALECT), cache) if source is not None else None


def _inline(url: str) -> Inline | None:
    match = _DATA_URL.fullmatch(url)
    return Inline(match[1], match[2]) if match else None


_DECODERS = {"text": _text, "refusal": _refusal, "image_url": _image, "input_audio": _audio, "file": _file}


def encode_part(part: Part, where: str, losses: list[Loss]) -> Any:
    """One item of a content list.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    if isinstance(part, UnknownPart) and part.said_by == DIALECT:
        return part.value
    document: dict[str, Any]
    match part:
        case Text(text):
            document = {"type": "text", "text": text}
        case Refusal(text):
            document = {"type": "refusal", "refusal": text}
        case Image(Link() | Inline() as source, detail):
            url = source.url if isinstance(source, Link) else _url(source)
            document = {"type": "image_url", "image_url": {"url": url}}
            if detail is not None:
                document["image_url"]["detail"] = detail
        case Audio(Inline(media_type, data)) if media_type in _FORMATS:
            document = {"type": "input_audio", "input_audio": {"data": data, "format": _FORMATS[media_type]}}
        case Document(Inline() | Stored() as source, name):
            document = {"type": "file", "file": _held(source, where)}
            if name is not None:
                document["file"]["filename"] = name
        case _:
            raise inexpressible(where)
    if not isinstance(part, Refusal):
        put_cache(document, part.cache)
    losses += losses_of(part.rest, DIALECT, where)
    return with_rest(document, part.rest, DIALECT)


def _held(source: Inline | Stored, where: str) -> dict[str, str]:
    if isinstance(source, Inline):
        return {"file_data": _url(source)}
    if source.said_by != DIALECT:
        raise inexpressible(where)
    return {"file_id": source.id}


def _url(source: Inline) -> str:
    return f"data:{source.media_type};base64,{source.base64}"


def decode_call(raw: msgspec.Raw) -> ToolCall | UnknownPart:
    """One item of `tool_calls`. Its place in the list may stand in it, where it came in a stream, and is not kept."""
    members = Members.of(raw)
    if members is None:
        return UnknownPart(DIALECT, TOOL_CALLS, raw)
    kind = members.take("type", STRING) if "type" in members else "function"
    members.take("index", INTEGER)
    inner = members.inside(kind or "")
    call_id, name = members.take("id", STRING), inner.take("name", STRING)
    arguments = inner.take(ARGUMENTS.get(kind or "", ""), STRING)
    if call_id is None or name is None or arguments is None:
        return UnknownPart(DIALECT, TOOL_CALLS, raw)
    cache, (seal, note) = take_cache(members), take_call_seal(members)
    return ToolCall(call_id, name, arguments, kind == "custom", noted(members.rest(DIALECT), note), cache, seal)


def noted(rest: Rest, note: Rest) -> Rest:
    """The rest with a note in its place."""
    return tuple(sorted((*rest, *note), key=lambda extra: extra.path)) if note else rest


def decode_picture(raw: msgspec.Raw) -> Image | UnknownPart:
    """One item of `images`, which some servers write beside the content of an answer, as OpenRouter does."""
    members = Members.of(raw)
    if members is not None and members.take("type", STRING) == "image_url":
        members.take("index", INTEGER)  # its place in the list, where it came in a stream
        part = _image(members)
        if isinstance(part, Image):
            return part
    return UnknownPart(DIALECT, IMAGES, raw)


def encode_call(call: ToolCall | UnknownPart, where: str, losses: list[Loss]) -> Any:
    """One item of `tool_calls`.

    Raises:
        Fault: INVALID_REQUEST for a call of another dialect's kind.
    """
    if isinstance(call, UnknownPart):
        if call.said_by != DIALECT:
            raise inexpressible(where)
        return call.value
    losses += losses_of(call.rest, DIALECT, where)
    kind = "custom" if call.free else "function"
    document: dict[str, Any] = {"id": call.id, "type": kind}
    document[kind] = {"name": call.name, ARGUMENTS[kind]: call.arguments}
    put_cache(document, call.cache)
    if call.seal is not None:
        document.update(extra_content(call.seal, call.rest))
    return with_rest(document, call.rest, DIALECT)


def in_list(part: Part) -> bool:
    """Whether a part belongs into the content list, rather than beside it."""
    match part:
        case Text() | Image() | Audio() | Document():
            return True
        case Refusal():
            return find(part.rest, DIALECT, "type") is not None
        case UnknownPart():
            return part.place not in (TOOL_CALLS, IMAGES)
    return False


def is_call(part: Part) -> bool:
    """Whether a part belongs into `tool_calls`."""
    return isinstance(part, ToolCall) or (isinstance(part, UnknownPart) and part.place == TOOL_CALLS)


def is_plain(parts: Sequence[Part]) -> bool:
    """Whether a list of content says no more than one string, or nothing."""
    return not parts or (len(parts) == 1 and isinstance(part := parts[0], Text) and not part.rest and not part.cache)
