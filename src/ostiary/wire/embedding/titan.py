"""Embeddings as Amazon's Titan text models take them through Bedrock's InvokeModel, one input in a call. It must not
say more than a generation of the models knows: the first takes the text alone.

Source: Amazon Bedrock user guide, model parameters of Titan Embeddings Text (G1 and V2); path from botocore's service
model `bedrock-runtime`, InvokeModel. The model stands in the path. What else than floats V2 can give is left to itself.
"""

from __future__ import annotations

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.embedding.fields import (
    BINDING,
    FLAG,
    INTEGER,
    ROW,
    STRING,
    STRINGS,
    counted,
    lost,
    reply_members,
    request_members,
    take_count,
    text_of,
    written,
    wrong,
)
from ostiary.wire.embedding.invoke import invoke_path
from ostiary.wire.embedding.pivot import Cut, EmbeddingReply, EmbeddingRequest, Form, Words
from ostiary.wire.embedding.shape import Shape
from ostiary.wire.embedding.vectors import PLAIN, bad_answer, floats, require_floats, rows_as

FIRST, SECOND = "titan_v1", "titan_v2"
_BINDING = BINDING | {"embeddingTypes", "inputText"}


def _decode_request(body: bytes, name: str) -> EmbeddingRequest:
    members = request_members(body)
    text = members.take("inputText", STRING)
    if text is None:
        raise wrong("inputText", "a text")
    if name == FIRST:
        return EmbeddingRequest(model="", inputs=(Words(text),), rest=members.rest(name, _BINDING))
    return EmbeddingRequest(
        model="",
        inputs=(Words(text),),
        dimensions=members.take("dimensions", INTEGER),
        normalize=members.take("normalize", FLAG),
        forms=_forms(members),
        rest=members.rest(name, _BINDING),
    )


def _forms(members: Members) -> tuple[Form, ...]:
    words = members.take("embeddingTypes", STRINGS)
    if words == ["float"]:
        return (PLAIN,)
    if words is not None:
        members.put_back("embeddingTypes", msgspec.Raw(msgspec.json.encode(words)))
    return ()


def _encode_request(request: EmbeddingRequest, name: str) -> Encoded:
    losses = lost(request, name, "kind", "user", *(("normalize",) if name == FIRST else ()))
    if request.cut not in (None, Cut.NONE):
        losses.append(Loss(LossKind.KNOB, "cut"))
    require_floats(request)
    if len(request.inputs) != 1:
        raise inexpressible("inputs")
    document: dict[str, object] = {"inputText": text_of(request.inputs[0], "inputs.0", name, losses)}
    if name == SECOND:
        document |= {"dimensions": request.dimensions, "normalize": request.normalize}
        document |= {"embeddingTypes": ["float"] if request.forms else None}
    elif request.dimensions is not None:
        raise inexpressible("dimensions")
    return written(document, request.rest, name, losses)


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its use."""
    return _use(reply_members(body))


def _use(members: Members) -> Usage | None:
    count = take_count(members, "inputTextTokenCount")
    return Usage(count) if count is not None else None


def _decode_reply(body: bytes, asked: EmbeddingRequest, name: str) -> EmbeddingReply:
    members = reply_members(body)
    row = members.take("embedding", ROW)
    by_type = members.inside("embeddingsByType")
    again = by_type.take("float", ROW)
    row = row if row is not None else again
    if row is None:
        raise bad_answer()
    return counted(EmbeddingReply(vectors=floats((row,)), usage=_use(members), rest=members.rest(name)), asked)


def _encode_reply(reply: EmbeddingReply, name: str) -> Encoded:
    rows = rows_as(reply, PLAIN)
    if len(rows) != 1:
        raise bad_answer("the provider did not give one vector for each input")
    document = {
        "embedding": rows[0],
        "embeddingsByType": {"float": rows[0]} if name == SECOND else None,
        "inputTextTokenCount": reply.usage.input if reply.usage is not None else None,
    }
    return written(document, reply.rest, name, losses_of(reply.rest, name, ""))


SHAPE_V1 = Shape(
    name=FIRST,
    path=invoke_path,
    decode_request=lambda body: _decode_request(body, FIRST),
    encode_request=lambda request: _encode_request(request, FIRST),
    decode_reply=lambda body, asked: _decode_reply(body, asked, FIRST),
    encode_reply=lambda reply, _: _encode_reply(reply, FIRST),
    usage_of=usage_of,
    most_inputs=1,
)
SHAPE_V2 = Shape(
    name=SECOND,
    path=invoke_path,
    decode_request=lambda body: _decode_request(body, SECOND),
    encode_request=lambda request: _encode_request(request, SECOND),
    decode_reply=lambda body, asked: _decode_reply(body, asked, SECOND),
    encode_reply=lambda reply, _: _encode_reply(reply, SECOND),
    usage_of=usage_of,
    most_inputs=1,
)
