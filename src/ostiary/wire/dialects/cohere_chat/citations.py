"""Citations of an answer, from and to the pivot. It must not read what a source says.

Source: official Python SDK 7.3, `Citation`, `Source`, `CitationStartEvent`. A citation stands beside the content and
names its item by `content_index`; `text` repeats the words that are cited, and is kept only where it does not. Sources
stay whole in the rest; `url` and `title` are read from the first document. A citation of other origin is written with
one document that says its `url`, `title` and `text`, and such a document is read back whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.members import UNREADABLE, Members, with_rest
from ostiary.wire.conversation.parts import Citation, Part, Text
from ostiary.wire.conversation.unknown import Loss, find, losses_of
from ostiary.wire.dialects.cohere_chat.parts import DIALECT, INTEGER, RAW, RAWS, STRING

_OF_TEXT = "TEXT_CONTENT"
_SOLE = {"url": "url", "title": "title", "text": "quote"}  # of our own document -> of a citation
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_strings = msgspec.json.Decoder(dict[str, str]).decode


def decode_citation(raw: msgspec.Raw, texts: Mapping[int, str]) -> tuple[int, Citation] | None:
    """A citation and the content item it stands with; None for one of anything but a text.

    Args:
        raw: the citation.
        texts: the texts said, by their content index.
    """
    members = Members.of(raw)
    if members is None or members.take("type", STRING) not in (None, _OF_TEXT) or "type" in members:
        return None
    index = members.take("content_index", INTEGER)
    index = next(iter(texts), -1) if index is None else index
    if index not in texts or "content_index" in members:
        return None
    start, end = members.take("start", INTEGER), members.take("end", INTEGER)
    said = members.take("text", RAW)
    if said is not None and _string(said) != _snippet(texts[index], start, end):
        members.put_back("text", said)
    facts = _sources(members)
    return index, Citation(start=start, end=end, rest=members.rest(DIALECT), **facts)


def encode_citation(citation: Citation, index: int, text: str, where: str, losses: list[Loss]) -> dict[str, Any]:
    """A citation of the text that is the content item `index`."""
    losses += losses_of(citation.rest, DIALECT, where)
    snippet = _snippet(text, citation.start, citation.end)
    values = {"start": citation.start, "end": citation.end}
    document: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if snippet is not None and find(citation.rest, DIALECT, "text") is None:
        document["text"] = snippet
    if find(citation.rest, DIALECT, "sources") is None:
        told = {name: getattr(citation, fact) for name, fact in _SOLE.items() if getattr(citation, fact) is not None}
        if told:
            document["sources"] = [{"type": "document", "document": told}]
    document |= {"content_index": index, "type": _OF_TEXT}
    return with_rest(document, citation.rest, DIALECT)


def attach(parts: Sequence[Part], raws: Sequence[msgspec.Raw]) -> tuple[list[Part], list[msgspec.Raw]]:
    """Content with its citations, and the citations of anything but a text.

    Args:
        parts: the content items, in their order.
        raws: the citations told beside them.
    """
    texts = {index: part.text for index, part in enumerate(parts) if isinstance(part, Text)}
    found: dict[int, list[Citation]] = {}
    left = []
    for raw in raws:
        cited = decode_citation(raw, texts)
        if cited is None:
            left.append(raw)
        else:
            found.setdefault(cited[0], []).append(cited[1])
    with_citations = [
        msgspec.structs.replace(part, citations=tuple(found[index])) if index in found else part
        for index, part in enumerate(parts)
    ]
    return with_citations, left


def _sources(members: Members) -> dict[str, str]:
    raw = members.take("sources", RAW)
    if raw is None:
        return {}
    try:
        sources = [_object(source) for source in RAWS.decode(raw)]
    except UNREADABLE:
        sources = []
    sole = _sole(sources[0]) if len(sources) == 1 else None
    if sole is not None:
        return sole
    members.put_back("sources", raw)
    for source in sources:
        document = Members.of(source.get("document", b""))
        if document is not None:
            facts = {name: document.take(name, STRING) for name in ("url", "title")}
            return {name: value for name, value in facts.items() if value is not None}
    return {}


def _sole(source: dict[str, msgspec.Raw]) -> dict[str, str] | None:
    """The facts of a source that says no more than a citation of the pivot does."""
    if source.keys() != {"type", "document"} or bytes(source["type"]) != b'"document"':
        return None
    try:
        told = _strings(source["document"])
    except UNREADABLE:
        return None
    return {_SOLE[name]: value for name, value in told.items()} if told and told.keys() <= _SOLE.keys() else None


def _snippet(text: str, start: int | None, end: int | None) -> str | None:
    if start is None or end is None or not 0 <= start <= end <= len(text):
        return None
    return text[start:end]


def _string(raw: msgspec.Raw) -> str | None:
    try:
        return STRING.decode(raw)
    except UNREADABLE:
        return None
