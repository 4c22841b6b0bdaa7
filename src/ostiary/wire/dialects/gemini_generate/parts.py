"""Parts of a content, from and to the pivot, but for calls and their results. It must not know requests from replies.

Source: official Python SDK 3.4, `types.Part`, `Blob`, `FileData`. What is not of the documented shape, and what the
pivot has no word for (code that ran, calls of hosted tools), is an `UnknownPart` and goes back as it came.

A part that holds a proof and no words proves what was said before it, or is a hidden thought: `telling` decides.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.parts import (
    Audio,
    Content,
    Document,
    Image,
    Inline,
    Link,
    Part,
    Reasoning,
    Refusal,
    Source,
    Stored,
    Text,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, FLAG, SIGNATURE, STRING, Fields, take_seal

PARTS = "parts"
INLINE, FILE, CALL, RESULT = "inlineData", "fileData", "functionCall", "functionResponse"
# The members of a part that are content; one of them makes it what it is, the others describe it.
_KINDS = frozenset(
    {
        *("text", INLINE, FILE, CALL, RESULT),
        *("executableCode", "codeExecutionResult", "toolCall", "toolResponse", "audioTranscription"),
    }
)
BINDING = _KINDS
_NULL = msgspec.Raw(b"null")
_MIME = "mimeType"
# Files kept by Google have addresses that nobody else can read.
_KEPT = ("https://generativelanguage.googleapis.com/", "files/")
_LINKS = ("https://", "http://", "gs://")
_EXTENSIONS = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "m4a": "audio/m4a",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mov": "video/mov",
    "webm": "video/webm",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/md",
    "html": "text/html",
    "htm": "text/html",
    "csv": "text/csv",
    "xml": "text/xml",
    "json": "application/json",
}


def kind_of(members: Fields) -> str:
    """The member that makes a part what it is; "" for several."""
    kinds = members.among(_KINDS)
    return "text" if not kinds else next(iter(kinds)) if len(kinds) == 1 else ""


def decode_part(raw: msgspec.Raw, members: Fields | None, place: str = PARTS) -> Text | Reasoning | Content:
    """One part that is neither a call nor a result; its members are None where it is no object.

    Words may be empty: what then remains is a proof.
    """
    found: Text | Reasoning | Content | None = None
    if members is not None:
        match kind_of(members):
            case "text":
                found = _words(members)
            case "inlineData":
                found = _inline(members)
            case "fileData":
                found = _file(members)
    return found or UnknownPart(DIALECT, place, raw)


def _words(members: Fields) -> Text | Reasoning | None:
    seal, thought = take_seal(members), members.take("thought", FLAG)
    text = members.take("text", STRING)
    if text is None and (seal is None or "text" in members):
        return None
    rest = members.rest(DIALECT, BINDING)
    return Reasoning(text or "", seal, rest) if thought else Text(text or "", rest, seal=seal)


def _media(media_type: str, source: Source, rest: Rest) -> Image | Audio | Document:
    kind = media_type.partition("/")[0].lower()
    if kind == "image":
        return Image(source, rest=rest)
    return Audio(source, rest=rest) if kind == "audio" else Document(source, rest=rest)


def _inline(members: Fields) -> Content | None:
    inner = members.inside(INLINE)
    media_type, data = inner.take(_MIME, STRING), inner.take("data", STRING)
    if media_type is None or data is None:
        return None
    # the official SDKs write either alphabet of base64; the pivot has one
    data = data.replace("-", "+").replace("_", "/")
    return _media(media_type, Inline(media_type, data), members.rest(DIALECT, BINDING))


def _file(members: Fields) -> Content | None:
    inner = members.inside(FILE)
    url, media_type = inner.take("fileUri", STRING), inner.take(_MIME, STRING)
    if url is None:
        return None
    if media_type != guessed(url):
        inner.put_back(_MIME, msgspec.Raw(msgspec.json.encode(media_type)))
    link = url.startswith(_LINKS) and not url.startswith(_KEPT)
    source: Source = Link(url) if link else Stored(url, DIALECT)
    return _media(media_type or guessed(url) or "", source, members.rest(DIALECT, BINDING))


def guessed(url: str) -> str | None:
    """The media type that the end of an address tells; None where it tells none."""
    path = url.partition("#")[0].partition("?")[0]
    return _EXTENSIONS.get(path.rpartition("/")[2].rpartition(".")[2].lower()) if "." in path else None


def encode_media(part: Image | Audio | Document, where: str, losses: list[Loss]) -> dict[str, Any]:
    """The `inlineData` or `fileData` of a part, with what is left over put back.

    Raises:
        Fault: INVALID_REQUEST for bytes that are kept elsewhere, or of no known type.
    """
    losses += losses_of(part.rest, DIALECT, where)
    if part.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    if isinstance(part, Image) and part.detail not in (None, "auto"):
        losses.append(Loss(LossKind.KNOB, f"{where}.detail"))
    if isinstance(part, Document) and part.name is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.name"))
    match part.source:
        case Inline(media_type, data):
            document: dict[str, Any] = {INLINE: {_MIME: media_type, "data": data}}
        case Stored(id, said_by) if said_by == DIALECT:
            document = {FILE: {"fileUri": id}}
        case Link(url):
            document = {FILE: {"fileUri": url}}
        case _:
            raise inexpressible(where)
    if FILE in document and find(part.rest, DIALECT, FILE, _MIME) is None:
        media_type = guessed(document[FILE]["fileUri"]) or ""
        if not media_type and isinstance(part.source, Link):
            raise inexpressible(where)  # it is asked for, and nothing tells it
        if media_type:
            document[FILE][_MIME] = media_type
    return with_rest(document, part.rest, DIALECT)


def encode_part(part: Part, where: str, losses: list[Loss]) -> dict[str, Any] | msgspec.Raw:
    """One part that is neither a call, a result nor a thought; without its proof.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    match part:
        case UnknownPart(said_by, _, value) if said_by == DIALECT:
            return value
        case Image() | Audio() | Document():
            return encode_media(part, where, losses)
        case Text(text):
            losses += losses_of(part.rest, DIALECT, where)
            if part.cache is not None:
                losses.append(Loss(LossKind.MARK, f"{where}.cache"))
            return with_rest({"text": text}, part.rest, DIALECT)
        case Refusal(text):
            losses += losses_of(part.rest, DIALECT, where)
            losses.append(Loss(LossKind.MARK, where))
            return {"text": text}
    raise inexpressible(where)


def encode_thought(part: Reasoning, where: str, losses: list[Loss]) -> dict[str, Any]:
    """A thought without its proof. One that is hidden and Google's own is as it came: no words at all."""
    losses += losses_of(part.rest, DIALECT, where)
    own = part.seal is not None and part.seal.issuer == DIALECT
    document: dict[str, Any] = {"text": part.text}
    if not (part.hidden and own):
        document["thought"] = True
    return with_rest(document, part.rest, DIALECT)


def sealed(document: dict[str, Any] | msgspec.Raw, proof: str) -> dict[str, Any] | msgspec.Raw:
    """A part with its proof."""
    if isinstance(document, dict):
        document[SIGNATURE] = proof
    return document
