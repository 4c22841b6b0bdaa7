"""Any client's reranking over any provider; nothing is lost unsaid, and rubbish is a fault."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rerank_kit import NAMES, PIVOTS, REPLIES, REQUESTS, TEXTS, answering, asked, body_of, outcome

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.rerank.pivot import Passage, RerankReply, RerankRequest, Result
from ostiary.wire.rerank.shapes import SHAPES

SHAPE_NAMES = st.sampled_from(NAMES)
COUNTS_TOKENS = {"jina", "voyage"}
COUNTS_SEARCHES = {"cohere_v1", "cohere_v2"}


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("client", NAMES)
def test_a_clients_request_becomes_the_providers(client: str, provider: str) -> None:
    encoded = SHAPES[provider].encode_request(asked(SHAPES[client]))
    assert json.loads(encoded.body) == REQUESTS[provider]
    assert encoded.losses == ()


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("client", NAMES)
def test_a_providers_answer_becomes_the_clients(client: str, provider: str) -> None:
    request = asked(SHAPES[client])
    reply = SHAPES[provider].decode_reply(body_of(REPLIES[provider]), request)
    encoded = SHAPES[client].encode_reply(reply, answering(request))
    expected = json.loads(json.dumps(REPLIES[client]))
    if client in COUNTS_SEARCHES and provider not in COUNTS_SEARCHES:
        expected.pop("meta")
        if provider in COUNTS_TOKENS:
            expected["meta"] = {"billed_units": {"input_tokens": 9}}
    if client in COUNTS_TOKENS and provider not in COUNTS_TOKENS:
        expected["usage"] = {"total_tokens": 0}
    assert json.loads(encoded.body) == expected
    assert encoded.losses == ()


def test_tokens_and_searches_are_read_from_bodies_too() -> None:
    for name in NAMES:
        body = body_of(REPLIES[name])
        assert SHAPES[name].usage_of(body) == (Usage(9) if name in COUNTS_TOKENS else None)
        assert SHAPES[name].units_of(body) == (1 if name in COUNTS_SEARCHES else None)


def less(request: RerankRequest, name: str, lost: set[str]) -> RerankRequest:
    """What is left of a request once it passed a shape; the documents that are wanted back are ours to give."""
    documents = tuple(
        msgspec.structs.replace(each, title=None)
        if isinstance(each, Passage) and f"documents.{place}.title" in lost
        else each
        for place, each in enumerate(request.documents)
    )
    return msgspec.structs.replace(
        request,
        documents=documents,
        return_documents=None if name in ("cohere_v2", "bedrock") else request.return_documents,
        truncate=None if "truncate" in lost else request.truncate,
        max_tokens=None if "max_tokens" in lost else request.max_tokens,
    )


@given(name=SHAPE_NAMES, request=PIVOTS)
def test_a_request_comes_back_less_what_is_said_to_be_lost(name: str, request: RerankRequest) -> None:
    encoded = outcome(lambda: SHAPES[name].encode_request(request))
    if isinstance(encoded, Fault):
        assert (encoded.kind, encoded.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)
        assert encoded.param is not None
        assert encoded.param.startswith("documents.")
        assert name not in ("cohere_v1", "bedrock")
        return
    lost = {loss.where for loss in encoded.losses}
    assert SHAPES[name].decode_request(encoded.body) == less(request, name, lost)


@pytest.mark.parametrize("name", NAMES)
def test_every_member_of_a_request_and_an_answer_comes_back(name: str) -> None:
    document = {**REQUESTS[name], "x_new": {"deep": [1, None]}, "größe": 2.5}
    encoded = SHAPES[name].encode_request(SHAPES[name].decode_request(body_of(document)))
    assert json.loads(encoded.body) == document
    answer = {**REPLIES[name], "x_new": {"deep": [1, None]}}
    request = asked(SHAPES[name])
    reply = SHAPES[name].decode_reply(body_of(answer), request)
    assert json.loads(SHAPES[name].encode_reply(reply, answering(request)).body) == answer


@given(name=SHAPE_NAMES, scores=st.lists(st.floats(-1, 1), max_size=3), order=st.permutations([0, 1, 2]))
def test_scores_pass_every_shape_in_their_order(name: str, scores: list[float], order: list[int]) -> None:
    request = asked(SHAPES[name])
    results = tuple(Result(place, score) for place, score in zip(order, scores, strict=False))
    body = SHAPES[name].encode_reply(RerankReply(results=results), answering(request)).body
    assert SHAPES[name].decode_reply(body, request).results == results


@pytest.mark.parametrize("provider", NAMES)
def test_documents_that_a_client_wants_back_are_the_requests(provider: str) -> None:
    client = SHAPES["cohere_v1"]
    document = {"model": "m", "query": "foxes", "documents": [*TEXTS[:2], {"text": "an egg"}], "return_documents": True}
    request = client.decode_request(body_of(document))
    reply = SHAPES[provider].decode_reply(body_of(REPLIES[provider]), request)
    told = json.loads(client.encode_reply(reply, answering(request)).body)
    assert [result["document"] for result in told["results"]] == [{"text": "a fox"}, {"text": "a hen"}]


def test_what_is_wanted_back_is_no_loss_and_no_refusal() -> None:
    request = msgspec.structs.replace(asked(SHAPES["cohere_v1"]), return_documents=True)
    for shape in SHAPES.values():
        assert shape.encode_request(request).losses == ()


def test_an_object_of_named_values_goes_only_where_objects_are_taken() -> None:
    document = {"model": "m", "query": "q", "documents": [{"title": "a", "body": "b"}]}
    request = SHAPES["cohere_v1"].decode_request(body_of(document))
    taken = {name for name in NAMES if not isinstance(outcome(lambda: SHAPES[name].encode_request(request)), Fault)}  # noqa: B023 - called at once
    assert taken == {"cohere_v1", "bedrock"}
    source = json.loads(SHAPES["bedrock"].encode_request(request).body)["sources"][0]["inlineDocumentSource"]
    assert source == {"type": "JSON", "jsonDocument": {"title": "a", "body": "b"}}


def test_fields_to_rank_by_are_a_constraint() -> None:
    body = body_of({"model": "m", "query": "q", "documents": ["a"], "rank_fields": ["title"]})
    request = SHAPES["cohere_v1"].decode_request(body)
    fault = outcome(lambda: SHAPES["voyage"].encode_request(request))
    assert isinstance(fault, Fault)
    assert fault.param == "rank_fields"


def test_knobs_of_others_are_declared_lost() -> None:
    body = body_of({"model": "m", "query": "q", "documents": ["a"], "max_tokens_per_doc": 5, "priority": 3})
    encoded = SHAPES["jina"].encode_request(SHAPES["cohere_v2"].decode_request(body))
    assert set(encoded.losses) == {Loss(LossKind.KNOB, "max_tokens"), Loss(LossKind.UNKNOWN, "priority")}


def test_spans_that_a_provider_found_come_back_to_its_own_clients_and_are_lost_to_others() -> None:
    spans = [{"start": 0, "end": 3, "score": 0.5}]
    answer = {"results": [{"index": 0, "relevance_score": 0.5, "relevant_spans": spans}]}
    request = asked(SHAPES["cohere_v2"])
    reply = SHAPES["cohere_v2"].decode_reply(body_of(answer), request)
    own = json.loads(SHAPES["cohere_v2"].encode_reply(reply, answering(request)).body)
    assert own["results"] == answer["results"]
    other = SHAPES["voyage"].encode_reply(reply, answering(request))
    assert other.losses == (Loss(LossKind.UNKNOWN, "results.0.relevant_spans"),)


def test_records_keep_the_ids_of_the_client_who_named_them() -> None:
    document = {"query": "q", "records": [{"id": "hen", "content": "a hen"}, {"id": "fox", "content": "a fox"}]}
    shape = SHAPES["vertex"]
    request = shape.decode_request(body_of(document))
    assert json.loads(shape.encode_request(request).body) == document
    reply = SHAPES["cohere_v2"].decode_reply(body_of(REPLIES["cohere_v2"]), request)
    told = json.loads(shape.encode_reply(reply, answering(request)).body)
    assert [record["id"] for record in told["records"]] == ["fox", "hen"]


@pytest.mark.parametrize("results", [[(3, 0.5)], [(-1, 0.5)], [(0, 0.5), (0, 0.25)]])
@pytest.mark.parametrize("name", NAMES)
def test_results_of_documents_that_were_not_given_are_a_bad_answer(name: str, results: list[tuple[int, float]]) -> None:
    answers = {
        "bedrock": {"results": [{"index": index, "relevanceScore": score} for index, score in results]},
        "vertex": {"records": [{"id": str(index), "score": score} for index, score in results]},
    }
    listed = [{"index": index, "relevance_score": score} for index, score in results]
    answer = answers.get(name, {"data": listed, "results": listed})
    with pytest.raises(Fault) as caught:
        SHAPES[name].decode_reply(body_of(answer), asked(SHAPES[name]))
    assert (caught.value.kind, caught.value.retry) == (Kind.BAD_ANSWER, Retry.NEXT)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _replaced(document: Any, data: st.DataObject) -> Any:
    """A document with something in it replaced by anything."""
    if isinstance(document, dict) and document and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(document)))
        return {**document, name: _replaced(document[name], data)}
    if isinstance(document, list) and document and data.draw(st.booleans()):
        return [_replaced(document[0], data), *document[1:]]
    return data.draw(_JSON)


def _survives(name: str, body: bytes) -> None:
    shape, request = SHAPES[name], asked(SHAPES[name])
    decoded = outcome(lambda: shape.decode_request(body))
    if isinstance(decoded, Fault):
        assert decoded.kind in (Kind.MALFORMED, Kind.INVALID_REQUEST)
    else:
        assert shape.decode_request(shape.encode_request(decoded).body) == decoded
    told = (outcome(lambda: shape.decode_reply(body, request)), outcome(lambda: shape.usage_of(body)))
    assert all(not isinstance(each, Fault) or each.kind is Kind.BAD_ANSWER for each in told)
    units = outcome(lambda: shape.units_of(body))
    assert not isinstance(units, Fault) or units.kind is Kind.BAD_ANSWER


@given(name=SHAPE_NAMES, body=st.binary(max_size=40))
def test_any_bytes_give_a_value_or_a_fault(name: str, body: bytes) -> None:
    _survives(name, body)


@given(name=SHAPE_NAMES, data=st.data())
def test_any_document_gives_a_value_or_a_fault(name: str, data: st.DataObject) -> None:
    golden = data.draw(st.sampled_from([REQUESTS[name], REPLIES[name]]))
    _survives(name, body_of(_replaced(golden, data)).replace(b"Infinity", b"1"))
