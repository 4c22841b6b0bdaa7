"""Embeddings as Gemini's interface says them, one content or a batch. It must not judge values: what it does not know
is kept as it came.

Source: official Python SDK google-genai 3.4 (`types.EmbedContentConfig`, `EmbedContentResponse`; it sends everything
to `:batchEmbedContents`) and the Gemini API reference for embeddings. The model stands in the path, and in each
request of a batch as `models/…`. Requests of a batch say each what they are for: what all say alike is the request's,
what differs stays with its input. A `role` says nothing here and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Image, Inline
from ostiary.wire.conversation.unknown import Encoded, Extra, Loss, Rest, inexpressible, losses_of
from ostiary.wire.embedding.fields import (
    BINDING,
    INTEGER,
    RAW,
    RAWS,
    STRING,
    address_of,
    blended,
    counted,
    encode_json,
    lost,
    own_value,
    reply_members,
    request_members,
    take_count,
    take_word,
    written,
    wrong,
)
from ostiary.wire.embedding.pivot import Blend, EmbeddingReply, EmbeddingRequest, Input, Purpose, UnknownInput, Words
from ostiary.wire.embedding.shape import Shape
from ostiary.wire.embedding.tasks import KINDS, TASKS, lost_task
from ostiary.wire.embedding.vectors import PLAIN, bad_answer, floats, require_floats, rows_as

BATCH, SINGLE = "gemini", "gemini_single"
_T = TypeVar("_T")
_MODELS = "models/"


class _Embedding(msgspec.Struct):
    values: tuple[int | float, ...] = ()


_ONE = msgspec.json.Decoder(_Embedding)
_ALL = msgspec.json.Decoder(list[_Embedding])


class _Item(msgspec.Struct, frozen=True):
    """One request of a batch: its input, and what it says beside."""

    given: Input
    model: str = ""
    kind: Purpose | None = None
    dimensions: int | None = None


def _decode_item(members: Members, name: str, raw: msgspec.Raw) -> _Item:
    """The item of an object; what is not as documented is kept whole, for this shape alone."""
    model = (members.take("model", STRING) or "").removeprefix(_MODELS)
    given = _content(members.take("content", RAW), name)
    if given is None:
        return _Item(UnknownInput(name, raw), model)
    kind, dimensions = take_word(members, "taskType", KINDS), members.take("outputDimensionality", INTEGER)
    title = members.take("title", STRING) if isinstance(given, Words) else None
    rest = members.rest(name, BINDING)
    own = Words(given.text, title, rest) if isinstance(given, Words) else msgspec.structs.replace(given, rest=rest)
    return _Item(own, model, kind, dimensions)


def _content(raw: msgspec.Raw | None, name: str) -> Words | Image | Blend | None:
    members = Members.of(raw) if raw is not None else None
    raws = members.take("parts", RAWS) if members is not None else None
    if members is None or raws is None:
        return None
    members.take("role", STRING)
    return blended([_part(part, name) for part in raws]) if not members.rest(name) else None


def _part(raw: msgspec.Raw, name: str) -> Words | Image | UnknownInput:
    members = Members.of(raw)
    if members is None:
        return UnknownInput(name, raw)
    text, inline = members.take("text", STRING), members.inside("inlineData")
    media_type, data = inline.take("mimeType", STRING), inline.take("data", STRING)
    if members.rest(name) or (text is None) == (data is None):
        return UnknownInput(name, raw)
    if text is not None:
        return Words(text) if media_type is None else UnknownInput(name, raw)
    picture = media_type is not None and media_type.startswith("image/")
    return Image(Inline(media_type or "", data or "")) if picture else UnknownInput(name, raw)


def _decode_batch(body: bytes) -> EmbeddingRequest:
    members = request_members(body)
    raws = members.take("requests", RAWS)
    if raws is None:
        raise wrong("requests", "a list")
    items = [_decode_item(Members.of(raw) or Members({}), BATCH, raw) for raw in raws]
    model, kind = _alike([item.model for item in items]), _alike([item.kind for item in items])
    dimensions = _alike([item.dimensions for item in items])
    shared = _Item(UnknownInput(BATCH, msgspec.Raw(b"")), model or "", kind, dimensions)
    return EmbeddingRequest(
        model=model or "",
        inputs=tuple(_with_own(item, shared) for item in items),
        dimensions=dimensions,
        kind=kind,
        rest=members.rest(BATCH, BINDING | {"requests"}),
    )


def _alike(values: Sequence[_T]) -> _T | None:
    return values[0] if values and all(value == values[0] for value in values) else None


def _with_own(item: _Item, shared: _Item) -> Input:
    """An input with what its request says unlike the others."""
    given = item.given
    if isinstance(given, UnknownInput):
        return given
    own: list[Extra] = []
    if item.model != shared.model:
        own.append(Extra(BATCH, ("model",), msgspec.Raw(encode_json(_MODELS + item.model)), binding=True))
    if item.kind is not None and shared.kind is None:
        own.append(Extra(BATCH, ("taskType",), msgspec.Raw(encode_json(TASKS[item.kind]))))
    if item.dimensions is not None and shared.dimensions is None:
        raw = msgspec.Raw(encode_json(item.dimensions))
        own.append(Extra(BATCH, ("outputDimensionality",), raw, binding=True))
    if not own or not isinstance(given, Words | Image | Blend):
        return given
    return msgspec.structs.replace(given, rest=tuple(sorted((*given.rest, *own), key=lambda extra: extra.path)))


def _decode_single(body: bytes) -> EmbeddingRequest:
    members = request_members(body)
    if "content" not in members:
        raise wrong("content", "an object with parts")
    item = _decode_item(members, SINGLE, msgspec.Raw(body))
    return EmbeddingRequest(model=item.model, inputs=(item.given,), dimensions=item.dimensions, kind=item.kind)


def _encode_request(request: EmbeddingRequest, name: str) -> Encoded:
    losses = lost(request, name, "cut", "normalize", "user") + lost_task(request.kind)
    require_floats(request)
    if name == SINGLE and len(request.inputs) != 1:
        raise inexpressible("inputs")
    items = [_say(given, f"inputs.{index}", request, name, losses) for index, given in enumerate(request.inputs)]
    if name == BATCH:
        return written({"requests": items}, request.rest, name, losses)
    if isinstance(items[0], msgspec.Raw):
        return Encoded(bytes(items[0]), tuple(losses))
    return written(items[0], request.rest, name, losses)


def _say(given: Input, where: str, request: EmbeddingRequest, name: str, losses: list[Loss]) -> Any:
    if isinstance(given, UnknownInput):
        return own_value(given, where, name)
    if isinstance(given, Blend):
        places = [(part, f"{where}.parts.{index}") for index, part in enumerate(given.parts)]
    elif isinstance(given, Words | Image):
        places = [(given, where)]
    else:
        raise inexpressible(where)
    parts = [_say_part(part, place, name, losses) for part, place in places]
    rest: Rest = given.rest
    losses += losses_of(rest, name, where)
    document = {
        "model": _MODELS + request.model if request.model else None,
        "content": {"parts": parts},
        "taskType": TASKS[request.kind] if request.kind is not None else None,
        "title": given.title if isinstance(given, Words) else None,
        "outputDimensionality": request.dimensions,
    }
    return with_rest({key: value for key, value in document.items() if value is not None}, rest, name)


def _say_part(part: Words | Image | UnknownInput, where: str, name: str, losses: list[Loss]) -> Any:
    if isinstance(part, UnknownInput):
        return own_value(part, where, name)
    if isinstance(part, Words):
        return {"text": part.text}
    if not isinstance(part.source, Inline):
        raise inexpressible(where)
    address_of(msgspec.structs.replace(part, rest=()), where, losses, name)  # for what it loses
    return {"inlineData": {"mimeType": part.source.media_type, "data": part.source.base64}}


def _use(members: Members) -> Usage | None:
    inner = members.inside("usageMetadata")
    count, total = take_count(inner, "promptTokenCount"), take_count(inner, "totalTokenCount")
    count = count if count is not None else total
    return Usage(count) if count is not None else None


def _decode_reply(body: bytes, asked: EmbeddingRequest, name: str) -> EmbeddingReply:
    members = reply_members(body)
    if name == BATCH:
        found = members.take("embeddings", _ALL)
    else:
        one = members.take("embedding", _ONE)
        found = [one] if one is not None else None
    if found is None:
        raise bad_answer()
    usage = _use(members)
    rows = tuple(embedding.values for embedding in found)
    return counted(EmbeddingReply(vectors=floats(rows), usage=usage, rest=members.rest(name)), asked)


def _encode_reply(reply: EmbeddingReply, name: str) -> Encoded:
    embeddings = [{"values": row} for row in rows_as(reply, PLAIN)]
    if name == SINGLE and len(embeddings) != 1:
        raise bad_answer("the provider did not give one vector for each input")
    document: dict[str, Any] = {"embeddings": embeddings} if name == BATCH else {"embedding": embeddings[0]}
    if reply.usage is not None:
        count = reply.usage.input
        document["usageMetadata"] = {"promptTokenCount": count, "totalTokenCount": count}
    return written(document, reply.rest, name, losses_of(reply.rest, name, ""))


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its use."""
    return _use(reply_members(body))


SHAPE = Shape(
    name=BATCH,
    path=lambda model: f"/models/{model}:batchEmbedContents",
    decode_request=_decode_batch,
    encode_request=lambda request: _encode_request(request, BATCH),
    decode_reply=lambda body, asked: _decode_reply(body, asked, BATCH),
    encode_reply=lambda reply, _: _encode_reply(reply, BATCH),
    usage_of=usage_of,
    most_inputs=100,
)
SHAPE_SINGLE = Shape(
    name=SINGLE,
    path=lambda model: f"/models/{model}:embedContent",
    decode_request=_decode_single,
    encode_request=lambda request: _encode_request(request, SINGLE),
    decode_reply=lambda body, asked: _decode_reply(body, asked, SINGLE),
    encode_reply=lambda reply, _: _encode_reply(reply, SINGLE),
    usage_of=usage_of,
    most_inputs=1,
)
