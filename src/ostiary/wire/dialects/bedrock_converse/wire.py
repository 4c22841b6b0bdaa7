"""What this dialect offers: its shapes of the route table, and its codec. It must not say how they are served.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: Converse, ConverseStream, CountTokens.
"""

from __future__ import annotations

from urllib.parse import quote

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import Endpoint, Operation
from ostiary.wire.dialect import Dialect
from ostiary.wire.dialects.bedrock_converse.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.bedrock_converse.media import DIALECT as NAME
from ostiary.wire.dialects.bedrock_converse.reply import decode_reply, encode_reply, usage_of
from ostiary.wire.dialects.bedrock_converse.request import decode_request, encode_request, peek
from ostiary.wire.dialects.bedrock_converse.stream_decode import StreamDecoder
from ostiary.wire.dialects.bedrock_converse.stream_encode import PING, StreamEncoder
from ostiary.wire.framing.event_stream import EVENT_STREAM

_PREFIXES = ("/bedrock", "")


def _endpoint(name: str, operation: Operation, verb: str, *, streaming: bool = False) -> Endpoint:
    path = f"/model/{{model}}/{verb}"
    return Endpoint(name, operation, "POST", path, dialect=NAME, prefixes=_PREFIXES, streaming=streaming)


ENDPOINTS: tuple[Endpoint, ...] = (
    _endpoint("bedrock.converse", Operation.CHAT, "converse"),
    _endpoint("bedrock.converse_stream", Operation.CHAT, "converse-stream", streaming=True),
    _endpoint("bedrock.count_tokens", Operation.COUNT, "count-tokens"),
)


def path(model: str, stream: bool) -> str:
    """Where a provider takes a request. A model is one segment of it, whatever it is called.

    Raises:
        Fault: UNKNOWN_MODEL for a name that would be no segment.
    """
    if model in ("", ".", ".."):
        raise Fault(Kind.UNKNOWN_MODEL, "the model has no name that can stand in a path")
    return f"/model/{quote(model, safe='')}/{'converse-stream' if stream else 'converse'}"


def _encode_count(tokens: int) -> bytes:
    return b'{"inputTokens":%d}' % tokens


DIALECT = Dialect(
    name=NAME,
    endpoints=ENDPOINTS,
    path=path,
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
    ping=PING,
    stream_type=EVENT_STREAM,
    encode_count=_encode_count,
)
