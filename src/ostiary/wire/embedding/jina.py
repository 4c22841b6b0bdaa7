"""Embeddings as Jina's interface says them. It must not judge values: what it does not know is kept as it came.

Source: Jina's API documentation for embeddings and requests written after it (there is no official SDK of it). Inputs
are texts, or objects with `text` or `image`; an image is an address or bare base64, whose kind its first bytes tell.
Base64 vectors are float32, as in OpenAI's shape.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.parts import Image, Inline
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, inexpressible
from ostiary.wire.embedding.fields import (
    BINDING,
    FLAG,
    INTEGER,
    STRING,
    address_of,
    cut_flag,
    image_at,
    lost,
    own_value,
    reply_members,
    request_members,
    take_count,
    take_cut,
    take_word,
    text_of,
    written,
    wrong,
)
from ostiary.wire.embedding.listed import decode_list, encode_list
from ostiary.wire.embedding.pivot import (
    EmbeddingReply,
    EmbeddingRequest,
    Form,
    Input,
    Number,
    Purpose,
    UnknownInput,
    Words,
)
from ostiary.wire.embedding.shape import Answering, Shape
from ostiary.wire.embedding.vectors import only_form

NAME = "jina"
_INPUT = msgspec.json.Decoder(str | list[msgspec.Raw])
_KINDS = {
    "retrieval.query": Purpose.QUERY,
    "retrieval.passage": Purpose.DOCUMENT,
    "text-matching": Purpose.SIMILARITY,
    "classification": Purpose.CLASSIFICATION,
    "separation": Purpose.CLUSTERING,
    "code.query": Purpose.CODE_QUERY,
    "code.passage": Purpose.CODE_DOCUMENT,
}
_FORMS = {
    "float": Form(),
    "base64": Form(Number.FLOAT, packed=True),
    "binary": Form(Number.BINARY),
    "ubinary": Form(Number.UBINARY),
}
_BINDING = BINDING | {"embedding_type", "return_multivector"}
# The beginning of base64 text, by what it is of.
_MAGIC = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}


def decode_request(body: bytes) -> EmbeddingRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    given = members.take("input", _INPUT)
    if given is None:
        raise wrong("input", "a text or a list of inputs")
    form = take_word(members, "embedding_type", _FORMS)
    return EmbeddingRequest(
        model=members.take("model", STRING) or "",
        inputs=(Words(given),) if isinstance(given, str) else tuple(_input(raw) for raw in given),
        dimensions=members.take("dimensions", INTEGER),
        kind=take_word(members, "task", _KINDS),
        forms=(form,) if form is not None else (),
        cut=take_cut(members, "truncate"),
        normalize=members.take("normalized", FLAG),
        rest=members.rest(NAME, _BINDING),
    )


def _input(raw: msgspec.Raw) -> Input:
    text = Members({"text": raw}).take("text", STRING)
    if text is not None:
        return Words(text)
    members = Members.of(raw)
    if members is None:
        return UnknownInput(NAME, raw)
    text, image = members.take("text", STRING), members.take("image", STRING)
    if members.rest(NAME) or (text is None) == (image is None):
        return UnknownInput(NAME, raw)
    if text is not None:
        return Words(text)
    return _image(image or "") or UnknownInput(NAME, raw)


def _image(said: str) -> Image | None:
    if said.startswith(("data:", "http://", "https://")):
        return image_at(said)
    return next((Image(Inline(kind, said)) for magic, kind in _MAGIC.items() if said.startswith(magic)), None)


def encode_request(request: EmbeddingRequest) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`."""
    losses = lost(request, NAME, "user")
    word = next((word for word, kind in _KINDS.items() if kind is request.kind), None)
    if word is None and request.kind is not None:
        losses.append(Loss(LossKind.KNOB, "kind"))
    form = only_form(request)
    known = next((said for said, wanted in _FORMS.items() if wanted == form), None)
    if known is None:  # of the small numbers, those that are packed: asked for plain, and packed by us
        known = next((said for said, wanted in _FORMS.items() if wanted == Form(form.number)), None)
    if known is None:
        raise inexpressible("forms")
    document = {
        "model": request.model or None,
        "input": [_say(given, f"inputs.{index}", losses) for index, given in enumerate(request.inputs)],
        "task": word,
        "dimensions": request.dimensions,
        "normalized": request.normalize,
        "embedding_type": known if request.forms else None,
        "truncate": cut_flag(request, losses),
    }
    return written(document, request.rest, NAME, losses)


def _say(given: Input, where: str, losses: list[Loss]) -> Any:
    if isinstance(given, UnknownInput):
        return own_value(given, where, NAME)
    if isinstance(given, Image):
        address = address_of(given, where, losses, NAME)
        bare = given.source.base64 if isinstance(given.source, Inline) else ""
        known = bare.startswith(tuple(_MAGIC))
        return {"image": bare if known else address}
    return text_of(given, where, NAME, losses)


def _use(members: Members) -> Usage | None:
    inner = members.inside("usage")
    into, total = take_count(inner, "prompt_tokens"), take_count(inner, "total_tokens")
    count = total if total is not None else into
    return Usage(count) if count is not None else None


def decode_reply(body: bytes, asked: EmbeddingRequest) -> EmbeddingReply:
    """The reply of a body; raises as `Shape.decode_reply`."""
    return decode_list(body, asked, NAME, _use)


def encode_reply(reply: EmbeddingReply, answering: Answering) -> Encoded:
    """The body for a client."""
    count = reply.usage.input if reply.usage is not None else 0
    return encode_list(reply, answering, NAME, {"total_tokens": count, "prompt_tokens": count})


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its use."""
    return _use(reply_members(body))


SHAPE = Shape(
    name=NAME,
    path=lambda _: "/embeddings",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=usage_of,
)
