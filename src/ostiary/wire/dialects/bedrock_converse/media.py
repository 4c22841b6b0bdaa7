"""Images, documents, videos and sound of this dialect, from and to the pivot. It must not look into what they hold.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: ImageBlock, DocumentBlock, VideoBlock, AudioBlock and their
sources. Bytes are base64 text in JSON.

The pivot knows types where this dialect has formats. What a type cannot tell stays in the rest: a format that is not
the own one of its type, and any format of what lies in S3. An empty object in the rest at `document`, `source` stands
for "its source was text".
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Audio, Content, Document, Image, Inline, Source, Stored
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, Rest, find, inexpressible, losses_of

DIALECT = "bedrock_converse"
STRING = msgspec.json.Decoder(str)
IMAGE, DOCUMENT, VIDEO, AUDIO = "image", "document", "video", "audio"
SAID = msgspec.Raw(b"{}")  # marks a form that says no more than another; says nothing to other dialects

# format -> type; where several have one type, the last is its own
_TYPES: dict[str, dict[str, str]] = {
    IMAGE: {name: f"image/{name}" for name in ("png", "jpeg", "gif", "webp")},
    DOCUMENT: {
        "pdf": "application/pdf",
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "html": "text/html",
        "txt": "text/plain",
        "md": "text/markdown",
    },
    VIDEO: {
        "mkv": "video/x-matroska",
        "mov": "video/quicktime",
        "mp4": "video/mp4",
        "webm": "video/webm",
        "flv": "video/x-flv",
        "mpg": "video/mpeg",
        "mpeg": "video/mpeg",
        "wmv": "video/x-ms-wmv",
        "three_gp": "video/3gpp",
    },
    AUDIO: {
        "mpeg": "audio/mpeg",
        "mpga": "audio/mpeg",
        "mp3": "audio/mpeg",
        "opus": "audio/opus",
        "wav": "audio/wav",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "m4a": "audio/mp4",
        "mp4": "audio/mp4",
        "ogg": "audio/ogg",
        "mka": "audio/x-matroska",
        "mkv": "audio/x-matroska",
        "x-aac": "audio/x-aac",
        "pcm": "audio/pcm",
        "webm": "audio/webm",
    },
}
_FORMATS: dict[str, dict[str, str]] = {
    kind: {media_type: name for name, media_type in types.items()} for kind, types in _TYPES.items()
}
_FORMATS[IMAGE]["image/jpg"] = "jpeg"
_FORMATS[AUDIO]["audio/mp3"] = "mp3"
_FORMATS[AUDIO]["audio/x-wav"] = "wav"
# Of a document: what is content, and not only a wish.
_BINDING = frozenset({"source", "context", "bytes", "text", "content"})
_LONGEST_NAME = 200
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9\s\-()\[\]]", re.ASCII)
_BLANKS = re.compile(r"\s{2,}", re.ASCII)


def decode_media(kind: str, members: Members) -> Content | None:
    """The part for a block of this kind; None where it is not of the documented shape."""
    block = members.inside(kind)
    source = block.inside("source")
    if kind == DOCUMENT and "text" in source:
        return _text_document(members, block, source)
    held = _source(kind, block, source)
    if held is None:
        return None
    if kind == IMAGE:
        return Image(held, None, members.rest(DIALECT, _BINDING))
    if kind == AUDIO:
        return Audio(held, members.rest(DIALECT, _BINDING))
    name = block.take("name", STRING) if kind == DOCUMENT else None
    if kind == DOCUMENT and name is None:
        return None
    return Document(held, name, members.rest(DIALECT, _BINDING))


def _source(kind: str, block: Members, source: Members) -> Inline | Stored | None:
    data, name = source.take("bytes", STRING), block.take("format", STRING)
    media_type = _TYPES[kind].get(name or "")
    if data is not None:
        if name is None or media_type is None:
            return None
        if _FORMATS[kind][media_type] != name:
            block.put_back("format", msgspec.Raw(msgspec.json.encode(name)))
        return Inline(media_type, data)
    uri = source.inside("s3Location").take("uri", STRING)
    if uri is None or (name is None and kind != DOCUMENT):
        return None
    if name is not None:
        block.put_back("format", msgspec.Raw(msgspec.json.encode(name)))
    return Stored(uri, DIALECT)


def _text_document(members: Members, block: Members, source: Members) -> Content | None:
    text, name, form = source.take("text", STRING), block.take("name", STRING), block.take("format", STRING)
    media_type = _TYPES[DOCUMENT].get(form or "txt", "")
    if text is None or name is None or not media_type.startswith("text/"):
        return None
    if form is not None:
        block.put_back("format", msgspec.Raw(msgspec.json.encode(form)))
    rest = (*members.rest(DIALECT, _BINDING), Extra(DIALECT, (DOCUMENT, "source"), SAID))
    data = base64.b64encode(text.encode()).decode()
    return Document(Inline(media_type, data), name, tuple(sorted(rest, key=lambda extra: extra.path)))


class Names:
    """Names for documents, which this dialect demands and restricts; the same for the same conversation."""

    def __init__(self) -> None:
        self._count = 0

    def name(self, said: str | None, where: str, losses: list[Loss]) -> str:
        """A name in the alphabet allowed: ASCII letters, digits, single blanks, hyphens, brackets; 1 to 200 of them."""
        self._count += 1
        if said is None:
            return f"document-{self._count}"
        fit = _BLANKS.sub(" ", _NOT_IN_NAMES.sub("-", said))[:_LONGEST_NAME].strip()
        if fit != said:
            losses.append(Loss(LossKind.MARK, f"{where}.name"))
        return fit or f"document-{self._count}"


def encode_media(part: Image | Audio | Document, names: Names, where: str, losses: list[Loss]) -> dict[str, Any]:
    """The block for a part.

    Raises:
        Fault: INVALID_REQUEST for bytes somewhere else, and for types this dialect has no format for.
    """
    losses += losses_of(part.rest, DIALECT, where)
    kind = _kind(part)
    block: dict[str, Any] = {}
    if kind == DOCUMENT:
        block["name"] = names.name(part.name if isinstance(part, Document) else None, where, losses)
    if isinstance(part, Image) and part.detail not in (None, "auto"):
        losses.append(Loss(LossKind.KNOB, f"{where}.detail"))
    text = _as_text(part) if find(part.rest, DIALECT, DOCUMENT, "source") is not None else None
    if text is not None:
        block["source"] = {"text": text}
    else:
        block["source"] = _held(part.source, where)
    if text is None and isinstance(part.source, Inline) and find(part.rest, DIALECT, kind, "format") is None:
        form = _FORMATS[kind].get(part.source.media_type)
        if form is None:
            raise inexpressible(where)
        block["format"] = form
    return with_rest({kind: block}, part.rest, DIALECT)


def _kind(part: Image | Audio | Document) -> str:
    if isinstance(part, Image):
        return IMAGE
    if isinstance(part, Audio):
        return AUDIO
    if isinstance(part.source, Inline):
        return VIDEO if part.source.media_type.startswith("video/") else DOCUMENT
    return VIDEO if any(extra.path[0] == VIDEO and extra.said_by == DIALECT for extra in part.rest) else DOCUMENT


def _held(source: Source, where: str) -> dict[str, Any]:
    if isinstance(source, Inline):
        return {"bytes": source.base64}
    if isinstance(source, Stored) and source.said_by == DIALECT:
        return {"s3Location": {"uri": source.id}}
    raise inexpressible(where)


def _as_text(part: Image | Audio | Document) -> str | None:
    if not isinstance(part.source, Inline) or not part.source.media_type.startswith("text/"):
        return None
    try:
        return base64.b64decode(part.source.base64, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def unmarked(rest: Rest, *path: str) -> Rest:
    """`rest` without the mark at `path`."""
    return tuple(extra for extra in rest if extra.said_by != DIALECT or extra.path != path)
