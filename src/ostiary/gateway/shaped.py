"""Embeddings and reranks between wire shapes: what a provider is sent, and the client's answer. It must not do I/O."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.snapshot import Deployment
from ostiary.core.usage import Usage
from ostiary.gateway.outbound import segment
from ostiary.gateway.translation import refuse_losses, unsayable
from ostiary.wire.conversation.unknown import Encoded, Loss
from ostiary.wire.embedding import shape as embedding_shape
from ostiary.wire.embedding.batching import joined, split
from ostiary.wire.embedding.pivot import EmbeddingRequest
from ostiary.wire.embedding.shapes import SHAPES as EMBEDDINGS
from ostiary.wire.rerank import shape as rerank_shape
from ostiary.wire.rerank.pivot import RerankRequest
from ostiary.wire.rerank.shapes import SHAPES as RERANKS


class Shaped(Protocol):
    """One attempt at one deployment in a shape that is not the client's.

    Attributes:
        path: below the deployment's base URL.
        bodies: what is sent, each in a call of its own.
        losses: what could not be said so far.
    """

    path: str
    bodies: list[bytes]
    losses: list[Loss]

    def reply(self, answers: list[bytes]) -> tuple[bytes, Usage | None]:
        """The client's answer for the provider's, and the usage they state.

        Raises:
            Fault: BAD_ANSWER where there is none, or none that the client's shape can say.
        """
        ...


class ShapedEmbedding:
    """See `Shaped`."""

    def __init__(
        self, client: str, target: Deployment, asked: EmbeddingRequest, answer_id: str, *, strict: bool
    ) -> None:
        self._client, self._provider = EMBEDDINGS[client], EMBEDDINGS[target.embedding]
        self._answering = embedding_shape.Answering(id=answer_id, model=asked.model, asked=asked)
        asked = msgspec.structs.replace(asked, model=target.upstream_model)
        self._pieces = split(asked, self._provider.most_inputs)
        encoded = [self._provider.encode_request(piece) for piece in self._pieces]
        self.path = self._provider.path(segment(target.upstream_model))
        self.bodies, self.losses = _told(encoded, strict=strict)

    def reply(self, answers: list[bytes]) -> tuple[bytes, Usage | None]:
        """See `Shaped`."""
        whole = joined([self._provider.decode_reply(*pair) for pair in zip(answers, self._pieces, strict=True)])
        try:
            encoded = self._client.encode_reply(whole, self._answering)
        except Fault as fault:
            raise unsayable(fault) from None
        self.losses += encoded.losses
        return encoded.body, whole.usage


class ShapedRerank:
    """See `Shaped`."""

    def __init__(self, client: str, target: Deployment, asked: RerankRequest, answer_id: str, *, strict: bool) -> None:
        self._client, self._provider = RERANKS[client], RERANKS[target.rerank]
        self._answering = rerank_shape.Answering(id=answer_id, model=asked.model, asked=asked)
        self._sent = msgspec.structs.replace(asked, model=target.upstream_model)
        self.path = self._provider.path(segment(target.upstream_model))
        self.bodies, self.losses = _told([self._provider.encode_request(self._sent)], strict=strict)

    def reply(self, answers: list[bytes]) -> tuple[bytes, Usage | None]:
        """See `Shaped`."""
        reply = self._provider.decode_reply(answers[0], self._sent)
        encoded = self._client.encode_reply(reply, self._answering)
        self.losses += encoded.losses
        return encoded.body, reply.usage


def shaped(shape: str, body: bytes, model: str, target: Deployment, answer_id: str, *, strict: bool) -> Shaped | None:
    """The translation of a request of this shape for a target; None where the target speaks it.

    Args:
        model: as the client knows it.

    Raises:
        Fault: the request is none, or cannot be said to this target; another may do.
    """
    if shape in EMBEDDINGS and target.embedding != shape:
        asked = msgspec.structs.replace(EMBEDDINGS[shape].decode_request(body), model=model)
        return ShapedEmbedding(shape, target, asked, answer_id, strict=strict)
    if shape in RERANKS and target.rerank != shape:
        wanted = msgspec.structs.replace(RERANKS[shape].decode_request(body), model=model)
        return ShapedRerank(shape, target, wanted, answer_id, strict=strict)
    return None


def _told(encoded: list[Encoded], *, strict: bool) -> tuple[list[bytes], list[Loss]]:
    losses = list(dict.fromkeys(loss for each in encoded for loss in each.losses))
    if strict:
        refuse_losses(losses)
    return [each.body for each in encoded], losses
