"""Reranking as Bedrock's agent runtime says it: POST /rerank. It must not judge values: what it does not
know is kept as it came.

Source: botocore's service model `bedrock-agent-runtime`, operation Rerank (one query; a thousand sources at most). The
model is an ARN in the body. Nothing is said of what was used. Results repeat documents where Bedrock likes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Encoded, Loss, losses_of
from ostiary.wire.rerank.fields import (
    INTEGER,
    RAW,
    RAWS,
    STRING,
    lost,
    own_value,
    read_results,
    reply_members,
    request_members,
    text_of,
    with_result_rest,
    written,
    wrong,
)
from ostiary.wire.rerank.pivot import Document, Passage, Record, RerankReply, RerankRequest, UnknownDocument
from ostiary.wire.rerank.shape import Answering, Shape

NAME = "bedrock"
_BINDING = frozenset({"nextToken", "queries", "rerankingConfiguration", "sources"})
_KIND = "BEDROCK_RERANKING_MODEL"


def decode_request(body: bytes) -> RerankRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    queries, sources = members.take("queries", RAWS), members.take("sources", RAWS)
    query = _query(queries[0]) if queries is not None and len(queries) == 1 else None
    if query is None:
        raise wrong("queries", "a list of one text")
    if sources is None:
        raise wrong("sources", "a list")
    configuration = members.inside("rerankingConfiguration")
    inner = configuration.inside("bedrockRerankingConfiguration")
    model = inner.inside("modelConfiguration").take("modelArn", STRING)
    if model is None or configuration.take("type", STRING) != _KIND:
        raise wrong("rerankingConfiguration", f"an object of type {_KIND} with a model")
    return RerankRequest(
        model=model,
        query=query,
        documents=tuple(_source(raw) for raw in sources),
        top=inner.take("numberOfResults", INTEGER),
        rest=members.rest(NAME, _BINDING),
    )


def _query(raw: msgspec.Raw) -> str | None:
    members = Members.of(raw)
    if members is None or members.take("type", STRING) != "TEXT":
        return None
    text = members.inside("textQuery").take("text", STRING)
    return text if not members.rest(NAME) else None


def _source(raw: msgspec.Raw) -> Document:
    members = Members.of(raw)
    unknown = UnknownDocument(NAME, raw)
    if members is None or members.take("type", STRING) != "INLINE":
        return unknown
    inner = members.inside("inlineDocumentSource")
    kind = inner.take("type", STRING)
    text = inner.inside("textDocument").take("text", STRING) if kind == "TEXT" else None
    value = inner.take("jsonDocument", RAW) if kind == "JSON" else None
    if members.rest(NAME):
        return unknown
    if text is not None:
        return Passage(text)
    return Record(value) if value is not None else unknown


def encode_request(request: RerankRequest) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`."""
    losses = lost(request, NAME, "truncate", "max_tokens")
    inner: dict[str, Any] = {"modelConfiguration": {"modelArn": request.model}}
    if request.top is not None:
        inner["numberOfResults"] = request.top
    document = {
        "queries": [{"type": "TEXT", "textQuery": {"text": request.query}}],
        "sources": [_say(each, f"documents.{place}", losses) for place, each in enumerate(request.documents)],
        "rerankingConfiguration": {"type": _KIND, "bedrockRerankingConfiguration": inner},
    }
    return written(document, request.rest, NAME, losses)


def _say(document: Document, where: str, losses: list[Loss]) -> Any:
    if isinstance(document, UnknownDocument):
        return own_value(document, where, NAME)
    return {"type": "INLINE", "inlineDocumentSource": _inline(document, where, losses)}


def _inline(document: Document, where: str, losses: list[Loss]) -> Any:
    if isinstance(document, Record):
        return {"type": "JSON", "jsonDocument": document.value}
    return {"type": "TEXT", "textDocument": {"text": text_of(document, where, NAME, losses)}}


def decode_reply(body: bytes, asked: RerankRequest) -> RerankReply:
    """The reply of a body; raises as `Shape.decode_reply`."""
    members = reply_members(body)
    results = read_results(members.take("results", RAWS), asked, NAME, "relevanceScore")
    return RerankReply(results=results, rest=members.rest(NAME))


def encode_reply(reply: RerankReply, answering: Answering) -> Encoded:
    """The body for a client, with the documents where it asked for them."""
    losses = losses_of(reply.rest, NAME, "")
    results = []
    for each in reply.results:
        said: dict[str, Any] = {"index": each.index, "relevanceScore": each.score}
        document = answering.asked.documents[each.index]
        if answering.asked.return_documents and not isinstance(document, UnknownDocument):
            said["document"] = _inline(document, "", [])
        results.append(with_result_rest(said, each, NAME, losses))
    return written({"results": results}, reply.rest, NAME, losses)


def usage_of(body: bytes) -> Usage | None:
    """Nothing is stated of tokens."""
    reply_members(body)
    return None


def units_of(body: bytes) -> int | float | None:
    """Nor of searches."""
    reply_members(body)
    return None


SHAPE = Shape(
    name=NAME,
    path=lambda _: "/rerank",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=usage_of,
    units_of=units_of,
    most_documents=1000,
)
