"""The shape this dialect adds to the route table, and its row of functions. It must not say how it is served."""

from __future__ import annotations

from ostiary.core.operation import Endpoint, Operation
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.cohere_chat import parts
from ostiary.wire.dialects.cohere_chat.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.cohere_chat.reply import decode_reply, encode_reply, usage_of
from ostiary.wire.dialects.cohere_chat.request import decode_request, encode_request, peek
from ostiary.wire.dialects.cohere_chat.stream_decode import StreamDecoder
from ostiary.wire.dialects.cohere_chat.stream_encode import StreamEncoder

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("cohere.chat", Operation.CHAT, "POST", "/chat", streams=True, dialect=parts.DIALECT, prefixes=("/v2",)),
)


def _path(model: str, stream: bool) -> str:
    del model, stream  # the body says both
    return "/v2/chat"


DIALECT: Dialect = Dialect(
    name=parts.DIALECT,
    endpoints=ENDPOINTS,
    path=_path,
    peek=peek,
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=usage_of,
    decoder=StreamDecoder,
    encoder=StreamEncoder,
    encode_fault=encode_fault,
    encode_fault_event=encode_fault_event,
    decode_fault=decode_fault,
    ping=b": ping\n\n",
)
