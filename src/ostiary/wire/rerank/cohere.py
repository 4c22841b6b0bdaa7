"""Reranking as Cohere's two interfaces say it. It must not judge values: what it does not know is kept as it came.

Source: official Python SDK cohere 7.3 (`raw_base_client.rerank` for POST /v1/rerank, `v2.raw_client.rerank` for
POST /v2/rerank; `RerankResponse`, `V2RerankResponse`, `ApiMeta`). The first takes objects as documents and repeats
documents; the second takes texts alone and repeats none. A thousand documents are recommended at most, not required.
"""

from __future__ import annotations

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
from ostiary.wire.rerank.pivot import RerankReply, RerankRequest
from ostiary.wire.rerank.shape import Answering, Shape

FIRST, SECOND = "cohere_v1", "cohere_v2"


def _decode_request(body: bytes, name: str) -> RerankRequest:
    members = request_members(body)
    first = name == FIRST
    return RerankRequest(
        model=members.take("model", STRING) or "",
        query=take_query(members),
        documents=take_documents(members, name, records=first),
        top=members.take("top_n", INTEGER),
        return_documents=members.take("return_documents", FLAG) if first else None,
        max_tokens=None if first else members.take("max_tokens_per_doc", INTEGER),
        rest=members.rest(name, BINDING),
    )


def _encode_request(request: RerankRequest, name: str) -> Encoded:
    losses = lost(request, name, "truncate", *(("max_tokens",) if name == FIRST else ()))
    document = {
        "model": request.model or None,
        "query": request.query,
        "documents": say_documents(request, name, losses, records=name == FIRST),
        "top_n": request.top,
        "return_documents": request.return_documents if name == FIRST else None,
        "max_tokens_per_doc": request.max_tokens if name == SECOND else None,
    }
    return written(document, request.rest, name, losses)


def _decode_reply(body: bytes, asked: RerankRequest, name: str) -> RerankReply:
    members = reply_members(body)
    results = read_results(members.take("results", RAWS), asked, name)
    usage, units = _use(members)
    identity = members.take("id", STRING) or ""
    return RerankReply(results=results, usage=usage, units=units, id=identity, rest=members.rest(name))


def _use(members: Members) -> tuple[Usage | None, int | float | None]:
    """Tokens as they are billed, or else as they were read; and searches."""
    meta = members.inside("meta")
    billed = meta.inside("billed_units")
    count, units = take_count(billed, "input_tokens"), take_count(billed, "search_units")
    if count is None:
        count = take_count(meta.inside("tokens"), "input_tokens")
    return used(count), units


def _encode_reply(reply: RerankReply, answering: Answering, name: str) -> Encoded:
    losses = losses_of(reply.rest, name, "")
    asked = answering.asked
    repeat = name == FIRST and asked.return_documents is True
    results = [
        say_result(each, name, losses, as_object(asked.documents[each.index]) if repeat else None)
        for each in reply.results
    ]
    counts = {"input_tokens": reply.usage.input if reply.usage is not None else None, "search_units": reply.units}
    billed = {name: count for name, count in counts.items() if count is not None}
    document = {
        "id": reply.id or answering.id,
        "results": results,
        "meta": {"billed_units": billed} if billed else None,
    }
    return written(document, reply.rest, name, losses)


def usage_of(body: bytes) -> Usage | None:
    """What an answer states of its tokens."""
    return _use(reply_members(body))[0]


def units_of(body: bytes) -> int | float | None:
    """What an answer states of searches."""
    return _use(reply_members(body))[1]


SHAPE_V1 = Shape(
    name=FIRST,
    path=lambda _: "/v1/rerank",
    decode_request=lambda body: _decode_request(body, FIRST),
    encode_request=lambda request: _encode_request(request, FIRST),
    decode_reply=lambda body, asked: _decode_reply(body, asked, FIRST),
    encode_reply=lambda reply, answering: _encode_reply(reply, answering, FIRST),
    usage_of=usage_of,
    units_of=units_of,
)
SHAPE_V2 = Shape(
    name=SECOND,
    path=lambda _: "/v2/rerank",
    decode_request=lambda body: _decode_request(body, SECOND),
    encode_request=lambda request: _encode_request(request, SECOND),
    decode_reply=lambda body, asked: _decode_reply(body, asked, SECOND),
    encode_reply=lambda reply, answering: _encode_reply(reply, answering, SECOND),
    usage_of=usage_of,
    units_of=units_of,
)
