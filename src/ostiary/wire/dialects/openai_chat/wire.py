"""The shapes this dialect adds to the route table. It must not say how they are served."""

from __future__ import annotations

from ostiary.core.operation import Endpoint, Operation

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("chat.completions", Operation.CHAT, "POST", "/chat/completions", streams=True),
    Endpoint("completions", Operation.COMPLETION, "POST", "/completions", mode="completion", streams=True),
    Endpoint("embeddings", Operation.EMBEDDING, "POST", "/embeddings", mode="embedding"),
)
