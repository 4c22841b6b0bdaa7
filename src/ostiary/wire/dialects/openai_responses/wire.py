"""The shapes this dialect adds to the route table, and its codec as one row. It must not say how they are served.

Source: official Python SDK 3.54, `resources.responses`.
"""

from __future__ import annotations

from ostiary.core.operation import BodyKind, Endpoint, Meter, Operation
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.openai_responses.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.openai_responses.marks import DIALECT as NAME
from ostiary.wire.dialects.openai_responses.reply import decode_reply, encode_reply
from ostiary.wire.dialects.openai_responses.request import decode_request, encode_request, peek
from ostiary.wire.dialects.openai_responses.stream_decode import StreamDecoder
from ostiary.wire.dialects.openai_responses.stream_encode import StreamEncoder
from ostiary.wire.dialects.openai_responses.usage import read_usage

_RAW, _NO_BODY = Operation.RAW, BodyKind.NONE
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("responses", Operation.CHAT, "POST", "/responses", streams=True, dialect=NAME),
    Endpoint("responses.input_tokens", Operation.COUNT, "POST", "/responses/input_tokens", dialect=NAME),
    Endpoint("responses.get", _RAW, "GET", "/responses/{id}", _NO_BODY, Meter.REQUESTS, dialect=NAME),
    Endpoint("responses.delete", _RAW, "DELETE", "/responses/{id}", _NO_BODY, Meter.REQUESTS, dialect=NAME),
    Endpoint("responses.cancel", _RAW, "POST", "/responses/{id}/cancel", _NO_BODY, Meter.REQUESTS, dialect=NAME),
    Endpoint("responses.items", _RAW, "GET", "/responses/{id}/input_items", _NO_BODY, Meter.REQUESTS, dialect=NAME),
)


def _path(model: str, stream: bool) -> str:
    del model, stream  # the body says both
    return "/responses"


def _encode_count(tokens: int) -> bytes:
    return b'{"object":"response.input_tokens","input_tokens":%d}' % tokens


DIALECT: Dialect = Dialect(
    name=NAME,
    endpoints=ENDPOINTS,
    path=_path,
    peek=peek,
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
    encode_count=_encode_count,
    keeps=True,
)
