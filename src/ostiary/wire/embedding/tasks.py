"""The words with which Google's two shapes say what vectors are for. It must not know the shapes.

Source: official Python SDK google-genai 3.4 (`EmbedContentConfig.task_type`) and the discovery document of Vertex AI
(`EmbedContentRequest.taskType`).
"""

from __future__ import annotations

from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.embedding.pivot import Kind

KINDS = {
    "RETRIEVAL_QUERY": Kind.QUERY,
    "RETRIEVAL_DOCUMENT": Kind.DOCUMENT,
    "SEMANTIC_SIMILARITY": Kind.SIMILARITY,
    "CLASSIFICATION": Kind.CLASSIFICATION,
    "CLUSTERING": Kind.CLUSTERING,
    "QUESTION_ANSWERING": Kind.ANSWERING,
    "FACT_VERIFICATION": Kind.VERIFICATION,
    "CODE_RETRIEVAL_QUERY": Kind.CODE_QUERY,
}
# Code to be found has no word of its own: it is a document like any other.
TASKS = {kind: word for word, kind in KINDS.items()} | {Kind.CODE_DOCUMENT: "RETRIEVAL_DOCUMENT"}


def lost_task(kind: Kind | None) -> list[Loss]:
    """What these words do not say."""
    return [Loss(LossKind.KNOB, "kind")] if kind is Kind.CODE_DOCUMENT else []
