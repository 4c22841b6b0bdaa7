"""Embeddings as Ollama's own interface says them. It must not judge values: what it does not know is kept as it came.

Source: the official Python SDK (ollama 0.6, `EmbedRequest`, `EmbedResponse`), POST /api/embed.
"""

from __future__ import annotations

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Encoded, losses_of
from ostiary.wire.embedding.fields import (
    BINDING,
    INTEGER,
    ROWS,
    STRING,
    counted,
    cut_flag,
    lost,
    reply_members,
    request_members,
    take_count,
    take_cut,
    texts_of,
    written,
    wrong,
)
from ostiary.wire.embedding.pivot import EmbeddingReply, EmbeddingRequest, Words
from ostiary.wire.embedding.shape import Answering, Shape
from ostiary.wire.embedding.vectors import PLAIN, bad_answer, floats, require_floats, rows_as

NAME = "ollama"
_INPUT = msgspec.json.Decoder(str | list[str])


def decode_request(body: bytes) -> EmbeddingRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    given = members.take("input", _INPUT)
    if given is None:
        raise wrong("input", "a text or a list of texts")
    return EmbeddingRequest(
        model=members.take("model", STRING) or "",
        inputs=tuple(Words(text) for text in ([given] if isinstance(given, str) else given)),
        dimensions=members.take("dimensions", INTEGER),
        cut=take_cut(members, "truncate"),
        rest=members.rest(NAME, BINDING),
    )


def encode_request(request: EmbeddingRequest) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`."""
    losses = lost(request, NAME, "kind", "normalize", "user")
    require_floats(request)
    document = {
        "model": request.model or None,
        "input": texts_of(request, NAME, losses),
        "truncate": cut_flag(request, losses),
        "dimensions": request.dimensions,
    }
    return written(document, request.rest, NAME, losses)


def _use(members: Members) -> Usage | None:
    count = take_count(members, "prompt_eval_count")
    return Usage(count) if count is not None else None


def decode_reply(body: bytes, asked: EmbeddingRequest) -> EmbeddingReply:
    """The reply of a body; raises as `Shape.decode_reply`."""
    members = reply_members(body)
    rows = members.take("embeddings", ROWS)
    if rows is None:
        raise bad_answer()
    usage, model = _use(members), members.take("model", STRING) or ""
    return counted(EmbeddingReply(vectors=floats(rows), usage=usage, model=model, rest=members.rest(NAME)), asked)


def encode_reply(reply: EmbeddingReply, answering: Answering) -> Encoded:
    """The body for a client."""
    document = {
        "model": answering.model,
        "embeddings": rows_as(reply, PLAIN),
        "prompt_eval_count": reply.usage.input if reply.usage is not None else None,
    }
    return written(document, reply.rest, NAME, losses_of(reply.rest, NAME, ""))


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its use."""
    return _use(reply_members(body))


SHAPE = Shape(
    name=NAME,
    path=lambda _: "/api/embed",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=usage_of,
)
