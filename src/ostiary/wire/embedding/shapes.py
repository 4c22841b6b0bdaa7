"""All wire shapes of embeddings, by name. It must not say which provider speaks which."""

from __future__ import annotations

from ostiary.wire.embedding import bedrock_cohere, cohere, gemini, jina, ollama, openai, titan, vertex, voyage
from ostiary.wire.embedding.shape import Shape

SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        openai.SHAPE,
        cohere.SHAPE,
        gemini.SHAPE,
        gemini.SHAPE_SINGLE,
        vertex.SHAPE,
        voyage.SHAPE,
        jina.SHAPE,
        ollama.SHAPE,
        titan.SHAPE_V1,
        titan.SHAPE_V2,
        bedrock_cohere.SHAPE_V3,
        bedrock_cohere.SHAPE_V4,
    )
}
