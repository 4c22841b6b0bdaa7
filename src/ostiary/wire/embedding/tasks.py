"""The words with which Google's two shapes say what vectors are for. It must not know the shapes.

Source: official Python SDK google-genai 3.4 (`EmbedContentConfig.task_type`) and the discovery document of Vertex AI
(`EmbedContentRequest.taskType`).
"""

from __future__ import annotations

from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.embedding.pivot import Purpose

KINDS = {
    "RETRIEVAL_QUERY": Purpose.QUERY,
    "RETRIEVAL_DOCUMENT": Purpose.DOCUMENT,
    "SEMANTIC_SIMILARITY": Purpose.SIMILARITY,
    "CLASSIFICATION": Purpose.CLASSIFICATION,
    "CLUSTERING": Purpose.CLUSTERING,
    "QUESTION_ANSWERING": Purpose.ANSWERING,
    "FACT_VERIFICATION": Purpose.VERIFICATION,
    "CODE_RETRIEVAL_QUERY": Purpose.CODE_QUERY,
}
# Code to be found has no word of its own: it is a document like any other.
TASKS = {kind: word for word, kind in KINDS.items()} | {Purpose.CODE_DOCUMENT: "RETRIEVAL_DOCUMENT"}


def lost_task(kind: Purpose | None) -> list[Loss]:
    """What these words do not say."""
    return [Loss(LossKind.KNOB, "kind")] if kind is Purpose.CODE_DOCUMENT else []
