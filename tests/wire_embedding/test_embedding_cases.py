"""What travels between shapes of embeddings and what does not, case by case."""

from __future__ import annotations

import json
from typing import Any

import pytest
from embedding_kit import NAMES, PACKED, PNG, REPLIES, ROWS, answering, asked, body_of, outcome
from openai.types import CreateEmbeddingResponse

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.parts import Image, Inline
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind
from ostiary.wire.embedding.batching import split
from ostiary.wire.embedding.pivot import (
    Blend,
    Cut,
    EmbeddingReply,
    EmbeddingRequest,
    Form,
    Number,
    Purpose,
    Tokens,
    UnknownInput,
    Vectors,
    Words,
)
from ostiary.wire.embedding.shapes import SHAPES

ONE_TEXT = (Words("a"),)


def says(name: str, **members: Any) -> EmbeddingRequest:
    return SHAPES[name].decode_request(body_of({"model": "m", **members}))


def sent(name: str, request: EmbeddingRequest) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SHAPES[name].encode_request(request).body)
    return document


def takers(request: EmbeddingRequest) -> set[str]:
    """The shapes that can say a request."""
    told = {name: outcome(lambda: SHAPES[name].encode_request(request)) for name in NAMES}  # noqa: B023 - called at once
    assert all(isinstance(each, Encoded) or each.kind is Kind.INVALID_REQUEST for each in told.values())
    return {name for name, each in told.items() if isinstance(each, Encoded)}


def test_openais_four_ways_to_give_inputs() -> None:
    assert says("openai", input="a").inputs == (Words("a"),)
    assert says("openai", input=["a", "b"]).inputs == (Words("a"), Words("b"))
    assert says("openai", input=[1, 2]).inputs == (Tokens((1, 2)),)
    assert says("openai", input=[[1, 2], [3]]).inputs == (Tokens((1, 2)), Tokens((3,)))


@pytest.mark.parametrize("given", [None, 5, {}, ["a", 1], ["a", [1]], [[1], 2], [1.5], [None]])
def test_inputs_that_are_none_of_these_are_refused(given: Any) -> None:
    fault = outcome(lambda: says("openai", input=given))
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.param) == (Kind.INVALID_REQUEST, "input")


def test_tokens_go_nowhere_but_to_openais_shape() -> None:
    assert takers(says("openai", input=[1, 2])) == {"openai"}


def test_kinds_of_numbers_that_a_provider_must_make_itself_go_only_to_those_who_can() -> None:
    cohere = {"cohere", "bedrock_cohere_v3", "bedrock_cohere_v4"}
    assert takers(EmbeddingRequest(model="m", inputs=ONE_TEXT, forms=(Form(Number.INT8),))) == {*cohere, "voyage"}
    binary = EmbeddingRequest(model="m", inputs=ONE_TEXT, forms=(Form(Number.BINARY, packed=True),))
    assert takers(binary) == {*cohere, "voyage", "jina"}
    several = EmbeddingRequest(model="m", inputs=ONE_TEXT, forms=(Form(), Form(Number.INT8)))
    assert takers(several) == cohere


def test_the_length_of_vectors_is_a_constraint() -> None:
    request = EmbeddingRequest(model="m", inputs=ONE_TEXT, dimensions=3)
    assert set(NAMES) - takers(request) == {"titan_v1", "bedrock_cohere_v3"}


def test_images_go_to_those_who_see() -> None:
    image = Image(Inline("image/png", PNG))
    seeing = {"cohere", "bedrock_cohere_v3", "bedrock_cohere_v4", "jina", "gemini", "gemini_single"}
    assert takers(EmbeddingRequest(model="m", inputs=(image,))) == seeing
    mixed = EmbeddingRequest(model="m", inputs=(Blend((Words("a"), image)),))
    assert takers(mixed) == {"cohere", "bedrock_cohere_v4", "gemini", "gemini_single"}


def test_an_image_is_written_as_each_shape_takes_it() -> None:
    request = EmbeddingRequest(model="m", inputs=(Image(Inline("image/png", PNG)),))
    address = f"data:image/png;base64,{PNG}"
    cohere = sent("cohere", request)
    assert (cohere["images"], cohere["input_type"]) == ([address], "image")
    assert sent("jina", request)["input"] == [{"image": PNG}]
    part = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    assert sent("gemini_single", request)["content"] == {"parts": [part]}
    mixed = EmbeddingRequest(model="m", inputs=(Words("a"), *request.inputs))
    nested, bare = sent("cohere", mixed)["inputs"], sent("bedrock_cohere_v4", mixed)["inputs"]
    assert nested[1] == {"content": [{"type": "image_url", "image_url": {"url": address}}]}
    assert bare[1] == {"content": [{"type": "image_url", "image_url": address}]}
    assert nested[0] == bare[0] == {"content": [{"type": "text", "text": "a"}]}


def test_an_image_that_only_base64_tells_of_is_known_by_its_first_bytes() -> None:
    told = says("jina", input=[{"image": PNG}, {"image": "????"}, {"text": "a"}]).inputs
    assert told[0] == Image(Inline("image/png", PNG))
    assert isinstance(told[1], UnknownInput)
    assert told[2] == Words("a")


def test_what_vectors_are_for_is_always_said_to_cohere() -> None:
    plain = EmbeddingRequest(model="m", inputs=ONE_TEXT)
    assert sent("cohere", plain)["input_type"] == "search_document"
    encoded = SHAPES["cohere"].encode_request(says("jina", input="a", task="text-matching"))
    assert encoded.losses == (Loss(LossKind.KNOB, "kind"),)


def test_knobs_are_lost_and_told() -> None:
    request = EmbeddingRequest(model="m", inputs=ONE_TEXT, kind=Purpose.QUERY, cut=Cut.START, normalize=True, user="u")
    lost = {
        name: {loss.where for loss in SHAPES[name].encode_request(request).losses}
        for name in ("openai", "ollama", "jina")
    }
    assert lost == {
        "openai": {"kind", "cut", "normalize"},
        "ollama": {"kind", "cut", "normalize", "user"},
        "jina": {"cut", "user"},
    }


def test_a_batch_whose_requests_differ_keeps_each_as_it_was_and_goes_nowhere_else() -> None:
    document = {
        "requests": [
            {"model": "models/m", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 2},
            {"model": "models/m", "content": {"parts": [{"text": "b"}]}, "outputDimensionality": 3},
        ]
    }
    request = SHAPES["gemini"].decode_request(body_of(document))
    assert request.dimensions is None
    assert sent("gemini", request) == document
    assert takers(request) == {"gemini"}


def test_a_part_that_nobody_knows_goes_back_to_its_shape() -> None:
    part = {"fileData": {"fileUri": "files/1", "mimeType": "video/mp4"}}
    document = {"requests": [{"model": "models/m", "content": {"parts": [part]}}]}
    request = SHAPES["gemini"].decode_request(body_of(document))
    assert sent("gemini", request) == document
    assert takers(request) == {"gemini"}


def test_where_an_input_is_cut_has_other_words_in_each_generation() -> None:
    request = EmbeddingRequest(model="m", inputs=ONE_TEXT, cut=Cut.START)
    assert sent("bedrock_cohere_v3", request)["truncate"] == "START"
    assert sent("bedrock_cohere_v4", request)["truncate"] == "LEFT"


def test_one_input_a_call_is_as_many_calls() -> None:
    request = says("openai", input=["a", "b", "c"])
    bodies = [sent("titan_v2", piece)["inputText"] for piece in split(request, SHAPES["titan_v2"].most_inputs)]
    assert bodies == ["a", "b", "c"]
    assert takers(request).isdisjoint({"titan_v1", "titan_v2", "gemini_single"})


def test_base64_of_the_provider_reaches_the_client_untouched() -> None:
    request = says("openai", input=["what", "why"], encoding_format="base64")
    answer = {**REPLIES["openai"], "data": [{"index": index, "embedding": text} for index, text in enumerate(PACKED)]}
    reply = SHAPES["openai"].decode_reply(body_of(answer), request)
    assert reply.vectors == (Vectors(Number.FLOAT, tuple(PACKED)),)
    told = json.loads(SHAPES["openai"].encode_reply(reply, answering(request)).body)
    assert [item["embedding"] for item in told["data"]] == PACKED
    plain = json.loads(SHAPES["ollama"].encode_reply(reply, answering(request)).body)
    assert plain["embeddings"] == ROWS


def test_packed_small_numbers_are_unpacked_by_their_kind() -> None:
    request = says("voyage", input="a", output_dtype="int8", encoding_format="base64")
    answer = {"data": [{"index": 0, "embedding": "AQL9"}], "usage": {"total_tokens": 1}}
    reply = SHAPES["voyage"].decode_reply(body_of(answer), request)
    client = says("cohere", texts=["a"], embedding_types=["int8"])
    told = json.loads(SHAPES["cohere"].encode_reply(reply, answering(client)).body)
    assert told["embeddings"] == {"int8": [[1, 2, -3]]}


def test_several_kinds_of_numbers_are_answered_together() -> None:
    client = says("cohere", texts=["a"], embedding_types=["float", "base64", "ubinary"])
    vectors = (Vectors(Number.FLOAT, ((0.5, -0.25, 2.0),)), Vectors(Number.UBINARY, ((255, 1),)))
    body = SHAPES["cohere"].encode_reply(EmbeddingReply(vectors=vectors), answering(client)).body
    told = json.loads(body)
    assert told["embeddings"] == {"float": [ROWS[0]], "base64": [PACKED[0]], "ubinary": [[255, 1]]}
    assert "meta" not in told


def test_an_answer_without_the_form_asked_for_is_a_bad_answer() -> None:
    reply = EmbeddingReply(vectors=(Vectors(Number.INT8, ((1,),)),))
    fault = outcome(lambda: SHAPES["openai"].encode_reply(reply, answering(says("openai", input="a"))))
    assert isinstance(fault, Fault)
    assert fault.kind is Kind.BAD_ANSWER


def test_tokens_that_vertex_counts_by_instance_are_summed() -> None:
    predictions = [{"embeddings": {"values": row, "statistics": {"token_count": 3.0}}} for row in ROWS]
    reply = SHAPES["vertex"].decode_reply(body_of({"predictions": predictions}), asked(SHAPES["vertex"]))
    assert reply.usage is not None
    assert reply.usage.input == 6


def test_the_openai_sdk_takes_the_answer_strictly() -> None:
    request = says("cohere", texts=["what", "why"])
    reply = SHAPES["cohere"].decode_reply(body_of(REPLIES["cohere"]), request)
    body = SHAPES["openai"].encode_reply(reply, answering(says("openai", input=["what", "why"]))).body
    parsed = CreateEmbeddingResponse.model_validate_json(body, strict=True)
    assert [item.embedding for item in parsed.data] == ROWS
    assert parsed.model_extra == {}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("openai", "/embeddings"),
        ("cohere", "/v2/embed"),
        ("gemini", "/models/a.b:0:batchEmbedContents"),
        ("gemini_single", "/models/a.b:0:embedContent"),
        ("vertex", "/publishers/google/models/a.b:0:predict"),
        ("ollama", "/api/embed"),
        ("titan_v2", "/model/a.b%3A0/invoke"),
        ("bedrock_cohere_v4", "/model/a.b%3A0/invoke"),
    ],
)
def test_where_a_provider_takes_it(name: str, path: str) -> None:
    assert SHAPES[name].path("a.b:0") == path
