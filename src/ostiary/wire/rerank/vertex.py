"""Reranking as Google's ranking interface says it (Vertex AI Search). It must not judge values: what it does
not know is kept as it came.

Source: discovery document of `discoveryengine.v1` (google-api-python-client 2.202), `RankRequest`, `RankResponse` and
`RankingRecord`; POST {rankingConfig}:rank. Records are known by their ids, which are ours where they came from another
shape: the place in the request. Nothing is said of what was used.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.unknown import Encoded, Loss, find, losses_of
from ostiary.wire.rerank.fields import (
    BINDING,
    FLAG,
    INTEGER,
    NUMBER,
    RAWS,
    STRING,
    bad_answer,
    encode_json,
    lost,
    own_value,
    reply_members,
    request_members,
    required,
    take_query,
    text_of,
    with_result_rest,
    written,
    wrong,
)
from ostiary.wire.rerank.pivot import Document, Passage, RerankReply, RerankRequest, Result, UnknownDocument
from ostiary.wire.rerank.shape import Answering, Shape

NAME = "vertex"
_BINDING = BINDING | {"records", "topN"}
_ID = ("id",)


def decode_request(body: bytes) -> RerankRequest:
    """The request of a body; raises as `Shape.decode_request`."""
    members = request_members(body)
    raws = members.take("records", RAWS)
    if raws is None:
        raise wrong("records", "a list")
    bare = members.take("ignoreRecordDetailsInResponse", FLAG)
    top = members.take("topN", INTEGER)
    if top is not None and top <= 0:  # all results, as if it had not been said
        members.put_back("topN", msgspec.Raw(encode_json(top)))
        top = None
    return RerankRequest(
        model=members.take("model", STRING) or "",
        query=take_query(members),
        documents=tuple(_record(raw, place) for place, raw in enumerate(raws)),
        top=top,
        return_documents=None if bare is None else not bare,
        rest=members.rest(NAME, _BINDING),
    )


def _record(raw: msgspec.Raw, place: int) -> Document:
    """A record of a text. An id that is its place says nothing."""
    members = Members.of(raw)
    text = members.take("content", STRING) if members is not None else None
    if members is None or text is None:
        return UnknownDocument(NAME, raw)
    own = members.take("id", STRING)
    if own not in (None, str(place)):
        members.put_back("id", msgspec.Raw(encode_json(own)))
    return Passage(text, members.take("title", STRING), members.rest(NAME))


def encode_request(request: RerankRequest) -> Encoded:
    """The body for a request; raises as `Shape.encode_request`."""
    losses = lost(request, NAME, "truncate", "max_tokens")
    document = {
        "model": request.model or None,
        "query": request.query,
        "records": [_say(each, place, losses) for place, each in enumerate(request.documents)],
        "topN": request.top,
        "ignoreRecordDetailsInResponse": None if request.return_documents is None else not request.return_documents,
    }
    return written(document, request.rest, NAME, losses)


def _say(document: Document, place: int, losses: list[Loss]) -> Any:
    where = f"documents.{place}"
    if isinstance(document, UnknownDocument):
        return own_value(document, where, NAME)
    untitled = msgspec.structs.replace(document, title=None) if isinstance(document, Passage) else document
    said: dict[str, Any] = {"content": text_of(untitled, where, NAME, losses)}
    if not isinstance(document, Passage):
        return said
    if document.title is not None:
        said["title"] = document.title
    with_rest(said, document.rest, NAME)
    said.setdefault("id", str(place))
    return said


def _id_of(document: Document, place: int) -> str:
    """The id under which a record was sent."""
    if isinstance(document, UnknownDocument):
        return (Members.of(document.value) or Members({})).take("id", STRING) or ""
    raw = find(document.rest, NAME, *_ID) if isinstance(document, Passage) else None
    own = Members({"id": raw}).take("id", STRING) if raw is not None else None
    return own if own is not None else str(place)


def decode_reply(body: bytes, asked: RerankRequest) -> RerankReply:
    """The reply of a body; raises as `Shape.decode_reply`."""
    members = reply_members(body)
    raws = members.take("records", RAWS)
    if raws is None:
        raise bad_answer()
    places = {_id_of(document, place): place for place, document in enumerate(asked.documents)}
    results = []
    for raw in raws:
        inner = Members.of(raw) or Members({})
        place, score = places.get(inner.take("id", STRING) or ""), inner.take("score", NUMBER)
        for repeated in ("content", "title"):
            inner.take(repeated, STRING)
        if place is None or score is None:
            raise bad_answer()
        results.append(Result(place, score, inner.rest(NAME)))
    return RerankReply(results=required(tuple(results), asked), rest=members.rest(NAME))


def encode_reply(reply: RerankReply, answering: Answering) -> Encoded:
    """The body for a client: its records with their scores, whole unless it asked for less."""
    losses = losses_of(reply.rest, NAME, "")
    records = []
    for each in reply.results:
        document = answering.asked.documents[each.index]
        said: dict[str, Any] = {"id": _id_of(document, each.index), "score": each.score}
        if answering.asked.return_documents is not False and isinstance(document, Passage):
            said["content"] = document.text
            if document.title is not None:
                said["title"] = document.title
        records.append(with_result_rest(said, each, NAME, losses))
    return written({"records": records}, reply.rest, NAME, losses)


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
    path=lambda _: "/rankingConfigs/default_ranking_config:rank",
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=usage_of,
    units_of=units_of,
)
