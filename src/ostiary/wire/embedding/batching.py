"""More inputs than one call takes: the request in pieces, and the replies as one. It must not call anybody."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.embedding.pivot import EmbeddingReply, EmbeddingRequest, Vectors
from ostiary.wire.embedding.vectors import bad_answer


def split(request: EmbeddingRequest, most: int | None) -> list[EmbeddingRequest]:
    """Requests of at most `most` inputs each, in order; the request itself where it is within."""
    if most is None or len(request.inputs) <= most:
        return [request]
    return [
        msgspec.structs.replace(request, inputs=request.inputs[start : start + most])
        for start in range(0, len(request.inputs), most)
    ]


def joined(replies: Sequence[EmbeddingReply]) -> EmbeddingReply:
    """The answer to the request whose pieces were answered with `replies`, in order. Usage is the sum of what is
    stated; what else the first reply says stands for all.

    Raises:
        Fault: BAD_ANSWER where the replies are of different forms, or there are none.
    """
    if not replies:
        raise bad_answer()
    first = replies[0]
    numbers = [vectors.number for vectors in first.vectors]
    if any([vectors.number for vectors in reply.vectors] != numbers for reply in replies):
        raise bad_answer()
    vectors = tuple(
        Vectors(number, tuple(row for reply in replies for row in reply.vectors[place].rows))
        for place, number in enumerate(numbers)
    )
    return msgspec.structs.replace(first, vectors=vectors, usage=total([reply.usage for reply in replies]))


def total(usages: Sequence[Usage | None]) -> Usage | None:
    """The sum of what is stated; None where nothing is."""
    stated = [usage for usage in usages if usage is not None]
    if not stated:
        return None
    return Usage(**{name: sum(getattr(usage, name) for usage in stated) for name in Usage.__struct_fields__})
