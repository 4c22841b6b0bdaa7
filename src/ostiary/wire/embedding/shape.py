"""What every wire shape of embeddings offers: its codec as a row of functions. It must not know any shape by name.

All of it is pure, and blind to the side it serves: `decode_request` reads what a client sends, `encode_request` writes
what a provider is sent, `decode_reply` reads a provider's answer, `encode_reply` writes a client's.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.unknown import Encoded
from ostiary.wire.embedding.pivot import EmbeddingReply, EmbeddingRequest


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer to a client needs beside the provider's words: an id of letters, digits and hyphens, the model as
    the client knows it, and the client's request."""

    id: str
    model: str
    asked: EmbeddingRequest


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One wire shape.

    Attributes:
        name: as in `Extra.said_by`.
        path: where a provider takes a request, below its base URL; from the upstream model.
        decode_request: the request of a body; its `model` is empty where the path says it. Raises `Fault`: MALFORMED
            for what is no JSON object, INVALID_REQUEST for inputs that are none.
        encode_request: the body for a request. Raises `Fault` INVALID_REQUEST for what cannot be said.
        decode_reply: the reply of a body, to the request that was sent. Raises `Fault` BAD_ANSWER, also where it has
            not one vector for each input.
        encode_reply: the body for a client. Raises `Fault` BAD_ANSWER where a form that was asked for is not there.
        usage_of: what an answer's body states of its use, None where nothing; raises BAD_ANSWER for what is no object.
        most_inputs: how many inputs one call takes; None where no limit is documented.
    """

    name: str
    path: Callable[[str], str]
    decode_request: Callable[[bytes], EmbeddingRequest]
    encode_request: Callable[[EmbeddingRequest], Encoded]
    decode_reply: Callable[[bytes, EmbeddingRequest], EmbeddingReply]
    encode_reply: Callable[[EmbeddingReply, Answering], Encoded]
    usage_of: Callable[[bytes], Usage | None]
    most_inputs: int | None = None
