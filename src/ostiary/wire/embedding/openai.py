"""Embeddings as OpenAI's interface says them. It must not judge values: what it does not know is kept as it came.

Source: OpenAI API reference, create embeddings (official Python SDK 3.54, `EmbeddingCreateParams`,
`CreateEmbeddingResponse`). The SDK asks for base64 wherever its user names no format. A list is of texts alone or of
lists of tokens alone; one text, or one list of tokens, is a list of one.
"""

from __future__ import annotations

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, inexpressible
from ostiary.wire.embedding.fields import (
    BINDING,
    INTEGER,
    STRING,
    lost,
    reply_members,
    request_members,
    take_count,
    take_word,
    texts_of,
    written,
    wrong,
)
from ostiary.wire.embedding.listed import decode_list, encode_list
from ostiary.wire.embedding.pivot import Cut, EmbeddingReply, EmbeddingRequest, Form, Input, Number, Tokens, Words
from ostiary.wire.embedding.shape import Answering, Shape
from ostiary.wire.embedding.vectors import only_form, require_floats

NAME = "openai"
_INPUT = msgspec.json.Decoder(str | list[str | int | tuple[int, ...]])
_FORMS = {"float": Form(), "base64": Form(Number.FLOAT, packed=True)}
_BINDING = BINDING | {"encoding_format"}


def decode_request(body: bytes) -> EmbeddingRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    form = take_word(members, "encoding_format", _FORMS)
    return EmbeddingRequest(
        model=members.take("model", STRING) or "",
        inputs=_inputs(members),
        dimensions=members.take("dimensions", INTEGER),
        forms=(form,) if form is not None else (),
        user=members.take("user", STRING),
        rest=members.rest(NAME, _BINDING),
    )


def _inputs(members: Members) -> tuple[Input, ...]:
    given = members.take("input", _INPUT)
    if isinstance(given, str):
        return (Words(given),)
    if given is None:
        raise wrong("input", "a text, a list of texts, a list of tokens or a list of such lists")
    if given and all(isinstance(item, int) for item in given):
        return (Tokens(tuple(item for item in given if isinstance(item, int))),)
    texts = tuple(Words(item) for item in given if isinstance(item, str))
    tokens = tuple(Tokens(item) for item in given if isinstance(item, tuple))
    if max(len(texts), len(tokens)) < len(given):
        raise wrong("input", "of texts alone or of tokens alone")
    return texts or tokens


def encode_request(request: EmbeddingRequest) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`. A text that is too long is refused, never cut."""
    losses = lost(request, NAME, "kind", "normalize")
    if request.cut not in (None, Cut.NONE):
        losses.append(Loss(LossKind.KNOB, "cut"))
    require_floats(request)
    tokens = [given.ids for given in request.inputs if isinstance(given, Tokens)]
    if tokens and len(tokens) < len(request.inputs):
        raise inexpressible("inputs")
    form = only_form(request)
    document = {
        "model": request.model or None,
        "input": tokens or texts_of(request, NAME, losses),
        "dimensions": request.dimensions,
        "encoding_format": ("base64" if form.packed else "float") if request.forms else None,
        "user": request.user,
    }
    return written(document, request.rest, NAME, losses)


def _use(members: Members) -> Usage | None:
    inner = members.inside("usage")
    into, total = take_count(inner, "prompt_tokens"), take_count(inner, "total_tokens")
    count = into if into is not None else total
    return Usage(count) if count is not None else None


def decode_reply(body: bytes, asked: EmbeddingRequest) -> EmbeddingReply:
    """The reply of a body; raises as `Shape.decode_reply`."""
    return decode_list(body, asked, NAME, _use)


def encode_reply(reply: EmbeddingReply, answering: Answering) -> Encoded:
    """The body for a client; its SDK requires the use, so it is zero where nobody stated it."""
    count = reply.usage.input if reply.usage is not None else 0
    return encode_list(reply, answering, NAME, {"prompt_tokens": count, "total_tokens": count})


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
    most_inputs=2048,
)
