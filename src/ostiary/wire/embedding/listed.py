"""The answer that several shapes share: a list of vectors with their indices. It must not read how use is stated.

Source: OpenAI API reference, create embeddings (official Python SDK 3.54, `types.CreateEmbeddingResponse`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.unknown import Encoded, losses_of
from ostiary.wire.embedding.fields import STRING, counted, reply_members, written
from ostiary.wire.embedding.pivot import EmbeddingReply, EmbeddingRequest, Row, Vectors
from ostiary.wire.embedding.shape import Answering
from ostiary.wire.embedding.vectors import PLAIN, bad_answer, only_form, rows_as


class _Item(msgspec.Struct):
    embedding: tuple[int | float, ...] | str
    index: int | None = None


class _Indexed(msgspec.Struct):
    object: str
    index: int
    embedding: Row


_ITEMS = msgspec.json.Decoder(list[_Item])


def decode_list(
    body: bytes, asked: EmbeddingRequest, shape: str, read_use: Callable[[Members], Usage | None]
) -> EmbeddingReply:
    """The reply of a list; its numbers are of the kind that was asked for, which the list does not say.

    Raises:
        Fault: BAD_ANSWER where there is no such list, or not one vector for each input.
    """
    members = reply_members(body)
    items = members.take("data", _ITEMS)
    if items is None:
        raise bad_answer()
    if all(item.index is not None for item in items):
        items.sort(key=lambda item: item.index or 0)
        if [item.index for item in items] != list(range(len(items))):
            raise bad_answer("the provider did not give one vector for each input")
    members.take("object", STRING)
    usage = read_use(members)
    reply = EmbeddingReply(
        vectors=(Vectors(only_form(asked).number, tuple(item.embedding for item in items)),),
        usage=usage,
        model=members.take("model", STRING) or "",
        rest=members.rest(shape),
    )
    return counted(reply, asked)


def encode_list(reply: EmbeddingReply, answering: Answering, shape: str, usage: dict[str, Any]) -> Encoded:
    """The list for a client, in the first of the forms it asked for.

    Raises:
        Fault: BAD_ANSWER where the provider gave no such numbers.
    """
    forms = answering.asked.forms
    rows = rows_as(reply, forms[0] if forms else PLAIN)
    document = {
        "object": "list",
        "data": [_Indexed("embedding", index, row) for index, row in enumerate(rows)],
        "model": answering.model,
        "usage": usage,
    }
    return written(document, reply.rest, shape, losses_of(reply.rest, shape, ""))
