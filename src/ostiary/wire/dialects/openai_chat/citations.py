"""Where words come from: `annotations` of a message, from and to the pivot. It must not read the words.

Source: OpenAI API reference, chat completions, annotations (official Python SDK 3.54, `chat_completion_message`):
`{type: url_citation, url_citation: {url, title, start_index, end_index}}`. `content`, what the source says, is
OpenRouter's. Annotations of another type are citations of which only this dialect knows more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Citation
from ostiary.wire.conversation.unknown import Loss, LossKind, find, losses_of
from ostiary.wire.dialects.openai_chat.values import DIALECT, INTEGER, RAW, RAWS, STRING

ANNOTATIONS = "annotations"
_KIND = "url_citation"
_encode = msgspec.json.Encoder().encode


def take_citations(message: Members) -> tuple[Citation, ...]:
    """The citations of a message; what is no list of annotations stays where it is."""
    raw = message.take(ANNOTATIONS, RAW)
    if raw is None:
        return ()
    message.put_back(ANNOTATIONS, raw)
    citations = [_citation(item) for item in message.take(ANNOTATIONS, RAWS) or ()]
    known = [citation for citation in citations if citation is not None]
    if not known or len(known) < len(citations):
        message.put_back(ANNOTATIONS, raw)
        return ()
    return tuple(known)


def _citation(raw: msgspec.Raw) -> Citation | None:
    members = Members.of(raw)
    kind = members.take("type", STRING) if members is not None else None
    if members is None or kind is None:
        return None
    members.take("index", INTEGER)  # its place in the list, where it came in a stream
    if kind != _KIND:
        members.put_back("type", msgspec.Raw(_encode(kind)))
        return Citation(rest=members.rest(DIALECT))
    inner = members.inside(_KIND)
    url, title, quote = (inner.take(name, STRING) for name in ("url", "title", "content"))
    start, end = inner.take("start_index", INTEGER), inner.take("end_index", INTEGER)
    return Citation(url, title, quote, start, end, members.rest(DIALECT))


def encode_citations(citations: Sequence[Citation], where: str, losses: list[Loss]) -> list[dict[str, Any]]:
    """The annotations for citations, saying no more than these do; one without an address is lost."""
    documents = [_encode_one(citation, f"{where}.citations.{n}", losses) for n, citation in enumerate(citations)]
    return [document for document in documents if document is not None]


def placed(citation: Citation, before: int, length: int) -> Citation:
    """A citation with every member that a client of this dialect relies on.

    Args:
        before: the characters of the message before the text that it stands with.
        length: of that text; a citation without a place is one of all of it.
    """
    if citation.url is None:
        return citation
    start = before + (citation.start if citation.start is not None else 0)
    end = before + (citation.end if citation.end is not None else length)
    return msgspec.structs.replace(citation, title=citation.title or "", start=start, end=end)


def _encode_one(citation: Citation, where: str, losses: list[Loss]) -> dict[str, Any] | None:
    ours = any(extra.said_by == DIALECT for extra in citation.rest)
    if citation.url is None and not ours:
        losses.append(Loss(LossKind.MARK, where))
        return None
    losses += losses_of(citation.rest, DIALECT, where)
    if find(citation.rest, DIALECT, "type") is not None:
        return with_rest({}, citation.rest, DIALECT)
    values = {
        "url": citation.url,
        "title": citation.title,
        "content": citation.quote,
        "start_index": citation.start,
        "end_index": citation.end,
    }
    said = {name: value for name, value in values.items() if value is not None}
    document: dict[str, Any] = {"type": _KIND, **({_KIND: said} if said else {})}
    return with_rest(document, citation.rest, DIALECT)
