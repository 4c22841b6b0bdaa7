"""One request between two dialects: what the provider is sent, and how its answer comes back. It must not do I/O.

The dialects do the work; here is only what stands between them: which of the provider's dialects is spoken, the
deployment's defaults, and the ledger of what could not be said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.key import VirtualKey
from ostiary.core.record import Lost
from ostiary.core.snapshot import Deployment
from ostiary.core.usage import Usage
from ostiary.gateway.ports import Route
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.events import Event, Failed, Metered, PartDelta
from ostiary.wire.conversation.unfold import unfold
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.dialect import Answering, Decoder, Dialect, Encoder
from ostiary.wire.framing.event_stream import EVENT_STREAM, MessageCutter
from ostiary.wire.framing.sse import SseFramer
from ostiary.wire.registry import SPOKEN

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_NESTED = ("sampling", "thinking")


def dialect_of(route: Route, query: bytes) -> Dialect:
    """The client's dialect, with its streams in the form that the request line asks for."""
    dialect = SPOKEN[route.endpoint.dialect]
    if dialect.unframed is None or not route.endpoint.streaming or b"alt=sse" in query.split(b"&"):
        return dialect
    encoding = dialect.unframed
    return msgspec.structs.replace(
        dialect, encoder=encoding.encoder, stream_type=encoding.stream_type, ping=b"", encode_fault_event=unframed_fault
    )


def unframed_fault(fault: Fault) -> bytes:
    """A form without events has no place for a failure: the connection is cut."""
    del fault
    return b""


def spoken_to(target: Deployment, client: Dialect) -> Dialect:
    """The dialect in which a deployment is asked: the client's own where it knows it, else the one it prefers.

    It is the client's very own, the same object, only where the answer can be passed on as it comes.
    """
    return SPOKEN[client.name if client.name in target.dialects else target.dialects[0]]


class Translation:
    """One attempt at one deployment in a dialect that is not the client's.

    Args:
        strict: refuse what would have to be left out of the request.
        told: what the client is told that it asked, where that is not what is sent.

    Attributes:
        losses: what could not be said so far, on either way.
    """

    __slots__ = ("_answering", "_client", "_provider", "_strict", "_told", "losses")

    def __init__(
        self, client: Dialect, provider: Dialect, answering: Answering, *, strict: bool, told: Answering | None = None
    ) -> None:
        self._client = client
        self._provider = provider
        self._answering = answering
        self._told = told or answering
        self._strict = strict
        self.losses: list[Loss] = []

    def request(self, target: Deployment, defaults: Conversation | None, *, stream: bool) -> bytes:
        """The body for the target.

        Raises:
            Fault: INVALID_REQUEST where content or a constraint cannot be said; another target may do.
        """
        asked = self._answering.asked
        if defaults is not None:
            asked = with_defaults(asked, defaults)
        asked = msgspec.structs.replace(
            asked, model=target.upstream_model, stream=stream, stream_usage=True if stream else None
        )
        if self._provider.keeps and not self._client.keeps and asked.store is None:
            asked = msgspec.structs.replace(asked, store=False)  # nobody asked the provider to keep anything
        encoded = self._provider.encode_request(asked, target.profile)
        if self._strict:
            refuse_losses(encoded.losses)
        self.losses += encoded.losses
        return adjusted(encoded.body, target, raw_defaults(defaults))

    def reply(self, body: bytes) -> tuple[bytes, Usage | None]:
        """The client's answer for the provider's, and the usage it states.

        Raises:
            Fault: BAD_ANSWER where there is none, or none that the client's dialect can say; a provider's hidden error.
        """
        reply = self._provider.decode_reply(body)
        try:
            encoded = self._client.encode_reply(reply, self._told)
        except Fault as fault:
            raise unsayable(fault) from None
        self.losses += encoded.losses
        return encoded.body, reply.usage

    def told(self, body: bytes) -> tuple[bytes, Usage | None]:
        """The same as a whole stream, for a provider that answered in one piece what was asked for as a stream."""
        reply = self._provider.decode_reply(body)
        tap = self.tap()
        data = tap.tell(list(unfold(reply))) + tap.end()
        if tap.fault is not None:
            raise tap.fault
        return data, reply.usage

    def tap(self) -> TranslatingTap:
        """What translates a stream."""
        return TranslatingTap(self._provider.decoder(), self._client.encoder(self._told), self.losses)


class TranslatingTap:
    """A stream on its way from one dialect to the other. See `relay.Tap`.

    Attributes:
        usage: the last usage the provider stated.
        chunks: pieces of text seen so far; about one token each, for an estimate.
    """

    __slots__ = ("_decoder", "_encoder", "_losses", "chunks", "done", "fault", "usage")

    def __init__(self, decoder: Decoder, encoder: Encoder, losses: list[Loss]) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._losses = losses
        encoder.losses = losses
        self.usage: Usage | None = None
        self.chunks = 0
        self.done = False
        self.fault: Fault | None = None

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for the provider's; its last ones once the provider has said that it is done."""
        told = self.tell(self._decoder.feed(data))
        if self.fault is None and self._decoder.over:
            told += self.end()
        return told

    def finish(self) -> bytes:
        """The transport's end."""
        told = self.tell(self._decoder.finish())
        return told if self.fault is not None else told + self.end()

    def tell(self, events: Sequence[Event]) -> bytes:
        """The bytes for events; stops at the first that is a failure, or cannot be said."""
        told: list[bytes] = []
        for event in events:
            if type(event) is PartDelta:
                self.chunks += 1
            elif type(event) is Metered:
                self.usage = event.usage
            elif type(event) is Failed:
                self.fault = event.to_fault()
                break
            try:
                told.append(self._encoder.encode(event))
            except Fault as fault:
                self.fault = unsayable(fault)
                break
        return b"".join(told)

    def end(self) -> bytes:
        """The last bytes of a whole answer."""
        self.done = True
        return self._encoder.end()

    def broken(self, fault: Fault) -> bytes:
        """The end of a stream that is not whole, as the client's dialect tells it at this point."""
        return self._encoder.encode(Failed.of(fault))

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end."""
        return self.fault is None


class Cutter(Protocol):
    """Cuts a stream into whole events; `flush` gives what is left of one at its end."""

    @property
    def fault(self) -> Fault | None: ...
    def feed(self, data: bytes) -> list[bytes]: ...
    def flush(self) -> bytes: ...


class ObservingTap:
    """A stream that is passed on as it comes, event by event, and read beside. See `relay.Tap`.

    Nothing of an event goes out before its end: a failure is told between events, and never after half of one.
    """

    __slots__ = ("_cutter", "_decoder", "chunks", "done", "fault", "usage")

    def __init__(self, decoder: Decoder, stream_type: bytes) -> None:
        self._decoder = decoder
        self._cutter: Cutter = MessageCutter() if stream_type == EVENT_STREAM else SseFramer()
        self.usage: Usage | None = None
        self.chunks = 0
        self.done = False
        self.fault: Fault | None = None

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes, up to one that is a failure."""
        told = self._passed(self._cutter.feed(data))
        if self.fault is None:
            self.fault = self._cutter.fault
        self.done = self.fault is None and self._decoder.over
        return told

    def finish(self) -> bytes:
        """The transport's end: what is left of the last event, where the answer is whole."""
        rest = self._cutter.flush()
        told = self._passed([rest] if rest else [])
        if self.fault is None:
            self._look(self._decoder.finish())
        return told if self.fault is None else b""

    def _passed(self, frames: Sequence[bytes]) -> bytes:
        told: list[bytes] = []
        for frame in frames:
            self._look(self._decoder.feed(frame))
            if self.fault is not None:
                break
            told.append(frame)
        return b"".join(told)

    def _look(self, events: Sequence[Event]) -> None:
        for event in events:
            if type(event) is PartDelta:
                self.chunks += 1
            elif type(event) is Metered:
                self.usage = event.usage
            elif type(event) is Failed:
                self.fault = event.to_fault()
                return

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end."""
        return self.fault is None


def with_defaults(asked: Conversation, defaults: Conversation) -> Conversation:
    """The request with the deployment's defaults where it says nothing itself."""
    changes: dict[str, Any] = {}
    for name in Conversation.__struct_fields__:
        mine, its = getattr(asked, name), getattr(defaults, name)
        if name in _NESTED:
            inner = {field: getattr(its, field) for field in its.__struct_fields__ if getattr(mine, field) is None}
            changes[name] = msgspec.structs.replace(mine, **inner)
        elif name not in ("model", "messages", "rest", "stream", "stream_usage") and mine in (None, ()):
            changes[name] = its
    if asked.max_output is not None or asked.max_text is not None:  # two names of one thing
        changes |= {"max_output": asked.max_output, "max_text": asked.max_text}
    return msgspec.structs.replace(asked, **changes)


def raw_defaults(defaults: Conversation | None) -> list[tuple[str, msgspec.Raw]]:
    """Defaults that have no word in the pivot: members of the provider's own body."""
    if defaults is None:
        return []
    return [(extra.path[0], extra.value) for extra in defaults.rest if len(extra.path) == 1]


def adjusted(body: bytes, target: Deployment, defaults: Sequence[tuple[str, msgspec.Raw]] = ()) -> bytes:
    """The body without what this way to the model has no place for, and with what it always wants."""
    if not (target.drops or target.adds or defaults):
        return body
    members = _members(body)
    for name in target.drops:
        members.pop(name, None)
    members.update((name, msgspec.Raw(value)) for name, value in target.adds)
    for name, value in defaults:
        members.setdefault(name, value)
    return _encode(members)


def refuse_losses(losses: Sequence[Loss]) -> None:
    """Refuse knobs and unknown members that would be left out. Proofs, shapes and marks change nothing that is asked.

    Raises:
        Fault: INVALID_REQUEST naming the first.
    """
    for loss in losses:
        if loss.kind in (LossKind.KNOB, LossKind.UNKNOWN):
            public = f"{loss.where!r} is not known to the provider of this model, and may not be left out (drop_params)"
            raise Fault(Kind.INVALID_REQUEST, public, retry=Retry.NEXT, param=loss.where)


def is_strict(key: VirtualKey, target: Deployment, own: Mapping[str, msgspec.Raw]) -> bool:
    """Whether nothing may be left out: the caller's word can only make it stricter, the key's goes before the rest."""
    asked = own.get("drop_params")
    if asked is not None and bytes(asked) == b"false":
        return True
    allowed = key.drop_params if key.drop_params is not None else target.drop_params
    return allowed is False


_KNOBS = {
    "temperature": Lost.TEMPERATURE,
    "top_p": Lost.TOP_P,
    "top_k": Lost.TOP_K,
    "frequency_penalty": Lost.PENALTIES,
    "presence_penalty": Lost.PENALTIES,
    "seed": Lost.SEED,
    "thinking": Lost.THINKING,
    "effort": Lost.THINKING,
    "budget": Lost.THINKING,
    "adaptive": Lost.THINKING,
    "shown": Lost.THINKING,
    "logprobs": Lost.LOGPROBS,
    "top_logprobs": Lost.LOGPROBS,
    "user": Lost.USER,
    "metadata": Lost.METADATA,
    "tier": Lost.TIER,
    "store": Lost.STORE,
}
_OTHERS = {
    LossKind.UNKNOWN: Lost.UNKNOWN,
    LossKind.SEAL: Lost.SEAL,
    LossKind.SHAPE: Lost.SHAPE,
    LossKind.MARK: Lost.MARK,
}


def lost(losses: Sequence[Loss]) -> int:
    """The losses as the record has them: flags of `Lost`, since a place may hold a word of the caller's."""
    flags = 0
    for loss in losses:
        if loss.kind is LossKind.KNOB:
            flags |= _KNOBS.get(loss.where.rpartition(".")[2], Lost.OTHER_KNOB)
        else:
            flags |= _OTHERS[loss.kind]
    return int(flags)


def unsayable(fault: Fault) -> Fault:
    """What a provider said that the client's dialect has no words for is not the client's fault."""
    public = f"the provider's answer holds {fault.param!r}, which the interface of the request cannot express"
    return Fault(Kind.BAD_ANSWER, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
