"""The built-in `demo` model: a small, honest answer made in-process, streamed or whole. It must not open a socket.

It lets somebody try the gateway before he has a provider's key. It speaks the OpenAI dialect like a provider would,
through the same `Response` and the same codec, so that everything behind it (relay, meter, ledger) is the real thing.
Words count as tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.gateway.upstream.response import Response
from ostiary.wire.conversation.conversation import Conversation, Message
from ostiary.wire.conversation.events import Event, Finished, Metered, PartDelta, PartEnd, PartStart
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import Text, ToolResult
from ostiary.wire.conversation.reply import Finish, Reason
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_chat.faults import encode_fault
from ostiary.wire.dialects.openai_chat.reply import encode_reply
from ostiary.wire.dialects.openai_chat.request import decode_request
from ostiary.wire.dialects.openai_chat.stream_encode import StreamEncoder

WORD_SECONDS = 0.02  # between two words of a stream
_TEXT = (
    "This is the demo model of Ostiary. It runs inside the gateway and understands nothing, "
    "but your request has passed the door: the key was checked, the limits were held, and the ledger has it."
)
_JSON = [(b"content-type", b"application/json")]
_EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
_encode = msgspec.json.encode


class _Asked(msgspec.Struct):
    model: str = "demo"
    stream: bool | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: str | list[object] | None = None


class Demo:
    """Answers for the demo deployment.

    Args:
        now: Unix seconds, for `created`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self._now = now

    def send(self, endpoint: str, body: bytes) -> Response:
        """The answer to a request body, as if it had come from a provider."""
        try:
            if endpoint == "chat.completions":
                return self._chat(decode_request(body))
            asked = msgspec.json.decode(body, type=_Asked)
        except Fault as fault:
            return _whole(fault.status, encode_fault(fault))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _refused(400, "the demo model cannot read this request")
        if endpoint == "embeddings":
            return _whole(200, _encode(self._embeddings(asked)))
        if endpoint == "completions":
            return self._completion(asked)
        return _refused(404, f"the demo model does not serve {endpoint}")

    def _chat(self, asked: Conversation) -> Response:
        created = int(self._now())
        answering = Answering(id=f"demo{created:x}", created=created, model=asked.model or "demo", asked=asked)
        events = _told(Usage(_words_in(asked) + 1, len(_TEXT.split())))
        if not asked.stream:
            return _whole(200, encode_reply(fold(events), answering).body)
        encoder = StreamEncoder(answering)
        return self._stream([*map(encoder.encode, events), encoder.end()])

    def _completion(self, asked: _Asked) -> Response:
        into, out = len(bytes(asked.prompt)) // 4 + 1, len(_TEXT.split())
        usage = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
        created = int(self._now())
        head = {"object": "text_completion", "created": created, "model": asked.model}
        frame: dict[str, object] = {"id": f"cmpl-demo{created:x}", **head}
        if not asked.stream:
            return _whole(200, _encode({**frame, "choices": [_choice(_TEXT, "stop")], "usage": usage}))
        events = [_event({**frame, "choices": [_choice(word, None)]}) for word in _words()]
        events.append(_event({**frame, "choices": [_choice("", "stop")]}))
        return self._stream([*events, _event({**frame, "choices": [], "usage": usage}) + b"data: [DONE]\n\n"])

    def _embeddings(self, asked: _Asked) -> dict[str, object]:
        texts = asked.input if isinstance(asked.input, list) else [asked.input or ""]
        rows = [
            {"object": "embedding", "index": index, "embedding": [((index + step) % 7 - 3) / 8 for step in range(8)]}
            for index in range(len(texts))
        ]
        tokens = sum(len(str(text)) for text in texts) // 4 + 1
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": rows, "model": asked.model, "usage": usage}

    def _stream(self, events: list[bytes]) -> Response:
        playback = _Playback()
        response = Response(playback, 200, _EVENTS, close_delimited=False)
        playback.play(self._loop, response, [event for event in events if event])
        return response


class _Playback:
    """The source of a demo stream: an event every `WORD_SECONDS`, held while the client does not read."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._next: Callable[[], None] | None = None
        self._held = False

    def play(self, loop: asyncio.AbstractEventLoop, response: Response, events: list[bytes]) -> None:
        """Deliver the events in time, then the end."""
        left = iter(events)

        def step() -> None:
            if self._held:
                self._next = step
                return
            event = next(left, None)
            if event is None:
                response.finish()
                return
            if response.sink is not None:
                response.sink.on_data(event)
            else:
                response.keep(event)
            self._timer = loop.call_later(WORD_SECONDS, step)

        self._timer = loop.call_soon(step)  # type: ignore[assignment]  # both can be cancelled

    def abort(self) -> None:
        """Nobody listens any more."""
        if self._timer is not None:
            self._timer.cancel()

    def hold(self) -> None:
        """Wait with the next event."""
        self._held = True

    def unhold(self) -> None:
        """Go on."""
        self._held = False
        step, self._next = self._next, None
        if step is not None:
            step()


def _words() -> list[str]:
    words = _TEXT.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]


def _told(usage: Usage) -> list[Event]:
    """The answer in the order it is told."""
    deltas = [PartDelta(0, 0, word) for word in _words()]
    return [PartStart(0, 0, Text("")), *deltas, PartEnd(0, 0), Finished(0, Finish(Reason.STOP)), Metered(usage)]


def _words_in(asked: Conversation) -> int:
    turns = [message for message in asked.messages if isinstance(message, Message)]
    parts = [part for turn in turns for part in turn.parts]
    parts += [inner for part in parts if isinstance(part, ToolResult) for inner in part.parts]
    return sum(len(part.text.split()) for part in parts if isinstance(part, Text))


def _choice(text: str, finish: str | None) -> dict[str, object]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}


def _event(document: dict[str, object]) -> bytes:
    return b"data: " + _encode(document) + b"\n\n"


def _whole(status: int, body: bytes) -> Response:
    response = Response(_Playback(), status, _JSON, close_delimited=False)
    response.keep(body)
    response.finish()
    return response


def _refused(status: int, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return _whole(status, _encode({"error": error}))
