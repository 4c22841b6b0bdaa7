"""Translates a file of the corpus into a dialect, as the gateway does. It must not judge what comes out."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from golden_corpus import File

from ostiary.core.fault import Fault
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.events import Event, Failed
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.reply import Reply
from ostiary.wire.conversation.unknown import Loss
from ostiary.wire.dialect import Answering
from ostiary.wire.framing.event_stream import EventStreamFramer
from ostiary.wire.profile import ANY, Profile
from ostiary.wire.registry import DIALECTS

MODEL = "upstream-model"
ANSWERING = Answering(
    id="0123456789abcdef",
    created=1_790_000_000,
    model="alias",
    asked=Conversation(model="alias", messages=(), stream_usage=True),
)


class Told(NamedTuple):
    """What became of a file in another dialect: a body, or the fault that refused it.

    `failed`: a stream that ended with a failure on purpose. `status` is that of an error.
    """

    body: bytes
    losses: tuple[Loss, ...] = ()
    refused: Fault | None = None
    failed: bool = False
    status: int = 0


def asked(file: File) -> Conversation:
    """The request of a file, for the provider's model."""
    streams = file.case.startswith("stream_")
    conversation = DIALECTS[file.dialect].decode_request(file.wire())
    return msgspec.structs.replace(conversation, model=MODEL, stream=streams or conversation.stream)


def request(conversation: Conversation, target: str, profile: Profile = ANY) -> Told:
    """A request in another dialect."""
    try:
        encoded = DIALECTS[target].encode_request(conversation, profile)
    except Fault as fault:
        return Told(b"", refused=fault)
    return Told(encoded.body, encoded.losses)


def reply(answer: Reply, target: str) -> Told:
    """An answer in another dialect."""
    try:
        encoded = DIALECTS[target].encode_reply(answer, ANSWERING)
    except Fault as fault:
        return Told(b"", refused=fault)
    return Told(encoded.body, encoded.losses)


def answer(dialect: str, body: bytes) -> Reply | Fault:
    """What an answer tells, or the failure that it is."""
    try:
        return DIALECTS[dialect].decode_reply(body)
    except Fault as fault:
        return fault


def events(dialect: str, data: bytes) -> list[Event]:
    """The events a stream tells."""
    decoder = DIALECTS[dialect].decoder()
    return [*decoder.feed(data), *decoder.finish()]


def stream(told: list[Event], target: str) -> Told:
    """A stream in another dialect; where it breaks off, or cannot be said, with the failure that the client is told."""
    encoder = DIALECTS[target].encoder(ANSWERING)
    data = b""
    for event in told:
        try:
            data += encoder.encode(event)
        except Fault as fault:
            data += encoder.encode(Failed.of(fault))
            return Told(data, tuple(encoder.losses), refused=fault, failed=True)
        if isinstance(event, Failed):
            return Told(data, tuple(encoder.losses), failed=True)
    return Told(data + encoder.end(), tuple(encoder.losses))


def fault_of(file: File) -> Fault:
    """What an error answer means."""
    about = file.about
    return DIALECTS[file.dialect].decode_fault(about["status"][file.dialect], file.wire(), about.get("retry_after"))


def error(fault: Fault, source: str, target: str) -> Told:
    """An error in another dialect. The provider's own words go only to whoever speaks its dialect."""
    if source != target:
        fault.answer = None
    return Told(DIALECTS[target].encode_fault(fault), status=fault.status)


def folded(told: list[Event]) -> Reply | Fault:
    """The answer a stream tells, or the failure it ends with."""
    try:
        return fold(told)
    except Fault as fault:
        return fault


def frames(dialect: str, data: bytes) -> list[tuple[str, Any]]:
    """The messages of a stream as (name, JSON or text)."""
    if dialect == "bedrock_converse":
        framer = EventStreamFramer()
        found = framer.feed(data)
        assert framer.fault is None
        assert framer.pending == 0
        named = [str(one.headers.get(":event-type") or one.headers.get(":exception-type")) for one in found]
        return [(name, msgspec.json.decode(one.payload)) for name, one in zip(named, found, strict=True)]
    if dialect == "ollama_chat":
        return [("", msgspec.json.decode(line)) for line in data.splitlines() if line]
    return [_event(block) for block in data.decode().replace("\r\n", "\n").split("\n\n") if block]


def _event(block: str) -> tuple[str, Any]:
    name, data = "", []
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data.append(value.removeprefix(" "))
    text = "\n".join(data)
    return name, msgspec.json.decode(text) if text.startswith("{") else text
