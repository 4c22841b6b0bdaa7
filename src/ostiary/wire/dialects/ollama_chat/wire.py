"""The row of functions of this dialect. Clients do not speak it: it adds no shape to the route table."""

from __future__ import annotations

from ostiary.core.operation import Endpoint
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.ollama_chat import parts
from ostiary.wire.dialects.ollama_chat.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.ollama_chat.reply import decode_reply, encode_reply, usage_of
from ostiary.wire.dialects.ollama_chat.request import decode_request, encode_request, peek
from ostiary.wire.dialects.ollama_chat.stream_decode import StreamDecoder
from ostiary.wire.dialects.ollama_chat.stream_encode import StreamEncoder

ENDPOINTS: tuple[Endpoint, ...] = ()


def _path(model: str, stream: bool) -> str:
    del model, stream  # the body says both
    return "/api/chat"


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
    ping=b'{"message":{"role":"assistant","content":""},"done":false}\n',  # an empty line is no JSON to a client
    stream_type=b"application/x-ndjson",
)
