"""One request and one answer, as each shape writes them; by hand, after the sources that the shapes name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from ostiary.core.fault import Fault
from ostiary.wire.rerank.pivot import Passage, Record, RerankRequest
from ostiary.wire.rerank.shape import Answering, Shape
from ostiary.wire.rerank.shapes import SHAPES

_T = TypeVar("_T")
NAMES = list(SHAPES)
TEXTS = ["a hen", "a fox", "an egg"]

# Which two of three texts are about foxes?
REQUESTS: dict[str, dict[str, Any]] = {
    "cohere_v1": {"model": "m", "query": "foxes", "documents": TEXTS, "top_n": 2},
    "cohere_v2": {"model": "m", "query": "foxes", "documents": TEXTS, "top_n": 2},
    "jina": {"model": "m", "query": "foxes", "documents": TEXTS, "top_n": 2},
    "voyage": {"model": "m", "query": "foxes", "documents": TEXTS, "top_k": 2},
    "bedrock": {
        "queries": [{"type": "TEXT", "textQuery": {"text": "foxes"}}],
        "sources": [
            {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}}}
            for text in TEXTS
        ],
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": "m"}, "numberOfResults": 2},
        },
    },
    "vertex": {
        "model": "m",
        "query": "foxes",
        "records": [{"id": str(place), "content": text} for place, text in enumerate(TEXTS)],
        "topN": 2,
    },
}

_SCORES = [(1, 0.75), (0, 0.25)]
_RESULTS = [{"index": index, "relevance_score": score} for index, score in _SCORES]
# The fox before the hen.
REPLIES: dict[str, dict[str, Any]] = {
    "cohere_v1": {"id": "id-1", "results": _RESULTS, "meta": {"billed_units": {"search_units": 1}}},
    "cohere_v2": {"id": "id-1", "results": _RESULTS, "meta": {"billed_units": {"search_units": 1}}},
    "jina": {
        "model": "m",
        "usage": {"total_tokens": 9},
        "results": [{**result, "document": {"text": TEXTS[int(result["index"])]}} for result in _RESULTS],
    },
    "voyage": {"object": "list", "data": _RESULTS, "model": "m", "usage": {"total_tokens": 9}},
    "bedrock": {"results": [{"index": index, "relevanceScore": score} for index, score in _SCORES]},
    "vertex": {"records": [{"id": str(index), "content": TEXTS[index], "score": score} for index, score in _SCORES]},
}


def body_of(document: Any) -> bytes:
    return json.dumps(document).encode()


def asked(shape: Shape) -> RerankRequest:
    """What the request above asks for."""
    return shape.decode_request(body_of(REQUESTS[shape.name]))


def answering(request: RerankRequest) -> Answering:
    return Answering(id="id-1", model="m", asked=request)


def outcome(call: Callable[[], _T]) -> _T | Fault:
    """What a call gives, or the fault it ends in."""
    try:
        return call()
    except Fault as fault:
        return fault


_SAID = st.text(max_size=5)
_RECORDS = st.dictionaries(st.sampled_from(["a", "b", "text"]), _SAID, min_size=2, max_size=2).map(
    lambda value: Record(msgspec.Raw(msgspec.json.encode(value)))
)
_PASSAGES = st.builds(Passage, _SAID) | st.builds(Passage, _SAID, title=_SAID)
PIVOTS = st.builds(
    RerankRequest,
    model=st.sampled_from(["m", "arn:aws:bedrock:eu-west-1::foundation-model/x"]),
    query=_SAID,
    documents=st.lists(_PASSAGES | _PASSAGES | _RECORDS, max_size=3).map(tuple),
    top=st.none() | st.integers(1, 9),
    return_documents=st.none() | st.booleans(),
    truncate=st.none() | st.booleans(),
    max_tokens=st.none() | st.integers(1, 9),
)
