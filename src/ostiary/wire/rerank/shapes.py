"""All wire shapes of reranking, by name. It must not say which provider speaks which."""

from __future__ import annotations

from ostiary.wire.rerank import bedrock, cohere, jina_voyage, vertex
from ostiary.wire.rerank.shape import Shape

SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        cohere.SHAPE_V1,
        cohere.SHAPE_V2,
        jina_voyage.SHAPE_JINA,
        jina_voyage.SHAPE_VOYAGE,
        bedrock.SHAPE,
        vertex.SHAPE,
    )
}
