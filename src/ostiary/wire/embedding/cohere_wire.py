"""What Cohere's own interface and its models on Bedrock have in common. It must not know paths.

Source: official Python SDK cohere 7.3 (`v2.embed`, `EmbedByTypeResponse`, `EmbedInput`, `ApiMeta`) and the Bedrock user
guide, Cohere Embed v3 and v4. What vectors are for must be said: where a request does not, they are documents, or
images. Cohere's base64 vectors are never asked for: it does not say of which floats; packing is left to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.parts import Image, Inline
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, find, inexpressible, losses_of
from ostiary.wire.embedding.fields import (
    BINDING,
    INTEGER,
    RAW,
    RAWS,
    ROWS,
    STRING,
    STRINGS,
    address_of,
    blended,
    counted,
    encode_json,
    image_at,
    lost,
    own_value,
    reply_members,
    request_members,
    take_count,
    take_word,
    text_of,
    written,
    wrong,
)
from ostiary.wire.embedding.pivot import (
    Blend,
    Cut,
    EmbeddingReply,
    EmbeddingRequest,
    Form,
    Input,
    Number,
    Purpose,
    UnknownInput,
    Vectors,
    Words,
)
from ostiary.wire.embedding.shape import Answering
from ostiary.wire.embedding.vectors import PLAIN, bad_answer, rows_as

_KINDS = {
    "search_query": Purpose.QUERY,
    "search_document": Purpose.DOCUMENT,
    "classification": Purpose.CLASSIFICATION,
    "clustering": Purpose.CLUSTERING,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}
_FORMS = {number.value: Form(number) for number in Number} | {"base64": Form(Number.FLOAT, packed=True)}
_NAMES = {form: name for name, form in _FORMS.items()}
_BINDING = BINDING | {"embedding_types", "images", "texts"}


class Variant(msgspec.Struct, frozen=True):
    """How one of them differs: its words for cutting, whether it knows lengths of vectors and mixed inputs, whether an
    address of an image stands in an object, and whether the body names the model."""

    name: str
    cuts: Mapping[str, Cut]
    modern: bool = True
    nested: bool = True
    names_model: bool = False


def decode_request(body: bytes, variant: Variant) -> EmbeddingRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    return EmbeddingRequest(
        model=(members.take("model", STRING) or "") if variant.names_model else "",
        inputs=_inputs(members, variant),
        dimensions=members.take("output_dimension", INTEGER),
        kind=take_word(members, "input_type", _KINDS),
        forms=_forms(members),
        cut=take_word(members, "truncate", variant.cuts),
        rest=members.rest(variant.name, _BINDING),
    )


def _inputs(members: Members, variant: Variant) -> tuple[Input, ...]:
    texts, images = members.take("texts", STRINGS), members.take("images", STRINGS)
    mixed = members.take("inputs", RAWS)
    if sum(bool(given) for given in (texts, images, mixed)) > 1:
        raise wrong("texts", "the only inputs, or left out")
    if any(name in members and bytes(members.take(name, RAW) or b"null") != b"null" for name in _LISTS):
        raise wrong("texts", "a list, as are images and inputs")
    if images:
        return tuple(_picture(address, variant) for address in images)
    if mixed:
        return tuple(_mixed(raw, variant) for raw in mixed)
    if texts is None and images is None and mixed is None:
        raise wrong("texts", "a list of texts")
    return tuple(Words(text) for text in texts or ())


_LISTS = ("texts", "images", "inputs")


def _picture(address: str, variant: Variant) -> Image | UnknownInput:
    return image_at(address) or UnknownInput(variant.name, msgspec.Raw(encode_json(address)))


def _mixed(raw: msgspec.Raw, variant: Variant) -> Input:
    members = Members.of(raw)
    parts = members.take("content", RAWS) if members is not None else None
    if members is None or parts is None or members.rest(variant.name):
        return UnknownInput(variant.name, raw)
    return blended([_part(part, variant) for part in parts])


def _part(raw: msgspec.Raw, variant: Variant) -> Words | Image | UnknownInput:
    members = Members.of(raw)
    if members is None:
        return UnknownInput(variant.name, raw)
    kind, text = members.take("type", STRING), members.take("text", STRING)
    at, name = (members.inside("image_url"), "url") if variant.nested else (members, "image_url")
    address = at.take(name, STRING)
    unknown = UnknownInput(variant.name, raw)
    if members.rest(variant.name) or (text is None) == (address is None):
        return unknown
    if text is not None:
        return Words(text) if kind == "text" else unknown
    return (image_at(address or "") or unknown) if kind == "image_url" else unknown


def _forms(members: Members) -> tuple[Form, ...]:
    words = members.take("embedding_types", STRINGS)
    if words is None:
        return ()
    if not words or any(word not in _FORMS for word in words):
        members.put_back("embedding_types", msgspec.Raw(encode_json(words)))
        return ()
    return tuple(_FORMS[word] for word in words)


def encode_request(request: EmbeddingRequest, variant: Variant) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`."""
    name = variant.name
    losses = lost(request, name, "normalize", "user")
    if request.dimensions is not None and not variant.modern:
        raise inexpressible("dimensions")
    cut = next((word for word, meant in variant.cuts.items() if meant is request.cut), None)
    numbers = tuple(dict.fromkeys(form.number.value for form in request.forms))
    document: dict[str, Any] = {"model": (request.model or None) if variant.names_model else None}
    document |= _say_inputs(request, variant, losses)
    document |= {
        "input_type": _say_kind(request, name, losses),
        "output_dimension": request.dimensions,
        "embedding_types": numbers or _usual(request, variant),
        "truncate": cut,
    }
    return written(document, request.rest, name, losses)


def _usual(request: EmbeddingRequest, variant: Variant) -> tuple[str, ...] | None:
    """Floats are asked for in words where the interface is not fixed to them; Bedrock gives them unasked."""
    return None if not variant.names_model or find(request.rest, variant.name, "embedding_types") else ("float",)


def _say_kind(request: EmbeddingRequest, name: str, losses: list[Loss]) -> str | None:
    if request.kind in _WORDS:
        return _WORDS[request.kind]
    if find(request.rest, name, "input_type") is not None:
        return None
    if request.kind is not None:
        losses.append(Loss(LossKind.KNOB, "kind"))
    if request.kind is Purpose.CODE_QUERY:
        return _WORDS[Purpose.QUERY]
    pictures = bool(request.inputs) and all(isinstance(given, Image) for given in request.inputs)
    return "image" if pictures else _WORDS[Purpose.DOCUMENT]


def _say_inputs(request: EmbeddingRequest, variant: Variant, losses: list[Loss]) -> dict[str, Any]:
    places = [(given, f"inputs.{index}") for index, given in enumerate(request.inputs)]
    if all(isinstance(given, Words) for given, _ in places):
        return {"texts": [text_of(given, where, variant.name, losses) for given, where in places]}
    if all(_is_picture(given) for given, _ in places):
        return {"images": [_say_picture(given, where, variant, losses) for given, where in places]}
    if not variant.modern:
        raise inexpressible("inputs")
    return {"inputs": [_say_mixed(given, where, variant, losses) for given, where in places]}


def _is_picture(given: Input) -> bool:
    bare = isinstance(given, UnknownInput) and bytes(given.value).startswith(b'"')
    return bare or isinstance(given, Image)


def _say_picture(given: Input, where: str, variant: Variant, losses: list[Loss]) -> Any:
    if isinstance(given, UnknownInput):
        return own_value(given, where, variant.name)
    if not isinstance(given, Image) or not isinstance(given.source, Inline):
        raise inexpressible(where)  # only `data:` addresses are taken
    return address_of(given, where, losses, variant.name)


def _say_mixed(given: Input, where: str, variant: Variant, losses: list[Loss]) -> Any:
    if isinstance(given, UnknownInput):
        return own_value(given, where, variant.name)
    if not isinstance(given, Blend):
        return {"content": [_say_part(given, where, variant, losses)]}
    losses += losses_of(given.rest, variant.name, where)
    return {
        "content": [
            _say_part(part, f"{where}.parts.{index}", variant, losses) for index, part in enumerate(given.parts)
        ]
    }


def _say_part(part: Input, where: str, variant: Variant, losses: list[Loss]) -> Any:
    if isinstance(part, UnknownInput):
        return own_value(part, where, variant.name)
    if isinstance(part, Image):
        address = _say_picture(part, where, variant, losses)
        return {"type": "image_url", "image_url": {"url": address} if variant.nested else address}
    return {"type": "text", "text": text_of(part, where, variant.name, losses)}


_BY_TYPE = msgspec.json.Decoder(dict[str, tuple[tuple[int | float, ...] | str, ...] | None])


def decode_reply(body: bytes, asked: EmbeddingRequest, variant: Variant) -> EmbeddingReply:
    """The reply of a body, by type or floats alone; raises as `Shape.decode_reply`."""
    members = reply_members(body)
    by_type, rows = members.take("embeddings", _BY_TYPE), members.take("embeddings", ROWS)
    if by_type is not None:
        found = [(number, by_type.get(number.value)) for number in Number]
        vectors = tuple(Vectors(number, rows) for number, rows in found if rows is not None)
    elif rows is not None:
        vectors = (Vectors(Number.FLOAT, rows),)
    else:
        raise bad_answer()
    for echo in ("response_type", "texts", "images"):
        members.take(echo, RAW)
    usage, identity = _use(members), members.take("id", STRING) or ""
    return counted(EmbeddingReply(vectors=vectors, usage=usage, id=identity, rest=members.rest(variant.name)), asked)


def _use(members: Members) -> Usage | None:
    units = members.inside("meta").inside("billed_units")
    whole = take_count(units, "input_tokens")
    words, pictures = take_count(units, "text_tokens"), take_count(units, "image_tokens")
    if whole is None and words is None and pictures is None:
        return None
    return Usage(max(whole or 0, (words or 0) + (pictures or 0)))


def encode_reply(reply: EmbeddingReply, answering: Answering, variant: Variant) -> Encoded:
    """The body for a client, by type where it named types or the shape knows no other; raises as
    `Shape.encode_reply`. The texts of the request are told again, as the provider does."""
    asked = answering.asked
    texts = [given.text for given in asked.inputs if isinstance(given, Words)]
    forms = asked.forms or (PLAIN,)
    by_type = bool(asked.forms) or variant.names_model
    document: dict[str, Any] = {
        "response_type": "embeddings_by_type" if by_type else "embeddings_floats",
        "id": reply.id or answering.id,
        "embeddings": {_NAMES[form]: rows_as(reply, form) for form in forms} if by_type else rows_as(reply, PLAIN),
        "texts": texts if len(texts) == len(asked.inputs) else [],
    }
    if reply.usage is not None:
        document["meta"] = {"billed_units": {"input_tokens": reply.usage.input}}
    return written(document, reply.rest, variant.name, losses_of(reply.rest, variant.name, ""))


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its use."""
    return _use(reply_members(body))
