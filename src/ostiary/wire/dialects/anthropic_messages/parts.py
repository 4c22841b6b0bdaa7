"""Content blocks of this dialect, from and to the pivot. It must not know requests from replies.

Source: official Python SDK 2.12, `types.ContentBlockParam` and `types.ContentBlock`. What is not of a documented shape,
and every block of a tool that the provider runs, becomes an `UnknownPart` and goes back as it came.

Shapes that say the same are told apart by an empty list left in `rest`: at `is_error` it stands for "false was said",
at `content` for "it was a list".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.members import EMPTY_LIST, UNREADABLE, Members, with_rest
from ostiary.wire.conversation.parts import (
    Cache,
    Citation,
    Document,
    Image,
    Inline,
    Link,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Source,
    Stored,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.seals import carried
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, find, inexpressible, losses_of

DIALECT = "anthropic_messages"
CONTENT = "content"
STRING = msgspec.json.Decoder(str)
INTEGER = msgspec.json.Decoder(int)
FLAG = msgspec.json.Decoder(bool)
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])
SAYS_NOTHING = frozenset({b"null", b"[]", b"{}"})
WEB_RESULT = "web_search_result_location"

_NOTHING = msgspec.json.Decoder(tuple[()])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TITLED = frozenset({WEB_RESULT, "search_result_location"})  # the others name the title of a document
_TTLS = frozenset({"5m", "1h"})
_BINDING = frozenset({CONTENT, "context", "source"})
_PDF, _PLAIN = "application/pdf", "text/plain"


def decode_blocks(raws: Iterable[msgspec.Raw], *, results: bool = False) -> list[Part]:
    """The parts of a list of blocks. A proof that was sent ahead is given to the words or the call that follow it.

    Args:
        results: the list stands where tools are answered.
    """
    parts: list[Part] = []
    waiting: int | None = None
    for raw in raws:
        part = decode_block(raw, results=results)
        if waiting is not None and isinstance(part, (Text, ToolCall)):
            ahead = parts.pop(waiting)
            assert isinstance(ahead, Reasoning)
            part, waiting = msgspec.structs.replace(part, seal=ahead.seal), None
        if is_ahead(raw, part):
            waiting = len(parts)
        parts.append(part)
    return parts


def decode_block(raw: msgspec.Raw, *, results: bool = False) -> Part:
    """One block."""
    members = Members.of(raw)
    if members is None:
        return UnknownPart(DIALECT, CONTENT, raw)
    kind = members.take("type", STRING) or ""
    part: Part | None = None
    if kind in _DECODERS:
        part = _DECODERS[kind](members)
    elif kind == "tool_result" and results:
        part = _tool_result(members)
    return part if part is not None else UnknownPart(DIALECT, CONTENT, raw)


def is_ahead(raw: msgspec.Raw, part: Part) -> bool:
    """Whether a block is nothing but a proof of ours that belongs to the part that follows."""
    if not isinstance(part, Reasoning) or not part.hidden or part.rest:
        return False
    members = Members.of(raw)
    data = members.take("data", STRING) if members is not None else None
    return data is not None and carried(data, DIALECT)[1]


def _text(members: Members) -> Part | None:
    text = members.take("text", STRING)
    if text is None:
        return None
    citations, cache = take_citations(members), take_cache(members)
    return Text(text, members.rest(DIALECT, _BINDING), citations, cache)


def _image(members: Members) -> Part | None:
    source = _source(members)
    if source is None:
        return None
    cache = take_cache(members)
    return Image(source, None, members.rest(DIALECT, _BINDING), cache)


def _document(members: Members) -> Part | None:
    source = _source(members)
    if source is None or (isinstance(source, Inline) and source.media_type not in (_PDF, _PLAIN)):
        return None
    name, cache = members.take("title", STRING), take_cache(members)
    return Document(source, name, members.rest(DIALECT, _BINDING), cache)


def _source(members: Members) -> Source | None:
    raw = members.take("source", RAW)
    inner = Members.of(raw) if raw is not None else None
    if inner is None:
        return None
    source: Source | None = None
    match inner.take("type", STRING):
        case "base64":
            media_type, data = inner.take("media_type", STRING), inner.take("data", STRING)
            if media_type is not None and data is not None:
                source = Inline(media_type, data)
        case "text":
            media_type, data = inner.take("media_type", STRING), inner.take("data", STRING)
            if media_type == _PLAIN and data is not None:
                source = Inline(_PLAIN, base64.b64encode(data.encode()).decode())
        case "url":
            url = inner.take("url", STRING)
            source = Link(url) if url is not None else None
        case "file":
            file_id = inner.take("file_id", STRING)
            source = Stored(file_id, DIALECT) if file_id is not None else None
    return source if not inner.rest(DIALECT) else None


def _tool_use(members: Members) -> Part | None:
    call_id, name = members.take("id", STRING), members.take("name", STRING)
    arguments = members.take("input", RAW) if "input" in members else msgspec.Raw(b"{}")
    if call_id is None or name is None or arguments is None or not bytes(arguments).startswith(b"{"):
        return None
    cache = take_cache(members)
    return ToolCall(call_id, name, bytes(arguments).decode(), False, members.rest(DIALECT), cache)


def _thinking(members: Members) -> Part | None:
    text, signature = members.take("thinking", STRING), members.take("signature", STRING)
    if text is None:
        return None
    return Reasoning(text, proof_in(signature), members.rest(DIALECT))


def proof_in(signature: str | None) -> Seal | None:
    """The proof behind the signature of a thought; None where it says that there is none."""
    seal = carried(signature, DIALECT)[0] if signature else None
    return seal if seal is not None and seal.issuer else None


def _redacted(members: Members) -> Part | None:
    data = members.take("data", STRING)
    return None if data is None else Reasoning("", carried(data, DIALECT)[0], members.rest(DIALECT), hidden=True)


_DECODERS = {
    "text": _text,
    "image": _image,
    "document": _document,
    "tool_use": _tool_use,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
}


def _tool_result(members: Members) -> Part | None:
    call_id = members.take("tool_use_id", STRING)
    if call_id is None or members.take("is_error", _NOTHING) is not None:
        return None  # an empty list at that place is our own sign
    text = members.take(CONTENT, STRING)
    parts: list[Part] = [Text(text)] if text is not None else []
    raws = members.take(CONTENT, RAWS) if text is None else None
    if raws is not None:
        parts = [_within(raw) for raw in raws]
        if is_plain(parts):
            members.put_back(CONTENT, EMPTY_LIST)
    failed = members.take("is_error", FLAG)
    if failed is False:
        members.put_back("is_error", EMPTY_LIST)
    cache = take_cache(members)
    rest = members.rest(DIALECT, _BINDING)
    return ToolResult(call_id, tuple(parts), failed is True, rest, cache)  # type: ignore[arg-type]  # by _within


def _within(raw: msgspec.Raw) -> Part:
    """A block within the result of a tool."""
    part = decode_block(raw)
    return part if isinstance(part, (Text, Image, Document)) else UnknownPart(DIALECT, CONTENT, raw)


def take_cache(members: Members) -> Cache | None:
    """The mark for the prompt cache; one that says more than the pivot knows is left."""
    raw = members.take("cache_control", RAW)
    inner = Members.of(raw) if raw is not None else None
    if raw is None or inner is None:
        if raw is not None:
            members.put_back("cache_control", raw)
        return None
    kind, ttl = inner.take("type", STRING), inner.take("ttl", STRING)
    if kind != "ephemeral" or inner.rest(DIALECT):
        members.put_back("cache_control", raw)
        return None
    return Cache(ttl)


def take_citations(members: Members) -> tuple[Citation, ...]:
    """Where words come from; a list that is empty, or holds what is no citation, is left."""
    raws = members.take("citations", RAWS)
    if raws is None:
        return ()
    found = [citation for raw in raws if (citation := decode_citation(raw)) is not None]
    if not found or len(found) < len(raws):
        members.put_back("citations", msgspec.Raw(msgspec.json.encode(raws)))
        return ()
    return tuple(found)


def decode_citation(raw: msgspec.Raw) -> Citation | None:
    """One citation; None for what is no object. Places are those in the source, so they stay in its rest."""
    members = Members.of(raw)
    if members is None:
        return None
    kind = members.take("type", STRING)
    if kind is None:
        return None
    members.put_back("type", msgspec.Raw(msgspec.json.encode(kind)))
    url = members.take("url", STRING) if kind == WEB_RESULT else None
    title = members.take("title" if kind in _TITLED else "document_title", STRING)
    return Citation(url, title, members.take("cited_text", STRING), rest=members.rest(DIALECT))


def encode_citation(citation: Citation) -> dict[str, Any] | None:
    """One citation of this dialect's own kinds; None for another dialect's."""
    kind = find(citation.rest, DIALECT, "type")
    if kind is None:
        return None
    title = "title" if STRING.decode(kind) in _TITLED else "document_title"
    values = {"type": kind, "cited_text": citation.quote, title: citation.title, "url": citation.url}
    document = {name: value for name, value in values.items() if value is not None}
    return with_rest(document, citation.rest, DIALECT)


def own_citations(part: Text, where: str, losses: list[Loss]) -> dict[str, Any]:
    """The member with the citations that a provider of this dialect made: it takes no others.

    Those that were written for a client on another provider's behalf have an empty index.
    """
    told = []
    for citation in part.citations:
        document = encode_citation(citation)
        index = find(citation.rest, DIALECT, "encrypted_index")
        if document is not None and (index is None or bytes(index) != b'""'):
            losses += losses_of(citation.rest, DIALECT, where)
            told.append(document)
    if len(told) < len(part.citations):
        losses.append(Loss(LossKind.MARK, f"{where}.citations"))
    return {"citations": told} if told else {}


def encode_cache(cache: Cache | None, where: str, losses: list[Loss]) -> dict[str, Any]:
    """The member that marks a block for the prompt cache, or none."""
    if cache is None:
        return {}
    if cache.ttl is not None and cache.ttl not in _TTLS:
        losses.append(Loss(LossKind.KNOB, f"{where}.cache.ttl"))
        return {"cache_control": {"type": "ephemeral"}}
    return {"cache_control": {"type": "ephemeral", **({"ttl": cache.ttl} if cache.ttl is not None else {})}}


def encode_block(part: Part, where: str, losses: list[Loss]) -> Any:
    """One block, without its proof and its citations.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    document: dict[str, Any]
    match part:
        case UnknownPart():
            if part.said_by != DIALECT:
                raise inexpressible(where)
            return part.value
        case Text(text):
            document = {"type": "text", "text": text}
        case Refusal(text):
            losses.append(Loss(LossKind.MARK, where))
            document = {"type": "text", "text": text}
        case Image(source, detail):
            document = {"type": "image", "source": _encode_source(source, where)}
            if detail not in (None, "auto"):
                losses.append(Loss(LossKind.KNOB, f"{where}.detail"))
        case Document(source, name):
            document = {"type": "document", "source": _encode_document(source, where, losses)}
            if name is not None:
                document["title"] = name
        case ToolCall():
            if part.free:
                raise inexpressible(where)
            arguments = _encode_arguments(part.arguments, where)
            document = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        case ToolResult():
            document = _encode_result(part, where, losses)
        case _:
            raise inexpressible(where)
    if not isinstance(part, Refusal):
        document |= encode_cache(part.cache, where, losses)
    losses += losses_of(part.rest, DIALECT, where)
    return with_rest(document, part.rest, DIALECT)


def _encode_source(source: Source, where: str) -> dict[str, Any]:
    match source:
        case Link(url):
            return {"type": "url", "url": url}
        case Inline(media_type, data):
            return {"type": "base64", "media_type": media_type, "data": data}
        case Stored(file_id, said_by) if said_by == DIALECT:
            return {"type": "file", "file_id": file_id}
    raise inexpressible(where)


def _encode_document(source: Source, where: str, losses: list[Loss]) -> dict[str, Any]:
    if not isinstance(source, Inline) or source.media_type == _PDF:
        return _encode_source(source, where)
    if not source.media_type.startswith("text/"):
        raise inexpressible(where)
    try:
        text = base64.b64decode(source.base64, validate=True).decode()
    except (binascii.Error, ValueError):
        raise inexpressible(where) from None
    if source.media_type != _PLAIN:
        losses.append(Loss(LossKind.MARK, f"{where}.media_type"))
    return {"type": "text", "media_type": _PLAIN, "data": text}


def _encode_arguments(text: str, where: str) -> Any:
    """What a model wrote for a tool, as an object."""
    if not text.strip():
        return {}
    try:
        _OBJECT.decode(text)
    except (*UNREADABLE, UnicodeEncodeError):
        raise inexpressible(f"{where}.arguments") from None
    return msgspec.Raw(text.encode())


def _encode_result(result: ToolResult, where: str, losses: list[Loss]) -> dict[str, Any]:
    document: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.call_id}
    as_list = find(result.rest, DIALECT, CONTENT) == EMPTY_LIST
    first = result.parts[0] if len(result.parts) == 1 else None
    if isinstance(first, Text) and is_plain(result.parts) and not as_list:
        document[CONTENT] = first.text
    elif result.parts or as_list:
        document[CONTENT] = [
            _encode_within(part, f"{where}.parts.{index}", losses) for index, part in enumerate(result.parts)
        ]
    if result.failed:
        document["is_error"] = True
    elif find(result.rest, DIALECT, "is_error") == EMPTY_LIST:
        document["is_error"] = False
    return document


def _encode_within(part: Part, where: str, losses: list[Loss]) -> Any:
    """A block within the result of a tool."""
    block = encode_block(part, where, losses)
    if isinstance(part, Text) and part.citations:
        block |= own_citations(part, where, losses)
    return block


def is_plain(parts: Sequence[Part]) -> bool:
    """Whether a list of content says no more than one string, or nothing."""
    if not parts:
        return True
    first = parts[0]
    return len(parts) == 1 and isinstance(first, Text) and first == Text(first.text)


def proof_of(seal: Seal | None) -> str | None:
    """A proof of this dialect's own; None for another's."""
    return seal.value if seal is not None and seal.issuer == DIALECT else None


def telling(rest: tuple[Extra, ...]) -> tuple[Extra, ...]:
    """What says something of what was left over."""
    return tuple(extra for extra in rest if bytes(extra.value) not in SAYS_NOTHING)
