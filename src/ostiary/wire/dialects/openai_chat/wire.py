"""The shapes this dialect adds to the route table, and its codec as one row. It must not say how they are served."""

from __future__ import annotations

from ostiary.core.operation import Endpoint, Operation
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.openai_chat.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.openai_chat.reply import decode_reply, encode_reply
from ostiary.wire.dialects.openai_chat.request import decode_request, encode_request
from ostiary.wire.dialects.openai_chat.stream_decode import StreamDecoder
from ostiary.wire.dialects.openai_chat.stream_encode import StreamEncoder
from ostiary.wire.dialects.openai_chat.usage import read_usage
from ostiary.wire.dialects.openai_chat.values import DIALECT as NAME
from ostiary.wire.governed import peek_openai

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("chat.completions", Operation.CHAT, "POST", "/chat/completions", streams=True),
    Endpoint("embeddings", Operation.EMBEDDING, "POST", "/embeddings", mode="embedding", shape="openai"),
)


def _path(model: str, stream: bool) -> str:
    del model, stream  # the body says both
    return "/chat/completions"


DIALECT: Dialect = Dialect(
    name=NAME,
    endpoints=ENDPOINTS,
    path=_path,
    peek=peek_openai,
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
    ping=b": ping\n\n",
)
