"""What the shapes of embeddings read and write alike. It must not know any shape by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Image, Inline, Link
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.embedding.pivot import (
    Blend,
    Cut,
    EmbeddingReply,
    EmbeddingRequest,
    Input,
    UnknownInput,
    Words,
)
from ostiary.wire.embedding.vectors import bad_answer

T = TypeVar("T")
STRING = msgspec.json.Decoder(str)
STRINGS = msgspec.json.Decoder(list[str])
INTEGER = msgspec.json.Decoder(int)
NUMBER = msgspec.json.Decoder(int | float)
FLAG = msgspec.json.Decoder(bool)
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])
ROW = msgspec.json.Decoder(tuple[int | float, ...])
ROWS = msgspec.json.Decoder(tuple[tuple[int | float, ...], ...])
# Members that are content or constraints, whatever the shape; the others are knobs.
BINDING = frozenset({"dimensions", "input", "inputs", "instances", "model", "output_dimension", "outputDimensionality"})
encode_json = msgspec.json.Encoder().encode
_MOST = 2**53


def request_members(body: bytes) -> Members:
    """The members of a request's body.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8.
    """
    try:
        body.decode()
        members = Members.of(body)
    except UnicodeDecodeError:
        members = None
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    return members


def reply_members(body: bytes) -> Members:
    """The members of an answer's body.

    Raises:
        Fault: BAD_ANSWER for what is no JSON object in UTF-8.
    """
    try:
        body.decode()
        members = Members.of(body)
    except UnicodeDecodeError:
        members = None
    if members is None:
        raise bad_answer()
    return members


def wrong(name: str, expected: str) -> Fault:
    """The refusal of a request whose member is none that the shape knows."""
    return Fault(Kind.INVALID_REQUEST, f"{name!r} must be {expected}", param=name)


def take_word(members: Members, name: str, words: Mapping[str, T]) -> T | None:
    """What a member's word stands for; a word that is not known is left."""
    word = members.take(name, STRING)
    if word is None:
        return None
    if word not in words:
        members.put_back(name, msgspec.Raw(encode_json(word)))
    return words.get(word)


def take_cut(members: Members, name: str) -> Cut | None:
    """Whether long inputs may be cut, where a shape says yes or no."""
    flag = members.take(name, FLAG)
    return None if flag is None else Cut.END if flag else Cut.NONE


def cut_flag(request: EmbeddingRequest, losses: list[Loss]) -> bool | None:
    """The same as yes or no; which end is cut is then up to the provider."""
    if request.cut is Cut.START:
        losses.append(Loss(LossKind.KNOB, "cut"))
    return None if request.cut is None else request.cut is not Cut.NONE


def take_count(members: Members, name: str) -> int | None:
    """A count of something; None where it is absent or makes no sense."""
    value = members.take(name, NUMBER)
    return int(value) if value is not None and 0 <= value <= _MOST else None


def lost(request: EmbeddingRequest, shape: str, *knobs: str) -> list[Loss]:
    """What a shape cannot say: the rest of others, and those of `knobs` that the request uses.

    Raises:
        Fault: INVALID_REQUEST where it is content or a constraint.
    """
    losses = losses_of(request.rest, shape, "")
    losses += [Loss(LossKind.KNOB, knob) for knob in knobs if getattr(request, knob) is not None]
    return losses


def text_of(given: Input, where: str, shape: str, losses: list[Loss], *, titled: bool = False) -> str:
    """The text of an input, for a shape that takes nothing else.

    Raises:
        Fault: INVALID_REQUEST for any other input.
    """
    if not isinstance(given, Words):
        raise inexpressible(where)
    losses += losses_of(given.rest, shape, where)
    if given.title is not None and not titled:
        losses.append(Loss(LossKind.MARK, f"{where}.title"))
    return given.text


def texts_of(request: EmbeddingRequest, shape: str, losses: list[Loss]) -> list[str]:
    """The texts of all inputs, for a shape that takes nothing else; raises as `text_of`."""
    return [text_of(given, f"inputs.{index}", shape, losses) for index, given in enumerate(request.inputs)]


def own_value(given: UnknownInput, where: str, shape: str) -> msgspec.Raw:
    """What a shape kept of its own.

    Raises:
        Fault: INVALID_REQUEST where another said it.
    """
    if given.said_by != shape:
        raise inexpressible(where)
    return given.value


def blended(parts: Sequence[Words | Image | UnknownInput]) -> Words | Image | Blend:
    """Parts as one input."""
    if len(parts) == 1 and not isinstance(parts[0], UnknownInput):
        return parts[0]
    return Blend(tuple(parts))


def image_at(address: str) -> Image | None:
    """A picture by its address, `data:` or other; None for a `data:` address that is not base64 alone."""
    if not address.startswith("data:"):
        return Image(Link(address))
    head, comma, data = address[len("data:") :].partition(",")
    media_type, mark, _ = head.partition(";base64")
    if not comma or not mark or ";" in media_type or f"data:{media_type};base64,{data}" != address:
        return None
    return Image(Inline(media_type, data))


def address_of(image: Image, where: str, losses: list[Loss], shape: str) -> str:
    """The address of a picture; raises INVALID_REQUEST for one that a provider keeps."""
    losses += losses_of(image.rest, shape, where)
    if image.detail is not None:
        losses.append(Loss(LossKind.KNOB, f"{where}.detail"))
    if image.cache is not None:
        losses.append(Loss(LossKind.KNOB, f"{where}.cache"))
    match image.source:
        case Inline(media_type, data):
            return f"data:{media_type};base64,{data}"
        case Link(url):
            return url
        case _:
            raise inexpressible(where)


def counted(reply: EmbeddingReply, asked: EmbeddingRequest) -> EmbeddingReply:
    """The reply, that has one vector for each input in each form; fewer would be taken for another input's.

    Raises:
        Fault: BAD_ANSWER for any other.
    """
    if not reply.vectors or any(len(vectors.rows) != len(asked.inputs) for vectors in reply.vectors):
        raise bad_answer("the provider did not give one vector for each input")
    return reply


def written(document: dict[str, Any], rest: Rest, shape: str, losses: Sequence[Loss]) -> Encoded:
    """A body of the members that are said, and of what the shape itself had left over."""
    said = {name: value for name, value in document.items() if value is not None}
    return Encoded(encode_json(with_rest(said, rest, shape)), tuple(losses))
