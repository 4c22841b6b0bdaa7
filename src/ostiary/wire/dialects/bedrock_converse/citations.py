"""Citations of this dialect, from and to the pivot. It must not judge what they point at.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: Citation, CitationsDelta, CitationLocation. Places are places in
the source, not in the answer: they stay in the rest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Citation
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, losses_of
from ostiary.wire.dialects.bedrock_converse.media import DIALECT, STRING

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


def decode_citation(raw: msgspec.Raw) -> Citation:
    """One citation; what is no object is kept whole in its rest."""
    members = Members.of(raw)
    if members is None:
        return Citation(rest=(Extra(DIALECT, ("citation",), raw),))
    title, quote = members.take("title", STRING), _quote(members)
    url = members.inside("location").inside("web").take("url", STRING)
    return Citation(url, title, quote, rest=members.rest(DIALECT))


def _quote(members: Members) -> str | None:
    """The words of the source, where they are one text."""
    raws = members.take("sourceContent", _RAWS)
    if raws is None:
        return None
    first = Members.of(raws[0]) if len(raws) == 1 else None
    text = first.take("text", STRING) if first is not None else None
    if text is None or first is None or first.rest(DIALECT):
        members.put_back("sourceContent", msgspec.Raw(msgspec.json.encode(raws)))
        return None
    return text


def encode_citation(citation: Citation, where: str, losses: list[Loss]) -> dict[str, Any]:
    """One citation, whole or as a delta."""
    losses += losses_of(citation.rest, DIALECT, where)
    if citation.start is not None or citation.end is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.start"))
    document: dict[str, Any] = {}
    if citation.title is not None:
        document["title"] = citation.title
    if citation.quote is not None:
        document["sourceContent"] = [{"text": citation.quote}]
    if citation.url is not None:
        document["location"] = {"web": {"url": citation.url}}
    return with_rest(document, citation.rest, DIALECT)
