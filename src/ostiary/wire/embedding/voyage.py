"""Embeddings as Voyage's interface says them. It must not judge values: what it does not know is kept as it came.

Source: the official Python SDK (voyageai 0.5, `Client.embed`, `api_resources.Embedding`, `util`) and Voyage's API
reference for text embeddings (a thousand inputs per call). The SDK asks for base64, of whatever numbers.
"""

from __future__ import annotations

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind
from ostiary.wire.embedding.fields import (
    BINDING,
    INTEGER,
    STRING,
    cut_flag,
    lost,
    reply_members,
    request_members,
    take_count,
    take_cut,
    take_word,
    texts_of,
    written,
    wrong,
)
from ostiary.wire.embedding.listed import decode_list, encode_list
from ostiary.wire.embedding.pivot import EmbeddingReply, EmbeddingRequest, Form, Number, Purpose, Words
from ostiary.wire.embedding.shape import Answering, Shape
from ostiary.wire.embedding.vectors import only_form

NAME = "voyage"
_INPUT = msgspec.json.Decoder(str | list[str])
_KINDS = {"query": Purpose.QUERY, "document": Purpose.DOCUMENT}
_NUMBERS = {number.value: number for number in Number}
_PACKED = {"base64": True}
_BINDING = BINDING | {"output_dtype", "encoding_format"}


def decode_request(body: bytes) -> EmbeddingRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    given = members.take("input", _INPUT)
    if given is None:
        raise wrong("input", "a text or a list of texts")
    number = take_word(members, "output_dtype", _NUMBERS)
    packed = take_word(members, "encoding_format", _PACKED)
    return EmbeddingRequest(
        model=members.take("model", STRING) or "",
        inputs=tuple(Words(text) for text in ([given] if isinstance(given, str) else given)),
        dimensions=members.take("output_dimension", INTEGER),
        kind=take_word(members, "input_type", _KINDS),
        forms=(Form(number or Number.FLOAT, packed is True),) if number or packed else (),
        cut=take_cut(members, "truncation"),
        rest=members.rest(NAME, _BINDING),
    )


def encode_request(request: EmbeddingRequest) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`."""
    losses = lost(request, NAME, "normalize", "user")
    word = next((word for word, kind in _KINDS.items() if kind is request.kind), None)
    if word is None and request.kind is not None:
        losses.append(Loss(LossKind.KNOB, "kind"))
    form = only_form(request)
    document = {
        "model": request.model or None,
        "input": texts_of(request, NAME, losses),
        "input_type": word,
        "truncation": cut_flag(request, losses),
        "output_dimension": request.dimensions,
        "output_dtype": form.number.value if request.forms else None,
        "encoding_format": "base64" if form.packed else None,
    }
    return written(document, request.rest, NAME, losses)


def _use(members: Members) -> Usage | None:
    count = take_count(members.inside("usage"), "total_tokens")
    return Usage(count) if count is not None else None


def decode_reply(body: bytes, asked: EmbeddingRequest) -> EmbeddingReply:
    """The reply of a body; raises as `Shape.decode_reply`."""
    return decode_list(body, asked, NAME, _use)


def encode_reply(reply: EmbeddingReply, answering: Answering) -> Encoded:
    """The body for a client; its SDK requires the use, so it is zero where nobody stated it."""
    return encode_list(reply, answering, NAME, {"total_tokens": reply.usage.input if reply.usage is not None else 0})


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
    most_inputs=1000,
)
