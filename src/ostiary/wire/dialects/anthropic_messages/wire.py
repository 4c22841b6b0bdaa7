"""The shapes this dialect adds to the route table, and its codec as one row. It must not say how they are served."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import Endpoint, Operation
from ostiary.wire.conversation.members import UNREADABLE
from ostiary.wire.dialect import Dialect, Peeked
from ostiary.wire.dialects.anthropic_messages.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.anthropic_messages.parts import DIALECT as NAME
from ostiary.wire.dialects.anthropic_messages.reply import decode_reply, encode_reply
from ostiary.wire.dialects.anthropic_messages.request import decode_request, encode_request
from ostiary.wire.dialects.anthropic_messages.stream_decode import StreamDecoder
from ostiary.wire.dialects.anthropic_messages.stream_encode import StreamEncoder
from ostiary.wire.dialects.anthropic_messages.usage import read_usage
from ostiary.wire.governed import count, text

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("messages", Operation.CHAT, "POST", "/messages", streams=True, dialect=NAME),
    Endpoint("messages.count_tokens", Operation.COUNT, "POST", "/messages/count_tokens", dialect=NAME),
)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_encode = msgspec.json.Encoder().encode


def _path(model: str, stream: bool) -> str:
    del model, stream  # the body says both
    return "/v1/messages"


def _peek(members: Mapping[str, msgspec.Raw]) -> Peeked:
    cap = count(members, "max_tokens") if "max_tokens" in members else None
    if "metadata" not in members:
        return Peeked(cap)
    try:
        metadata = _members(members["metadata"]) or {}
    except UNREADABLE:
        raise Fault(Kind.INVALID_REQUEST, "'metadata' must be an object", param="metadata") from None
    return Peeked(cap, text(metadata, "user_id") if "user_id" in metadata else "")


def _encode_count(tokens: int) -> bytes:
    """Source: official Python SDK 2.12, `types.MessageTokensCount`."""
    return _encode({"input_tokens": tokens})


DIALECT: Dialect = Dialect(
    name=NAME,
    endpoints=ENDPOINTS,
    path=_path,
    peek=_peek,
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=read_usage,
    decoder=StreamDecoder,
    encoder=StreamEncoder,
    encode_fault=encode_fault,
    encode_fault_event=encode_fault_event,
    decode_fault=decode_fault,
    ping=b'event: ping\ndata: {"type": "ping"}\n\n',
    encode_count=_encode_count,
)
