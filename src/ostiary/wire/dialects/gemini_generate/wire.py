"""The shapes this dialect adds to the route table, and its codec as one row. It must not say how they are served."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import Endpoint, Operation
from ostiary.wire.dialect import Dialect, Encoding, Peeked
from ostiary.wire.dialects.gemini_generate.config import CONFIG
from ostiary.wire.dialects.gemini_generate.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.gemini_generate.fields import DIALECT as NAME
from ostiary.wire.dialects.gemini_generate.fields import camel, encode
from ostiary.wire.dialects.gemini_generate.reply import decode_reply, encode_reply, read_usage
from ostiary.wire.dialects.gemini_generate.request import decode_request, encode_request
from ostiary.wire.dialects.gemini_generate.stream_decode import StreamDecoder
from ostiary.wire.dialects.gemini_generate.stream_encode import ArrayEncoder, StreamEncoder
from ostiary.wire.framing.json_scan import MisshapenError, outline
from ostiary.wire.governed import count

_PREFIXES = ("/v1beta", "/v1", "", "/v1beta1/publishers/google", "/v1/publishers/google")
_CAP, _CHOICES = "maxOutputTokens", "candidateCount"


def _endpoint(name: str, operation: Operation, method: str, *, streaming: bool = False) -> Endpoint:
    path = "/models/{model}:" + method
    return Endpoint(name, operation, "POST", path, dialect=NAME, prefixes=_PREFIXES, streaming=streaming)


ENDPOINTS: tuple[Endpoint, ...] = (
    _endpoint("gemini.generate", Operation.CHAT, "generateContent"),
    _endpoint("gemini.stream", Operation.CHAT, "streamGenerateContent", streaming=True),
    _endpoint("gemini.count_tokens", Operation.COUNT, "countTokens"),
)


def _path(model: str, stream: bool) -> str:
    """Where a provider takes a request; the model is one segment of the path, whatever it is called."""
    segment = quote(model, safe="")
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/models/{segment}:{method}"


def _peek(members: Mapping[str, msgspec.Raw]) -> Peeked:
    """The cap on output for all candidates together, in either spelling; the dialect names no end user.

    Raises:
        Fault: INVALID_REQUEST for wrong types, MALFORMED where a governed member stands twice.
    """
    caps: list[int] = []
    choices = 1
    for name, raw in members.items():
        if camel(name) != CONFIG or bytes(raw) == b"null":
            continue
        config = _config(raw)
        for member in config:
            named = camel(member)
            if named in (_CAP, _CHOICES) and (value := count(config, member)) is not None:
                caps += [value] if named == _CAP else []
                choices = max(choices, value) if named == _CHOICES else choices
    return Peeked(max(caps) * choices if caps else None)


def _config(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The members of a generation config, none of the governed ones twice."""
    body = bytes(raw)
    try:
        config: dict[str, msgspec.Raw] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        governed = [member.key for member in outline(body).members if camel(member.key) in (_CAP, _CHOICES)]
    except (MisshapenError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault(Kind.INVALID_REQUEST, f"{CONFIG!r} must be an object", param=CONFIG) from None
    if len({camel(name) for name in governed}) < len(governed):
        raise Fault(Kind.MALFORMED, f"a member of {CONFIG!r} stands twice", param=CONFIG)
    return config


def _encode_count(tokens: int) -> bytes:
    return encode({"totalTokens": tokens})


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
    encode_count=_encode_count,
    unframed=Encoding(ArrayEncoder, b"application/json"),
    # The official Python SDK takes a comment for an answer and fails; an empty line is nothing to either SDK.
    ping=b"\n",
)
