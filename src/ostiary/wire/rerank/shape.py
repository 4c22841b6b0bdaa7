"""What every wire shape of reranking offers: its codec as a row of functions. It must not know any shape by name.

All of it is pure, and blind to the side it serves: `decode_request` reads what a client sends, `encode_request` writes
what a provider is sent, `decode_reply` reads a provider's answer, `encode_reply` writes a client's.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.unknown import Encoded
from ostiary.wire.rerank.pivot import RerankReply, RerankRequest


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer to a client needs beside the provider's words: an id of letters, digits and hyphens, the model as
    the client knows it, and the client's request."""

    id: str
    model: str
    asked: RerankRequest


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One wire shape.

    Attributes:
        name: as in `Extra.said_by`.
        path: where a provider takes a request, below its base URL; from the upstream model.
        decode_request: the request of a body. Raises `Fault`: MALFORMED for what is no JSON object, INVALID_REQUEST
            where there is no query or no list of documents.
        encode_request: the body for a request. Raises `Fault` INVALID_REQUEST for what cannot be said. That documents
            are wanted back need not be: they are the request's, and written by `encode_reply`.
        decode_reply: the reply of a body, to the request that was sent. Raises `Fault` BAD_ANSWER, also for results
            of documents that were not in it.
        encode_reply: the body for a client.
        usage_of: what an answer's body states of its tokens, None where nothing; raises BAD_ANSWER for what is no
            object.
        units_of: the same of searches.
        most_documents: how many documents one call takes; None where no limit is documented. Scores of one call do
            not compare with those of another, so a request is never taken apart.
    """

    name: str
    path: Callable[[str], str]
    decode_request: Callable[[bytes], RerankRequest]
    encode_request: Callable[[RerankRequest], Encoded]
    decode_reply: Callable[[bytes, RerankRequest], RerankReply]
    encode_reply: Callable[[RerankReply, Answering], Encoded]
    usage_of: Callable[[bytes], Usage | None]
    units_of: Callable[[bytes], int | float | None]
    most_documents: int | None = None
