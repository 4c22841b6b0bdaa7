"""Content blocks of this dialect, from and to the pivot. It must not know requests from replies.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: ContentBlock, a union of which exactly one member is set. What is
not of the documented shape becomes an `UnknownPart`, and goes back as it came.

A cache point stands after what it marks, and so becomes a mark on the part before it. Forms that say the same are told
apart by an empty object in the rest: at `json`, a result that was JSON; at `toolResult`, `status`, a success that was
said; at `citationsContent`, `content`, words that could have had citations.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.members import UNREADABLE, Members, with_rest
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Content,
    Document,
    Image,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.seals import carried
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, find, inexpressible, losses_of
from ostiary.wire.dialects.bedrock_converse.citations import decode_citation, encode_citation
from ostiary.wire.dialects.bedrock_converse.media import (
    AUDIO,
    DIALECT,
    DOCUMENT,
    IMAGE,
    SAID,
    STRING,
    VIDEO,
    Names,
    decode_media,
    encode_media,
    unmarked,
)

CONTENT = "content"
CITED = "citationsContent"
REASONING = "reasoningContent"
INTEGER = msgspec.json.Decoder(int)
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TTLS = frozenset({"5m", "1h"})
# Members that are content, so that nothing within may be lost.
_BINDING = frozenset({"text", "toolUse", "toolResult", CONTENT})
_FAILED = "error"


def decode_blocks(raws: Sequence[msgspec.Raw], *, results: bool = True) -> list[Part]:
    """A list of content blocks.

    Args:
        raws: the blocks.
        results: results of the client's tools may stand among them; elsewhere they are the provider's own business.
    """
    parts: list[Part] = []
    ahead: Seal | None = None  # a proof for the part that comes next
    for raw in raws:
        point = decode_cache(raw)
        if point is not None and parts and ahead is None and (marked := _marked(parts[-1], point)) is not None:
            parts[-1] = marked
            continue
        part = decode_block(raw, results=results)
        if ahead is not None:
            sealed = sealed_with(part, ahead)
            parts += [hidden(ahead)] if sealed is None else []
            part, ahead = part if sealed is None else sealed, None
        else:
            ahead = _seal_ahead(raw)
        if ahead is None:
            parts.append(part)
    return parts if ahead is None else [*parts, hidden(ahead)]


def sealed_with(part: Part, seal: Seal) -> Part | None:
    """A part with a proof that came before it; None where such a part has none."""
    return msgspec.structs.replace(part, seal=seal) if isinstance(part, (Text, ToolCall)) else None


def hidden(seal: Seal) -> Reasoning:
    """Reasoning that says nothing."""
    return Reasoning("", seal, hidden=True)


def decode_cache(raw: msgspec.Raw) -> Cache | None:
    """The mark a cache point makes; None for anything else."""
    members = Members.of(raw) if b'"cachePoint"' in bytes(raw) else None  # most blocks are none, and some are large
    point = members.inside("cachePoint") if members is not None else None
    if members is None or point is None or point.take("type", STRING) != "default":
        return None
    ttl = point.take("ttl", STRING)
    return Cache(ttl) if not members.rest(DIALECT) and ttl in (None, *_TTLS) else None


def _marked(part: Part, cache: Cache) -> Part | None:
    if isinstance(part, (Reasoning, Refusal, UnknownPart)) or part.cache is not None:
        return None
    return msgspec.structs.replace(part, cache=cache)


def decode_block(raw: msgspec.Raw, *, results: bool = True) -> Part:
    """One content block, but for a cache point."""
    members = Members.of(raw)
    kinds = [name for name in _DECODERS if members is not None and name in members]
    if members is None or len(kinds) != 1 or (kinds[0] == "toolResult" and not results):
        return UnknownPart(DIALECT, CONTENT, raw)
    part = _DECODERS[kinds[0]](members)
    return part if part is not None else UnknownPart(DIALECT, CONTENT, raw)


def _text(members: Members) -> Part | None:
    text = members.take("text", STRING)
    return None if text is None else Text(text, members.rest(DIALECT, _BINDING))


def _cited(members: Members) -> Part | None:
    inner = members.inside(CITED)
    texts = [_alone(raw) for raw in inner.take(CONTENT, RAWS) or ()]
    said = [text for text in texts if text is not None]
    if not said or len(said) < len(texts):
        return None
    citations = tuple(decode_citation(raw) for raw in inner.take("citations", RAWS) or ())
    rest = members.rest(DIALECT, _BINDING)
    if not citations:
        rest = (*rest, Extra(DIALECT, (CITED, CONTENT), SAID))
    return Text("".join(said), tuple(sorted(rest, key=lambda extra: extra.path)), citations)


def _alone(raw: msgspec.Raw) -> str | None:
    """The text of an object that says nothing else."""
    members = Members.of(raw)
    text = members.take("text", STRING) if members is not None else None
    return text if members is not None and not members.rest(DIALECT) else None


def _reasoning(members: Members) -> Part | None:
    inner = members.inside(REASONING)
    value = inner.take("redactedContent", STRING)
    if value is not None:
        return Reasoning("", opened(value)[0], members.rest(DIALECT), hidden=True)
    told = inner.inside("reasoningText")
    text, signature = told.take("text", STRING), told.take("signature", STRING)
    if text is None:
        return None
    seal_of = carried(signature, DIALECT)[0] if signature is not None else None
    return Reasoning(text, seal_of, members.rest(DIALECT))


def _seal_ahead(raw: msgspec.Raw) -> Seal | None:
    """The proof for the next part, where a block holds nothing else."""
    members = Members.of(raw) if b'"redactedContent"' in bytes(raw) else None
    value = members.inside(REASONING).take("redactedContent", STRING) if members is not None else None
    if members is None or value is None or members.rest(DIALECT):
        return None
    seal, ahead = opened(value)
    return seal if ahead else None


def opened(value: str) -> tuple[Seal, bool]:
    """The proof behind redacted content, and whether it belongs to the next part. The dialect's own stays as it is."""
    try:
        seal, ahead = carried(base64.b64decode(value, validate=True).decode("ascii"), DIALECT)
    except (binascii.Error, ValueError):
        return Seal(DIALECT, value), False
    return (seal, ahead) if seal.issuer != DIALECT or ahead else (Seal(DIALECT, value), False)


def _tool_use(members: Members) -> Part | None:
    inner = members.inside("toolUse")
    call_id, name, given = inner.take("toolUseId", STRING), inner.take("name", STRING), inner.take("input", RAW)
    if call_id is None or name is None or given is None or "type" in inner:
        return None  # a tool with a type is run by the provider
    return ToolCall(call_id, name, bytes(given).decode(), rest=members.rest(DIALECT, _BINDING))


def _tool_result(members: Members) -> Part | None:
    inner = members.inside("toolResult")
    call_id, raws, status = inner.take("toolUseId", STRING), inner.take(CONTENT, RAWS), inner.take("status", STRING)
    if call_id is None or raws is None or status not in (None, "success", _FAILED):
        return None
    if status == "success":
        inner.put_back("status", SAID)
    parts = tuple(_result_item(raw) for raw in raws)
    return ToolResult(call_id, parts, status == _FAILED, _without_binding_mark(members))


def _without_binding_mark(members: Members) -> tuple[Extra, ...]:
    return tuple(
        msgspec.structs.replace(extra, binding=False) if extra.value == SAID else extra
        for extra in members.rest(DIALECT, _BINDING)
    )


def _result_item(raw: msgspec.Raw) -> Content:
    members = Members.of(raw)
    given = members.take("json", RAW) if members is not None else None
    if members is not None and given is not None and not members.rest(DIALECT):
        return Text(bytes(given).decode(), (Extra(DIALECT, ("json",), SAID),))
    part = decode_block(raw, results=False)
    return part if isinstance(part, (Text, Image, Document)) else UnknownPart(DIALECT, CONTENT, raw)


_DECODERS = {
    "text": _text,
    CITED: _cited,
    IMAGE: lambda members: decode_media(IMAGE, members),
    DOCUMENT: lambda members: decode_media(DOCUMENT, members),
    VIDEO: lambda members: decode_media(VIDEO, members),
    AUDIO: lambda members: decode_media(AUDIO, members),
    REASONING: _reasoning,
    "toolUse": _tool_use,
    "toolResult": _tool_result,
}  # fmt: skip


def encode_block(part: Part, names: Names, where: str, losses: list[Loss]) -> Any:
    """The block for a part, but for reasoning, and without its cache mark and its proof.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    match part:
        case UnknownPart(said_by=said_by) if said_by == DIALECT:
            return part.value
        case Text():
            return _encode_text(part, where, losses)
        case Refusal(text):
            losses += [Loss(LossKind.MARK, where), *losses_of(part.rest, DIALECT, where)]
            return {"text": text}
        case Image() | Audio() | Document():
            return encode_media(part, names, where, losses)
        case ToolCall(free=False):
            return encode_call(part, call_input(part, where), where, losses)
        case ToolResult():
            return _encode_result(part, names, where, losses)
    raise inexpressible(where)


def _encode_text(part: Text, where: str, losses: list[Loss]) -> dict[str, Any]:
    losses += losses_of(part.rest, DIALECT, where)
    rest = unmarked(unmarked(part.rest, CITED, CONTENT), "json")
    if not part.citations and not any(extra.said_by == DIALECT and extra.path[0] == CITED for extra in part.rest):
        return with_rest({"text": part.text}, rest, DIALECT)
    cited: dict[str, Any] = {CONTENT: [{"text": part.text}]}
    if part.citations:
        cited["citations"] = [
            encode_citation(citation, f"{where}.citations.{index}", losses)
            for index, citation in enumerate(part.citations)
        ]
    return with_rest({CITED: cited}, rest, DIALECT)


def call_input(call: ToolCall, where: str) -> msgspec.Raw:
    """The arguments of a call as the object this dialect asks for; none at all are an empty one.

    Raises:
        Fault: INVALID_REQUEST where they are no object.
    """
    if not call.arguments.strip():
        return SAID
    try:
        _OBJECT(call.arguments)
    except UNREADABLE:
        raise inexpressible(f"{where}.arguments") from None
    return msgspec.Raw(call.arguments.strip().encode())


def encode_call(call: ToolCall, given: Any, where: str, losses: list[Loss]) -> dict[str, Any]:
    """The block for a tool call with this input."""
    losses += losses_of(call.rest, DIALECT, where)
    block = {"toolUse": {"toolUseId": call.id, "name": call.name, "input": given}}
    return with_rest(block, call.rest, DIALECT)


def _encode_result(result: ToolResult, names: Names, where: str, losses: list[Loss]) -> dict[str, Any]:
    losses += losses_of(result.rest, DIALECT, where)
    block: dict[str, Any] = {"toolUseId": result.call_id, CONTENT: []}
    for index, part in enumerate(result.parts):
        place = f"{where}.parts.{index}"
        if not isinstance(part, (Text, Image, Document, UnknownPart, Refusal)):
            raise inexpressible(place)
        block[CONTENT].append(_encode_item(part, names, place, losses))
    if result.failed:
        block["status"] = _FAILED
    elif find(result.rest, DIALECT, "toolResult", "status") is not None:
        block["status"] = "success"
    return with_rest({"toolResult": block}, unmarked(result.rest, "toolResult", "status"), DIALECT)


def _encode_item(part: Content, names: Names, where: str, losses: list[Loss]) -> Any:
    if isinstance(part, Text):
        losses += [Loss(LossKind.MARK, f"{where}.citations")] if part.citations else []
        part = msgspec.structs.replace(part, citations=())
        if find(part.rest, DIALECT, "json") is not None and _is_json(part.text):
            return {"json": msgspec.Raw(part.text.encode())}
    return encode_block(part, names, where, losses)


def _is_json(text: str) -> bool:
    try:
        RAW.decode(text)
    except UNREADABLE:
        return False
    return True


def cache_point(cache: Cache, where: str, losses: list[Loss]) -> dict[str, Any]:
    """The block that stands after what is marked."""
    point = {"type": "default"}
    if cache.ttl in _TTLS:
        point["ttl"] = cache.ttl
    elif cache.ttl is not None:
        losses.append(Loss(LossKind.KNOB, f"{where}.cache.ttl"))
    return {"cachePoint": point}
