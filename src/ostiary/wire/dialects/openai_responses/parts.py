"""Content parts of this dialect, from and to the pivot. It must not know items, requests or replies.

Source: official Python SDK 3.54, `types.responses` (`ResponseInputText`, `ResponseInputImage`, `ResponseInputFile`,
`ResponseInputAudio`, `ResponseOutputText`, `ResponseOutputRefusal`). What is not of the documented shape becomes an
`UnknownPart`, and goes back as it came.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ostiary.wire.conversation.members import NULL, Members, with_rest
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Citation,
    Content,
    Document,
    Image,
    Inline,
    Link,
    Part,
    Refusal,
    Stored,
    Text,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.openai_responses.marks import DIALECT, ours, put

CONTENT = "content"
STRING = msgspec.json.Decoder(str)
INTEGER = msgspec.json.Decoder(int)
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,([A-Za-z0-9+/=_-]*)", re.ASCII)
_AUDIO = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_AUDIO_NAMES = {media_type: name for name, media_type in _AUDIO.items()}
_TEXTS = frozenset({"input_text", "output_text"})
_BREAKPOINT = "prompt_cache_breakpoint"
_LIFETIMES = frozenset({"30m", "12h"})
_SAYS_NOTHING = frozenset({NULL, b"[]", b"{}"})


def meaningful(rest: Rest) -> Rest:
    """A rest without what says nothing in an answer."""
    return tuple(extra for extra in rest if bytes(extra.value) not in _SAYS_NOTHING)


def decode_part(raw: msgspec.Raw, usual: str) -> Content:
    """One item of a content list, in which text is usually of the type `usual`."""
    members = Members.of(raw)
    kind = (members.take("type", STRING) or "") if members is not None else ""
    part: Content | None = None
    if members is not None:
        if kind in _TEXTS:
            part = _text(members, kind, usual)
        elif kind in _DECODERS and (kind == "refusal") == (usual == "output_text"):
            part = _DECODERS[kind](members)
    return part if part is not None else UnknownPart(DIALECT, CONTENT, raw)


def _text(members: Members, kind: str, usual: str) -> Content | None:
    text = members.take("text", STRING)
    if text is None:
        return None
    if kind != usual:
        members.put_back("type", msgspec.Raw(msgspec.json.encode(kind)))
    citations = take_citations(members)
    cache = _take_cache(members)
    return Text(text, members.rest(DIALECT), citations, cache)


def _refusal(members: Members) -> Content | None:
    text = members.take("refusal", STRING)
    return None if text is None else Refusal(text, members.rest(DIALECT))


def _image(members: Members) -> Content | None:
    url = members.take("image_url", STRING)
    source = _stored(members) if url is None else _from_url(url)
    if source is None:
        return None
    detail, cache = members.take("detail", STRING), _take_cache(members)
    return Image(source, detail, members.rest(DIALECT, {"file_id"}), cache)


def _file(members: Members) -> Content | None:
    data, url = members.take("file_data", STRING), members.take("file_url", STRING)
    if data is not None and url is not None:
        return None
    source = _inline(data) if data is not None else Link(url) if url is not None else _stored(members)
    if source is None:
        return None
    name, cache = members.take("filename", STRING), _take_cache(members)
    return Document(source, name, members.rest(DIALECT, {"file_id"}), cache)


def _audio(members: Members) -> Content | None:
    inner = members.inside("input_audio")
    data, name = inner.take("data", STRING), inner.take("format", STRING)
    if data is None or name not in _AUDIO:
        return None
    return Audio(Inline(_AUDIO[name], data), members.rest(DIALECT))


_DECODERS = {"refusal": _refusal, "input_image": _image, "input_file": _file, "input_audio": _audio}


def _stored(members: Members) -> Stored | None:
    file = members.take("file_id", STRING)
    return None if file is None else Stored(file, DIALECT)


def _from_url(url: str) -> Inline | Link | None:
    return _inline(url) if url.startswith("data:") else Link(url)


def _inline(url: str) -> Inline | None:
    match = _DATA_URL.fullmatch(url)
    return Inline(match[1], match[2]) if match else None


def _take_cache(members: Members) -> Cache | None:
    raw = members.take(_BREAKPOINT, RAW)
    if raw is None:
        return None
    inner = Members.of(raw)
    if inner is not None and inner.take("mode", STRING) == "explicit":
        lifetime = inner.take("ttl", STRING)
        if not inner.rest(DIALECT) and (lifetime is None or lifetime in _LIFETIMES):
            return Cache(lifetime)
    members.put_back(_BREAKPOINT, raw)
    return None


def encode_part(part: Part, where: str, losses: list[Loss], *, usual: str, caches: bool = True) -> Any:
    """One item of a content list, in which text is usually of the type `usual`.

    Args:
        caches: marks of what to keep in the prompt cache may be said.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say there.
    """
    if isinstance(part, UnknownPart) and part.said_by == DIALECT:
        return part.value
    document: dict[str, Any]
    match part:
        case Text(text):
            document = {"type": find(part.rest, DIALECT, "type") or usual, "text": text}
            if part.citations:
                document["annotations"] = encode_citations(part, where, losses)
        case Refusal(text) if usual == "output_text":
            document = {"type": "refusal", "refusal": text}
        case Refusal(text):
            document = {"type": usual, "text": text}
        case Image(source, detail) if usual == "input_text":
            document = {"type": "input_image", **_where_image(source, where)}
            if detail is not None:
                document["detail"] = detail
        case Document(source, name) if usual == "input_text":
            document = {"type": "input_file", **_where_file(source, where)}
            if name is not None:
                document["filename"] = name
        case Audio(Inline(media_type, data)) if usual == "input_text" and media_type in _AUDIO_NAMES:
            document = {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO_NAMES[media_type]}}
        case _:
            raise inexpressible(where)
    losses += losses_of(part.rest, DIALECT, where)
    _put_cache(document, part, where, losses, caches=caches and usual == "input_text")
    return put(document, part.rest)


def _where_image(source: Link | Inline | Stored, where: str) -> dict[str, str]:
    if isinstance(source, Stored):
        return {"file_id": _id_of(source, where)}
    return {"image_url": source.url if isinstance(source, Link) else _url(source)}


def _where_file(source: Link | Inline | Stored, where: str) -> dict[str, str]:
    if isinstance(source, Stored):
        return {"file_id": _id_of(source, where)}
    return {"file_url": source.url} if isinstance(source, Link) else {"file_data": _url(source)}


def _id_of(source: Stored, where: str) -> str:
    if source.said_by != DIALECT:
        raise inexpressible(where)
    return source.id


def _url(source: Inline) -> str:
    return f"data:{source.media_type};base64,{source.base64}"


def _put_cache(document: dict[str, Any], part: Part, where: str, losses: list[Loss], *, caches: bool) -> None:
    cache = None if isinstance(part, (Refusal, UnknownPart)) else getattr(part, "cache", None)
    if cache is None:
        return
    if not caches or isinstance(part, Audio):
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
        return
    document[_BREAKPOINT] = {"mode": "explicit"}
    if cache.ttl in _LIFETIMES:
        document[_BREAKPOINT]["ttl"] = cache.ttl
    elif cache.ttl is not None:
        losses.append(Loss(LossKind.KNOB, f"{where}.cache.ttl"))


def take_citations(members: Members) -> tuple[Citation, ...]:
    """The annotations of a text; those that are no list of objects are left."""
    raws = members.take("annotations", RAWS)
    citations = [decode_citation(raw) for raw in raws or ()]
    told = tuple(citation for citation in citations if citation is not None)
    if raws is not None and (not raws or len(told) < len(citations)):
        members.put_back("annotations", msgspec.Raw(msgspec.json.encode(raws)))
        return ()
    return told


def decode_citation(raw: msgspec.Raw) -> Citation | None:
    """An annotation; one that cites no address is kept in the citation's rest. None for what says nothing."""
    members = Members.of(raw)
    if members is None:
        return None
    kind, url = members.take("type", STRING), members.take("url", STRING)
    if kind != "url_citation" or url is None:
        whole = Members.of(raw)
        rest = whole.rest(DIALECT) if whole is not None else ()
        return Citation(rest=rest) if rest else None
    title, start, end = (
        members.take("title", STRING),
        members.take("start_index", INTEGER),
        members.take("end_index", INTEGER),
    )
    return Citation(url, title, None, start, end, members.rest(DIALECT))


def encode_citations(text: Text, where: str, losses: list[Loss]) -> list[Any]:
    """The annotations of a text, as far as this dialect can say them."""
    told = [
        encode_citation(citation, len(text.text), f"{where}.citations.{index}", losses)
        for index, citation in enumerate(text.citations)
    ]
    return [citation for citation in told if citation is not None]


def encode_citation(citation: Citation, length: int, where: str, losses: list[Loss]) -> dict[str, Any] | None:
    """An annotation; None for a source without an address, which this dialect cannot cite.

    Args:
        length: of the text it stands with; all of it is meant where the citation names no place.
    """
    losses += losses_of(citation.rest, DIALECT, where)
    if citation.quote is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.quote"))
    if citation.url is None:
        if not ours(citation.rest):
            losses.append(Loss(LossKind.MARK, where))
            return None
        return with_rest({}, citation.rest, DIALECT)
    document = {
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title or "",
        "start_index": citation.start or 0,
        "end_index": length if citation.end is None else citation.end,
    }
    return with_rest(document, citation.rest, DIALECT)


def is_plain(parts: tuple[Part, ...]) -> bool:
    """Whether a list of content says no more than one string; what is said of its item does not count."""
    if len(parts) != 1 or not isinstance(parts[0], Text):
        return False
    text = parts[0]
    return not (text.citations or text.cache or [extra for extra in text.rest if extra.path[0] != "item"])
