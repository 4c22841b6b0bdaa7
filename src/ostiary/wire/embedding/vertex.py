"""Embeddings as Vertex AI's `:predict` says them: instances and parameters. It must not judge values: what it does not
know is kept as it came.

Source: official Python SDK google-genai 3.4 (`models._EmbedContentConfig_to_vertex`, and
`_EmbedContentResponse_from_vertex`, for the PREDICT kind) and the Vertex AI reference, `TextEmbeddingPredictionParams`
and text embeddings. The model stands in the path. What vectors are for is said by each instance: what all say alike is
the request's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.unknown import Encoded, Extra, Loss, losses_of
from ostiary.wire.embedding.fields import (
    BINDING,
    INTEGER,
    RAWS,
    STRING,
    counted,
    cut_flag,
    encode_json,
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
from ostiary.wire.embedding.pivot import EmbeddingReply, EmbeddingRequest, Input, Purpose, UnknownInput, Words
from ostiary.wire.embedding.shape import Answering, Shape
from ostiary.wire.embedding.tasks import KINDS, TASKS, lost_task
from ostiary.wire.embedding.vectors import PLAIN, bad_answer, floats, require_floats, rows_as

NAME = "vertex"


class _Statistics(msgspec.Struct):
    token_count: int | float = 0


class _Embedding(msgspec.Struct):
    values: tuple[int | float, ...]
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct):
    embeddings: _Embedding


class _Counted(msgspec.Struct):
    """The same without the vectors, for those who ask for the use alone."""

    statistics: _Statistics | None = None


class _CountedPrediction(msgspec.Struct):
    embeddings: _Counted | None = None


_PREDICTIONS = msgspec.json.Decoder(list[_Prediction])
_COUNTED = msgspec.json.Decoder(list[_CountedPrediction])


def decode_request(body: bytes) -> EmbeddingRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    raws = members.take("instances", RAWS)
    if raws is None:
        raise wrong("instances", "a list")
    parameters = members.inside("parameters")
    read = [_instance(raw) for raw in raws]
    kinds = {kind for _, kind in read}
    kind = kinds.pop() if len(kinds) == 1 else None
    return EmbeddingRequest(
        model="",
        inputs=tuple(given if kind is not None else _with_task(given, own) for given, own in read),
        kind=kind,
        dimensions=parameters.take("outputDimensionality", INTEGER),
        cut=take_cut(parameters, "autoTruncate"),
        rest=members.rest(NAME, BINDING),
    )


def _instance(raw: msgspec.Raw) -> tuple[Input, Purpose | None]:
    members = Members.of(raw)
    text = members.take("content", STRING) if members is not None else None
    if members is None or text is None:
        return UnknownInput(NAME, raw), None
    kind = take_word(members, "task_type", KINDS)
    return Words(text, members.take("title", STRING), members.rest(NAME)), kind


def _with_task(given: Input, kind: Purpose | None) -> Input:
    """An input with what its instance alone is for."""
    if kind is None or not isinstance(given, Words):
        return given
    own = Extra(NAME, ("task_type",), msgspec.Raw(encode_json(TASKS[kind])))
    rest = tuple(sorted((*given.rest, own), key=lambda extra: extra.path))
    return msgspec.structs.replace(given, rest=rest)


def encode_request(request: EmbeddingRequest) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`."""
    losses = lost(request, NAME, "normalize", "user") + lost_task(request.kind)
    require_floats(request)
    instances = [_say(given, f"inputs.{index}", request, losses) for index, given in enumerate(request.inputs)]
    values = {"autoTruncate": cut_flag(request, losses), "outputDimensionality": request.dimensions}
    parameters = {name: value for name, value in values.items() if value is not None}
    return written({"instances": instances, "parameters": parameters or None}, request.rest, NAME, losses)


def _say(given: Input, where: str, request: EmbeddingRequest, losses: list[Loss]) -> Any:
    if isinstance(given, UnknownInput):
        return own_value(given, where, NAME)
    document: dict[str, Any] = {"content": text_of(given, where, NAME, losses, titled=True)}
    if request.kind is not None:
        document["task_type"] = TASKS[request.kind]
    if isinstance(given, Words):
        if given.title is not None:
            document["title"] = given.title
        with_rest(document, given.rest, NAME)
    return document


def decode_reply(body: bytes, asked: EmbeddingRequest) -> EmbeddingReply:
    """The reply of a body; raises as `Shape.decode_reply`."""
    members = reply_members(body)
    found = members.take("predictions", _PREDICTIONS)
    if found is None:
        raise bad_answer()
    usage = _use(members, [prediction.embeddings.statistics for prediction in found])
    rows = tuple(prediction.embeddings.values for prediction in found)
    return counted(EmbeddingReply(vectors=floats(rows), usage=usage, rest=members.rest(NAME)), asked)


def _use(members: Members, statistics: list[_Statistics | None]) -> Usage | None:
    inner = members.inside("usageMetadata")
    stated, total = take_count(inner, "promptTokenCount"), take_count(inner, "totalTokenCount")
    stated = stated if stated is not None else total
    counts = [each.token_count for each in statistics if each is not None and 0 <= each.token_count < 2**53]
    if stated is None and counts:
        stated = round(sum(counts))
    return Usage(stated) if stated is not None else None


def encode_reply(reply: EmbeddingReply, _: Answering) -> Encoded:
    """The body for a client. Tokens are those of an input where there is one, and else of the whole request: how they
    are divided is not known."""
    rows = rows_as(reply, PLAIN)
    embeddings: list[dict[str, Any]] = [{"values": row} for row in rows]
    document: dict[str, Any] = {"predictions": [{"embeddings": embedding} for embedding in embeddings]}
    if reply.usage is not None and len(rows) == 1:
        embeddings[0]["statistics"] = {"token_count": reply.usage.input}
    elif reply.usage is not None:
        document["usageMetadata"] = {"promptTokenCount": reply.usage.input, "totalTokenCount": reply.usage.input}
    return written(document, reply.rest, NAME, losses_of(reply.rest, NAME, ""))


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its use."""
    members = reply_members(body)
    found = members.take("predictions", _COUNTED) or []
    return _use(members, [each.embeddings.statistics for each in found if each.embeddings is not None])


SHAPE = Shape(
    name=NAME,
    path=lambda model: f"/publishers/google/models/{model}:predict",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=usage_of,
    most_inputs=250,
)
