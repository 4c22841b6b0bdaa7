"""Any client's embeddings over any provider: the goldens of the one become the goldens of the other."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from embedding_kit import NAMES, REPLIES, REQUESTS, answering, asked, body_of

from ostiary.core.usage import Usage
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.embedding.batching import joined, split
from ostiary.wire.embedding.pivot import EmbeddingRequest, Form, Purpose
from ostiary.wire.embedding.shapes import SHAPES

NO_KIND = {"openai", "ollama", "titan_v1", "titan_v2"}
NO_LENGTH = {"titan_v1", "bedrock_cohere_v3"}
ONE = {"gemini_single", "titan_v1", "titan_v2"}


def needed(client: str, provider: str) -> EmbeddingRequest:
    """The client's request with what the provider's golden has, as far as the client's shape can say it."""
    request = msgspec.structs.replace(asked(SHAPES[client]), model="m")
    return request if provider not in NO_LENGTH else msgspec.structs.replace(request, dimensions=None)


def golden_request(client: str, provider: str) -> dict[str, Any]:
    """What the provider is to be sent: its golden, less what the client did not say."""
    document: dict[str, Any] = json.loads(json.dumps(REQUESTS[provider]))
    if client in ONE and provider not in ONE:
        for name in ("input", "texts", "requests", "instances"):
            if name in document:
                document[name] = document[name][:1]
    said = asked(SHAPES[client])
    inner = {"gemini": document.get("requests", []), "vertex": document.get("instances", [])}
    for part in [document, *inner.get(provider, [])]:
        if said.dimensions is None:
            for name in ("dimensions", "output_dimension", "outputDimensionality", "parameters"):
                part.pop(name, None)
        if said.kind is None:
            for name in ("task", "taskType", "task_type"):
                part.pop(name, None)
            if provider == "voyage":
                part.pop("input_type", None)
    if said.kind is None and "cohere" in provider:
        document["input_type"] = "search_document"
    if said.forms and provider in ("openai", "jina", "voyage", "titan_v2", "bedrock_cohere_v3", "bedrock_cohere_v4"):
        names = {"openai": "encoding_format", "jina": "embedding_type", "voyage": "output_dtype"}
        plural = {"titan_v2": "embeddingTypes"}.get(provider, "embedding_types")
        document |= {names[provider]: "float"} if provider in names else {plural: ["float"]}
    return document


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("client", NAMES)
def test_a_clients_request_becomes_the_providers(client: str, provider: str) -> None:
    request, shape = needed(client, provider), SHAPES[provider]
    encoded = [shape.encode_request(piece) for piece in split(request, shape.most_inputs)]
    assert len(encoded) == (2 if provider in ONE and client not in ONE else 1)
    assert json.loads(encoded[0].body) == golden_request(client, provider)
    lost = [Loss(LossKind.KNOB, "kind")] if provider in NO_KIND and request.kind is Purpose.QUERY else []
    assert list(encoded[0].losses) == lost


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("client", NAMES)
def test_a_providers_answer_becomes_the_clients(client: str, provider: str) -> None:
    request, shape = needed(client, provider), SHAPES[provider]
    inputs = len(request.inputs)
    replies = []
    for place, piece in enumerate(split(request, shape.most_inputs)):
        document = json.loads(json.dumps(REPLIES[provider]))
        only = {"embeddings", "data", "texts", "predictions"}
        if inputs == 1 and isinstance(document.get("embeddings"), dict):
            document["embeddings"]["float"] = document["embeddings"]["float"][:1]
        document = {
            name: value[:1] if name in only and inputs == 1 and isinstance(value, list) else value
            for name, value in document.items()
        }
        if provider in ONE and place == 1:  # the second call is for the second row
            second = REPLIES["ollama"]["embeddings"][1]
            document["embedding"] = {"values": second} if provider == "gemini_single" else second
            document |= {"embeddingsByType": {"float": second}} if provider == "titan_v2" else {}
        replies.append(shape.decode_reply(body_of(document), piece))
    reply = joined(replies)
    tokens = 7 * len(replies)
    assert reply.usage == Usage(tokens)

    encoded = SHAPES[client].encode_reply(reply, answering(request))
    again = SHAPES[client].decode_reply(encoded.body, request)
    assert (again.vectors, again.usage) == (reply.vectors, Usage(tokens))
    assert encoded.losses == ()
    if len(replies) == 1 and inputs == 2:
        expected = json.loads(json.dumps(REPLIES[client]))
        if client in ("bedrock_cohere_v3", "bedrock_cohere_v4") and request.forms:
            expected |= {"embeddings": {"float": expected["embeddings"]}, "response_type": "embeddings_by_type"}
        assert json.loads(encoded.body) == expected


@pytest.mark.parametrize("provider", NAMES)
def test_vectors_that_a_client_wants_packed_are_packed_by_us_where_the_provider_does_not(provider: str) -> None:
    client = SHAPES["openai"]
    request = client.decode_request(b'{"model":"m","input":["what","why"],"encoding_format":"base64"}')
    shape = SHAPES[provider]
    pieces = split(request, shape.most_inputs)
    sent = [shape.encode_request(piece) for piece in pieces]
    assert all(not encoded.losses for encoded in sent)
    plain = msgspec.structs.replace(request, forms=(Form(),))
    rows = REPLIES["ollama"]["embeddings"]
    told = joined(
        [
            SHAPES["ollama"].decode_reply(
                body_of({"embeddings": rows[place : place + 1] if len(pieces) > 1 else rows}), piece
            )
            for place, piece in enumerate(pieces)
        ]
    )
    answers = [
        shape.encode_reply(
            msgspec.structs.replace(
                told,
                vectors=tuple(
                    msgspec.structs.replace(vectors, rows=vectors.rows[place : place + 1])
                    if len(pieces) > 1
                    else vectors
                    for vectors in told.vectors
                ),
            ),
            answering(msgspec.structs.replace(plain, inputs=piece.inputs)),
        )
        for place, piece in enumerate(pieces)
    ]
    reply = joined([shape.decode_reply(answer.body, piece) for answer, piece in zip(answers, pieces, strict=True)])
    document = json.loads(client.encode_reply(reply, answering(request)).body)
    assert [item["embedding"] for item in document["data"]] == ["AAAAPwAAgL4AAABA", "AACAPwAAAAAAAGDA"]
