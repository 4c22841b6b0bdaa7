"""Events of the Realtime API: what a client asks for, what a provider states, and an error of ours. It must not do I/O.

Source: official Python SDK 3.54, `types.realtime` (and `types.beta.realtime` for the names of the first edition, which
has `transcription_session.update`, `input_audio_transcription` and `max_response_output_tokens`). A client's event is
read whole and written anew before it goes on, so that a member that stands twice cannot mean one thing here and
another to the provider.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import BodyKind, Endpoint, Operation
from ostiary.core.usage import Usage
from ostiary.wire.framing.json_scan import MisshapenError, check_shape

SESSION = "realtime"
RESPONSE = "realtime.response"
TRANSCRIPTION = "realtime.transcription"
ENDPOINT = Endpoint(
    SESSION, Operation.RAW, "GET", "/realtime", BodyKind.NONE, mode="realtime", streams=True, streaming=True,
    prefixes=("/v1", "", "/openai/v1", "/openai"),
)  # fmt: skip
ENDPOINTS = (ENDPOINT,)
# What gives out a secret or a connection by which a client talks to the provider past the gateway.
PAST_US = (
    "/realtime/client_secrets", "/realtime/sessions", "/realtime/transcription_sessions", "/realtime/calls",
)  # fmt: skip

CREATE = "response.create"
APPEND = "input_audio_buffer.append"
_UPDATES = frozenset({"session.update", "transcription_session.update"})
_MOST = 10**12  # beyond this a count is no count
_LONGEST_ID = 512

ClientEvent: TypeAlias = dict[str, object]

_client = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder().encode


def read_client(payload: bytes, max_depth: int) -> ClientEvent:
    """The members of a client's event; `type` is text.

    Raises:
        Fault: MALFORMED.
    """
    try:
        check_shape(payload, max_depth)
        event = _client(payload)
    except (MisshapenError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Fault(Kind.MALFORMED, "the event is not a JSON object, or nests too deep") from None
    if not isinstance(event.get("type"), str):
        raise Fault(Kind.MALFORMED, "the event has no type", param="type")
    return event


def write_client(event: ClientEvent) -> bytes:
    """The event as it goes on."""
    return _encode(event)


def event_id_of(event: ClientEvent) -> str:
    """The id that the client gave the event; empty where it gave none that is one."""
    given = event.get("event_id")
    return given if isinstance(given, str) and len(given) <= _LONGEST_ID else ""


def session_of(event: ClientEvent) -> dict[str, object] | None:
    """The session that an event would change; None for an event that changes none."""
    if event["type"] not in _UPDATES:
        return None
    session = event.get("session")
    return session if isinstance(session, dict) else {}


def transcriptions_of(session: dict[str, object]) -> list[dict[str, object]]:
    """The settings of a session that name a model for transcribing what is said: of either edition of the API."""
    audio = session.get("audio")
    heard = audio.get("input") if isinstance(audio, dict) else None
    found = [heard.get("transcription") if isinstance(heard, dict) else None, session.get("input_audio_transcription")]
    return [each for each in found if isinstance(each, dict)]


def most_output(settings: object) -> int | None:
    """The cap on output tokens of a session or of a response to create; None where none is named."""
    if not isinstance(settings, dict):
        return None
    for name in ("max_output_tokens", "max_response_output_tokens"):
        value = settings.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST:
            return value
    return None


class _Cached(msgspec.Struct):
    audio_tokens: int | None = None


class _Input(msgspec.Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    cached_tokens_details: _Cached | None = None


class _Output(msgspec.Struct):
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: _Input | None = None
    output_token_details: _Output | None = None
    seconds: float | None = None

    def to_usage(self) -> Usage | None:
        """In the house's convention; None where nothing is stated, or nothing that can be meant.

        The API counts cached audio both as audio and as cached; here it counts as cached alone, as it is billed.
        """
        if self.input_tokens is None and self.output_tokens is None and self.seconds is None:
            return None
        ins, outs = self.input_token_details or _Input(), self.output_token_details or _Output()
        twice = ins.cached_tokens_details.audio_tokens or 0 if ins.cached_tokens_details is not None else 0
        counts = (
            self.input_tokens or 0,
            self.output_tokens or 0,
            ins.cached_tokens or 0,
            max((ins.audio_tokens or 0) - max(twice, 0), 0) if (ins.audio_tokens or 0) >= 0 else -1,
            outs.audio_tokens or 0,
            outs.reasoning_tokens or 0,
        )
        seconds = self.seconds or 0.0
        if min(*counts, seconds) < 0 or not max(*counts, seconds) <= _MOST:
            return None
        into, out, cached, heard, spoken, thought = counts
        return Usage(
            into, out, cache_read=cached, audio_input=heard, audio_output=spoken, reasoning=thought,
            milliseconds=round(seconds * 1000),
        )  # fmt: skip


class _Response(msgspec.Struct):
    id: str | None = None
    status: str | None = None
    usage: _Usage | None = None


class _Error(msgspec.Struct):
    event_id: str | None = None


class _Typed(msgspec.Struct):
    type: str = ""


class _Told(msgspec.Struct):
    response: _Response | None = None
    error: _Error | None = None
    usage: _Usage | None = None


class ProviderEvent(msgspec.Struct, frozen=True):
    """What a gateway reads of a provider's event.

    Attributes:
        type: empty for an event that cannot be read.
        item: the response's id, or the `event_id` of the client's event that an error is about.
        status: of a response that is done.
        usage: of a response that is done, or of a transcription; None where none is stated.
    """

    type: str
    item: str = ""
    status: str = ""
    usage: Usage | None = None


CREATED = "response.created"
DONE = "response.done"
ERROR = "error"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_READ = frozenset({CREATED, DONE, ERROR, TRANSCRIBED})
_typed = msgspec.json.Decoder(_Typed).decode
_told = msgspec.json.Decoder(_Told).decode


def read_provider(payload: bytes) -> ProviderEvent:
    """A provider's event. Total: what cannot be read is of no type."""
    try:
        kind = _typed(payload).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ProviderEvent("")
    if kind not in _READ:
        return ProviderEvent(kind)
    try:
        told = _told(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ProviderEvent(kind)
    response = told.response or _Response()
    if kind == ERROR:
        return ProviderEvent(kind, (told.error or _Error()).event_id or "")
    usage = told.usage if kind == TRANSCRIBED else response.usage
    return ProviderEvent(
        kind, response.id or "", response.status or "", usage.to_usage() if usage is not None else None
    )


def cancel_event(response: str) -> bytes:
    """The client's event that ends a response."""
    return _encode({"type": "response.cancel", "response_id": response})


def error_event(fault: Fault, event_id: str, about: str = "") -> bytes:
    """An error as the API tells it.

    Args:
        event_id: of this event.
        about: the client's own id of the event that was refused.
    """
    error = {"type": fault.type, "code": str(fault.kind), "message": fault.public, "param": fault.param}
    return _encode({"type": ERROR, "event_id": event_id, "error": {**error, "event_id": about or None}})
