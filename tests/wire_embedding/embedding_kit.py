"""One request and one answer, as each shape writes them; by hand, after the sources that the shapes name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
from ostiary.wire.conversation.parts import Image, Inline, Link
from ostiary.wire.conversation.unknown import LossKind
from ostiary.wire.embedding.pivot import (
    Blend,
    Cut,
    EmbeddingReply,
    EmbeddingRequest,
    Form,
    Number,
    Purpose,
    Tokens,
    Vectors,
    Words,
)
from ostiary.wire.embedding.shape import Answering, Shape
from ostiary.wire.embedding.shapes import SHAPES

_T = TypeVar("_T")
NAMES = list(SHAPES)
IN_PATH = {"gemini", "gemini_single", "vertex", "titan_v1", "titan_v2", "bedrock_cohere_v3", "bedrock_cohere_v4"}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
# 0.5, -0.25, 2.0 and 1.0, 0.0, -3.5 as float32 with the least byte first
PACKED = ["AAAAPwAAgL4AAABA", "AACAPwAAAAAAAGDA"]
ROWS = [[0.5, -0.25, 2.0], [1.0, 0.0, -3.5]]


# "what" and "why" to be searched with, and three numbers for each.
REQUESTS: dict[str, dict[str, Any]] = {
    "openai": {"model": "m", "input": ["what", "why"], "dimensions": 3},
    "cohere": {
        "model": "m",
        "texts": ["what", "why"],
        "input_type": "search_query",
        "output_dimension": 3,
        "embedding_types": ["float"],
    },
    "gemini": {
        "requests": [
            {
                "model": "models/m",
                "content": {"parts": [{"text": text}]},
                "taskType": "RETRIEVAL_QUERY",
                "outputDimensionality": 3,
            }
            for text in ("what", "why")
        ]
    },
    "gemini_single": {
        "model": "models/m",
        "content": {"parts": [{"text": "what"}]},
        "taskType": "RETRIEVAL_QUERY",
        "outputDimensionality": 3,
    },
    "vertex": {
        "instances": [
            {"content": "what", "task_type": "RETRIEVAL_QUERY"},
            {"content": "why", "task_type": "RETRIEVAL_QUERY"},
        ],
        "parameters": {"outputDimensionality": 3},
    },
    "voyage": {"model": "m", "input": ["what", "why"], "input_type": "query", "output_dimension": 3},
    "jina": {"model": "m", "input": ["what", "why"], "task": "retrieval.query", "dimensions": 3},
    "ollama": {"model": "m", "input": ["what", "why"], "dimensions": 3},
    "titan_v1": {"inputText": "what"},
    "titan_v2": {"inputText": "what", "dimensions": 3},
    "bedrock_cohere_v3": {"texts": ["what", "why"], "input_type": "search_query"},
    "bedrock_cohere_v4": {"texts": ["what", "why"], "input_type": "search_query", "output_dimension": 3},
}


def _list(usage: dict[str, int]) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(ROWS)],
        "model": "m",
        "usage": usage,
    }


_USE = {"promptTokenCount": 7, "totalTokenCount": 7}
# Seven tokens in, and the rows above.
REPLIES: dict[str, dict[str, Any]] = {
    "openai": _list({"prompt_tokens": 7, "total_tokens": 7}),
    "cohere": {
        "response_type": "embeddings_by_type",
        "id": "id-1",
        "embeddings": {"float": ROWS},
        "texts": ["what", "why"],
        "meta": {"billed_units": {"input_tokens": 7}},
    },
    "gemini": {"embeddings": [{"values": row} for row in ROWS], "usageMetadata": _USE},
    "gemini_single": {"embedding": {"values": ROWS[0]}, "usageMetadata": _USE},
    "vertex": {"predictions": [{"embeddings": {"values": row}} for row in ROWS], "usageMetadata": _USE},
    "voyage": _list({"total_tokens": 7}),
    "jina": _list({"total_tokens": 7, "prompt_tokens": 7}),
    "ollama": {"model": "m", "embeddings": ROWS, "prompt_eval_count": 7},
    "titan_v1": {"embedding": ROWS[0], "inputTextTokenCount": 7},
    "titan_v2": {"embedding": ROWS[0], "embeddingsByType": {"float": ROWS[0]}, "inputTextTokenCount": 7},
    "bedrock_cohere_v3": {
        "response_type": "embeddings_floats",
        "id": "id-1",
        "embeddings": ROWS,
        "texts": ["what", "why"],
        "meta": {"billed_units": {"input_tokens": 7}},
    },
    "bedrock_cohere_v4": {
        "response_type": "embeddings_floats",
        "id": "id-1",
        "embeddings": ROWS,
        "texts": ["what", "why"],
        "meta": {"billed_units": {"input_tokens": 7}},
    },
}


def body_of(document: Any) -> bytes:
    return json.dumps(document).encode()


def asked(shape: Shape) -> EmbeddingRequest:
    """What the request above asks for."""
    return shape.decode_request(body_of(REQUESTS[shape.name]))


def answering(request: EmbeddingRequest) -> Answering:
    return Answering(id="id-1", model="m", asked=request)


def outcome(call: Callable[[], _T]) -> _T | Fault:
    """What a call gives, or the fault it ends in."""
    try:
        return call()
    except Fault as fault:
        return fault


_TEXTS = st.text(max_size=5)
_IMAGES = st.sampled_from([Image(Inline("image/png", PNG)), Image(Link("https://example.com/a.png"))])
_WORDS = st.builds(Words, _TEXTS)
INPUTS = st.one_of(
    _WORDS,
    _WORDS,
    st.builds(Words, _TEXTS, title=_TEXTS),
    st.builds(Tokens, st.lists(st.integers(0, 200_000), min_size=1, max_size=3).map(tuple)),
    _IMAGES,
    st.lists(_WORDS | _IMAGES, min_size=2, max_size=3).map(tuple).map(Blend),
)


def _maybe(strategy: Any) -> Any:
    return st.none() | strategy


_ALIKE = st.one_of(
    st.lists(_WORDS, min_size=1, max_size=3),
    st.lists(_IMAGES, min_size=1, max_size=2),
    st.lists(INPUTS, min_size=1, max_size=3),
)
PIVOTS = st.builds(
    EmbeddingRequest,
    model=st.sampled_from(["m", "org/m-1"]),
    inputs=_ALIKE.map(tuple),
    dimensions=_maybe(st.integers(1, 4096)),
    kind=_maybe(st.sampled_from(list(Purpose))),
    forms=st.lists(st.builds(Form, st.sampled_from(list(Number)), st.booleans()), max_size=2, unique=True).map(tuple),
    cut=_maybe(st.sampled_from(list(Cut))),
    normalize=_maybe(st.booleans()),
    user=_maybe(_TEXTS),
)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
DEFECTS = (Kind.MALFORMED, Kind.INVALID_REQUEST)
KNOB, MARK = LossKind.KNOB, LossKind.MARK


def reply_of(rows: list[tuple[float, ...]], usage: int | None = None) -> EmbeddingReply:
    return EmbeddingReply(
        vectors=(Vectors(Number.FLOAT, tuple(rows)),), usage=None if usage is None else Usage(usage), model="m"
    )
