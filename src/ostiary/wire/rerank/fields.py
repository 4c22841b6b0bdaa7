"""What the shapes of reranking read and write alike. It must not know any shape by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.rerank.pivot import Document, Passage, Record, RerankRequest, Result, UnknownDocument

STRING = msgspec.json.Decoder(str)
STRINGS = msgspec.json.Decoder(list[str])
INTEGER = msgspec.json.Decoder(int)
NUMBER = msgspec.json.Decoder(int | float)
FLAG = msgspec.json.Decoder(bool)
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])
# Members that are content or constraints, whatever the shape; the others are knobs.
BINDING = frozenset({"documents", "model", "query", "rank_fields", "top_k", "top_n"})
encode_json = msgspec.json.Encoder().encode
_MOST = 2**53


def bad_answer(public: str = "the provider's answer is not readable") -> Fault:
    """The fault for an answer that is no answer."""
    return Fault(Kind.BAD_ANSWER, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)


def wrong(name: str, expected: str) -> Fault:
    """The refusal of a request whose member is none that the shape knows."""
    return Fault(Kind.INVALID_REQUEST, f"{name!r} must be {expected}", param=name)


def _members(body: bytes) -> Members | None:
    try:
        body.decode()
    except UnicodeDecodeError:
        return None
    return Members.of(body)


def request_members(body: bytes) -> Members:
    """The members of a request's body.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8.
    """
    members = _members(body)
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    return members


def reply_members(body: bytes) -> Members:
    """The members of an answer's body.

    Raises:
        Fault: BAD_ANSWER for what is no JSON object in UTF-8.
    """
    members = _members(body)
    if members is None:
        raise bad_answer()
    return members


def take_query(members: Members) -> str:
    """The query; raises INVALID_REQUEST where there is none."""
    query = members.take("query", STRING)
    if query is None:
        raise wrong("query", "a text")
    return query


def take_documents(members: Members, shape: str, *, records: bool = False) -> tuple[Document, ...]:
    """Documents that are texts, and `records` where a shape takes such; an object of a text alone is that text.

    Raises:
        Fault: INVALID_REQUEST where there is no list.
    """
    raws = members.take("documents", RAWS)
    if raws is None:
        raise wrong("documents", "a list")
    return tuple(_document(raw, shape, records) for raw in raws)


def _document(raw: msgspec.Raw, shape: str, records: bool) -> Document:
    text = Members({"text": raw}).take("text", STRING)
    if text is not None:
        return Passage(text)
    members = Members.of(raw)
    text = members.take("text", STRING) if members is not None else None
    if members is not None and text is not None and not members.rest(shape):
        return Passage(text)
    return Record(raw) if records and members is not None else UnknownDocument(shape, raw)


def text_of(document: Document, where: str, shape: str, losses: list[Loss]) -> str:
    """The text of a document, for a place that takes nothing else; raises INVALID_REQUEST for any other."""
    if not isinstance(document, Passage):
        raise inexpressible(where)
    losses += losses_of(document.rest, shape, where)
    if document.title is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.title"))
    return document.text


def say_documents(request: RerankRequest, shape: str, losses: list[Loss], *, records: bool = False) -> list[Any]:
    """Documents as `take_documents` reads them.

    Raises:
        Fault: INVALID_REQUEST for a record where a shape takes none, and for what another shape alone understands.
    """
    return [
        _say(document, f"documents.{place}", shape, losses, records) for place, document in enumerate(request.documents)
    ]


def _say(document: Document, where: str, shape: str, losses: list[Loss], records: bool) -> Any:
    if isinstance(document, UnknownDocument):
        return own_value(document, where, shape)
    if isinstance(document, Record) and records:
        return document.value
    return text_of(document, where, shape, losses)


def own_value(document: UnknownDocument, where: str, shape: str) -> msgspec.Raw:
    """What a shape kept of its own; raises INVALID_REQUEST where another said it."""
    if document.said_by != shape:
        raise inexpressible(where)
    return document.value


def lost(request: RerankRequest, shape: str, *knobs: str) -> list[Loss]:
    """What a shape cannot say: the rest of others, and those of `knobs` that the request uses.

    Raises:
        Fault: INVALID_REQUEST where it is content or a constraint.
    """
    losses = losses_of(request.rest, shape, "")
    losses += [Loss(LossKind.KNOB, knob) for knob in knobs if getattr(request, knob) is not None]
    return losses


def read_results(
    raws: Sequence[msgspec.Raw] | None, asked: RerankRequest, shape: str, score: str = "relevance_score"
) -> tuple[Result, ...]:
    """The results of a list of objects with `index` and a score.

    Raises:
        Fault: BAD_ANSWER where there is no such list, or an index is none of the request's, or comes twice.
    """
    if raws is None:
        raise bad_answer()
    results = []
    for raw in raws:
        members = Members.of(raw) or Members({})
        index, value = members.take("index", INTEGER), members.take(score, NUMBER)
        members.take("document", RAW)  # it is the request's
        if index is None or value is None:
            raise bad_answer()
        results.append(Result(index, value, members.rest(shape)))
    return required(tuple(results), asked)


def required(results: tuple[Result, ...], asked: RerankRequest) -> tuple[Result, ...]:
    """Results that are each of another document of the request; raises BAD_ANSWER for any other."""
    places = {result.index for result in results}
    if len(places) < len(results) or any(not 0 <= place < len(asked.documents) for place in places):
        raise bad_answer("the provider ranked documents that it was not given")
    return results


def take_count(members: Members, name: str) -> int | float | None:
    """A count of something; None where it is absent or makes no sense."""
    value = members.take(name, NUMBER)
    return value if value is not None and 0 <= value <= _MOST else None


def used(count: int | float | None) -> Usage | None:
    """Tokens read, where they are stated."""
    return None if count is None else Usage(int(count))


def say_result(result: Result, shape: str, losses: list[Loss], document: Any = None) -> dict[str, Any]:
    """A result as an object, with its document where that is wanted."""
    said: dict[str, Any] = {"index": result.index, "relevance_score": result.score}
    if document is not None:
        said["document"] = document
    return with_result_rest(said, result, shape, losses)


def with_result_rest(said: dict[str, Any], result: Result, shape: str, losses: list[Loss]) -> dict[str, Any]:
    """A result as an object, with what the shape itself had left over."""
    losses += losses_of(result.rest, shape, f"results.{result.index}")
    return with_rest(said, result.rest, shape)


def as_object(document: Document) -> Any:
    """A document of the request as a result repeats it: an object, of its text where it is one."""
    return {"text": document.text} if isinstance(document, Passage) else document.value


def written(document: dict[str, Any], rest: Rest, shape: str, losses: Sequence[Loss]) -> Encoded:
    """A body of the members that are said, and of what the shape itself had left over."""
    said = {name: value for name, value in document.items() if value is not None}
    return Encoded(encode_json(with_rest(said, rest, shape)), tuple(losses))
