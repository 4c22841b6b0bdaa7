"""What every dialect offers: its codec as a row of functions. It must not know any dialect by name.

All of it is pure, and blind to the side it serves: `decode_request` reads what a client sends, `encode_request` writes
what a provider is sent, `decode_reply` and `Decoder` read a provider's answer, `encode_reply` and `Encoder` write a
client's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.operation import Endpoint
from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.events import Event
from ostiary.wire.conversation.reply import Reply
from ostiary.wire.conversation.unknown import Encoded, Loss
from ostiary.wire.profile import Profile


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer to a client needs beside the provider's words.

    Attributes:
        id: letters, digits and hyphens, unique; the dialect puts its own prefix before it.
        created: Unix seconds.
        model: as the client knows it.
        asked: the client's request.
    """

    id: str
    created: int
    model: str
    asked: Conversation


class Decoder(Protocol):
    """Reads one stream: bytes in any pieces in, events out. What follows the end or a `Failed` is not read."""

    @property
    def over(self) -> bool:
        """The dialect's own mark of the end has come, or a failure."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Total: rubbish is a `Failed`."""
        ...

    def finish(self) -> list[Event]:
        """The transport's end: what is left, and `Failed` where the stream was cut. Call it once."""
        ...


class Encoder(Protocol):
    """Writes one stream: events in, bytes out, framed. `losses` grows by what could not be said."""

    losses: list[Loss]

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        ...

    def end(self) -> bytes:
        """The end of the stream; an error event where a choice has not finished."""
        ...


class Peeked(NamedTuple):
    """What governs a request beside its model: the cap on its output in tokens (None: none named), and its end user."""

    max_output: int | None = None
    user: str = ""


class Encoding(msgspec.Struct, frozen=True):
    """A second form of a dialect's streams, and the content type it has."""

    encoder: Callable[[Answering], Encoder]
    stream_type: bytes


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One wire format.

    Attributes:
        name: as in `Endpoint.dialect`, `Extra.said_by` and `Seal.issuer`.
        endpoints: the shapes it adds to the route table.
        path: where a provider takes a request, below its base URL; from the upstream model, and whether it streams.
        peek: what governs a request, of its outermost members. Raises `Fault` INVALID_REQUEST for wrong types.
        usage_of: what an answer's body states of its use, None where nothing; raises as `decode_reply`.
        encode_fault: the whole answer for a fault; `encode_fault_event`: the same within a stream, framed.
        decode_fault: what a provider's error answer means, from status, body and seconds to wait. Total.
        ping: what keeps a silent stream alive, framed.
        stream_type: the content type of a stream.
        encode_count: the answer to a request to count tokens, where the dialect has such a request.
        unframed: how a stream is written for clients that did not ask for events, where the dialect has such a form.
        keeps: its providers keep an answer unless the request says otherwise.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    path: Callable[[str, bool], str]
    peek: Callable[[Mapping[str, msgspec.Raw]], Peeked]
    decode_request: Callable[[bytes], Conversation]
    encode_request: Callable[[Conversation, Profile], Encoded]
    decode_reply: Callable[[bytes], Reply]
    encode_reply: Callable[[Reply, Answering], Encoded]
    usage_of: Callable[[bytes], Usage | None]
    decoder: Callable[[], Decoder]
    encoder: Callable[[Answering], Encoder]
    encode_fault: Callable[[Fault], bytes]
    encode_fault_event: Callable[[Fault], bytes]
    decode_fault: Callable[[int, bytes, float | None], Fault]
    ping: bytes
    stream_type: bytes = b"text/event-stream"
    encode_count: Callable[[int], bytes] | None = None
    unframed: Encoding | None = None
    keeps: bool = False
