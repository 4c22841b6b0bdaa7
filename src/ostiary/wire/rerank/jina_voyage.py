"""Reranking as Jina's and Voyage's interfaces say it: they bill tokens. It must not judge values: what it does not know
is kept as it came.

Source of Voyage's: official Python SDK voyageai 0.5 (`Client.rerank`, `RerankingObject`) and Voyage's API reference
(a thousand documents at most). Source of Jina's: its API documentation for the reranker and requests written after it
(there is no official SDK of it); it repeats documents unless told not to.
"""

from __future__ import annotations

from typing import Any

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Encoded, losses_of
from ostiary.wire.rerank.fields import (
    BINDING,
    FLAG,
    INTEGER,
    RAWS,
    STRING,
    as_object,
    lost,
    read_results,
    reply_members,
    request_members,
    say_documents,
    say_result,
    take_count,
    take_documents,
    take_query,
    used,
    written,
)
from ostiary.wire.rerank.pivot import Document, Passage, RerankReply, RerankRequest
from ostiary.wire.rerank.shape import Answering, Shape

JINA, VOYAGE = "jina", "voyage"
_TOP = {JINA: "top_n", VOYAGE: "top_k"}
_RESULTS = {JINA: "results", VOYAGE: "data"}


def _decode_request(body: bytes, name: str) -> RerankRequest:
    members = request_members(body)
    return RerankRequest(
        model=members.take("model", STRING) or "",
        query=take_query(members),
        documents=take_documents(members, name),
        top=members.take(_TOP[name], INTEGER),
        return_documents=members.take("return_documents", FLAG),
        truncate=members.take("truncation", FLAG) if name == VOYAGE else None,
        rest=members.rest(name, BINDING),
    )


def _encode_request(request: RerankRequest, name: str) -> Encoded:
    losses = lost(request, name, "max_tokens", *(("truncate",) if name == JINA else ()))
    document = {
        "model": request.model or None,
        "query": request.query,
        "documents": say_documents(request, name, losses),
        _TOP[name]: request.top,
        "return_documents": request.return_documents,
        "truncation": request.truncate if name == VOYAGE else None,
    }
    return written(document, request.rest, name, losses)


def _use(members: Members) -> Usage | None:
    inner = members.inside("usage")
    total, into = take_count(inner, "total_tokens"), take_count(inner, "prompt_tokens")
    return used(total if total is not None else into)


def _decode_reply(body: bytes, asked: RerankRequest, name: str) -> RerankReply:
    members = reply_members(body)
    results = read_results(members.take(_RESULTS[name], RAWS), asked, name)
    if name == VOYAGE:
        members.take("object", STRING)
    usage, model = _use(members), members.take("model", STRING) or ""
    return RerankReply(results=results, usage=usage, model=model, rest=members.rest(name))


def _encode_reply(reply: RerankReply, answering: Answering, name: str) -> Encoded:
    """The use is required by clients, so it is zero where nobody stated it."""
    losses = losses_of(reply.rest, name, "")
    asked = answering.asked
    repeat = asked.return_documents is True or (name == JINA and asked.return_documents is None)
    results = [
        say_result(each, name, losses, _repeated(asked.documents[each.index], name) if repeat else None)
        for each in reply.results
    ]
    count = reply.usage.input if reply.usage is not None else 0
    document = {
        "object": "list" if name == VOYAGE else None,
        _RESULTS[name]: results,
        "model": answering.model,
        "usage": {"total_tokens": count},
    }
    return written(document, reply.rest, name, losses)


def _repeated(document: Document, name: str) -> Any:
    return document.text if name == VOYAGE and isinstance(document, Passage) else as_object(document)


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its tokens."""
    return _use(reply_members(body))


def units_of(body: bytes) -> int | float | None:
    """Searches are not billed as such."""
    reply_members(body)
    return None


SHAPE_JINA = Shape(
    name=JINA,
    path=lambda _: "/rerank",
    decode_request=lambda body: _decode_request(body, JINA),
    encode_request=lambda request: _encode_request(request, JINA),
    decode_reply=lambda body, asked: _decode_reply(body, asked, JINA),
    encode_reply=lambda reply, answering: _encode_reply(reply, answering, JINA),
    usage_of=usage_of,
    units_of=units_of,
)
SHAPE_VOYAGE = Shape(
    name=VOYAGE,
    path=lambda _: "/rerank",
    decode_request=lambda body: _decode_request(body, VOYAGE),
    encode_request=lambda request: _encode_request(request, VOYAGE),
    decode_reply=lambda body, asked: _decode_reply(body, asked, VOYAGE),
    encode_reply=lambda reply, answering: _encode_reply(reply, answering, VOYAGE),
    usage_of=usage_of,
    units_of=units_of,
    most_documents=1000,
)
