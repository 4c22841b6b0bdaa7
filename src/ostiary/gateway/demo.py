"""The built-in `demo` model: a small, honest answer made in-process, streamed or whole. It must not open a socket.

It lets somebody try the gateway before he has a provider's key. It speaks the OpenAI dialect like a provider would,
through the same `Response`, so that everything behind it (relay, meter, ledger) is the real thing. Words count as
tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from ostiary.gateway.upstream.response import Response

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
    messages: list[msgspec.Raw] = []
    prompt: msgspec.Raw | None = None
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
            asked = msgspec.json.decode(body, type=_Asked)
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = {"message": "the demo model cannot read this request", "type": "invalid_request_error"}
            return self._whole(400, {"error": {**error, "param": None, "code": None}})
        size = sum(len(bytes(message)) for message in asked.messages) + len(bytes(asked.prompt or b""))
        usage = _usage(size // 4 + 1, len(_TEXT.split()))
        if endpoint == "embeddings":
            return self._whole(200, self._embeddings(asked))
        if endpoint not in ("chat.completions", "completions"):
            message = f"the demo model does not serve {endpoint}"
            return self._whole(404, {"error": {"message": message, "type": "not_found_error"}})
        chat = endpoint == "chat.completions"
        if asked.stream:
            return self._stream(asked.model, usage, chat=chat)
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None}
        said = {"message": {"role": "assistant", "content": _TEXT, "refusal": None}} if chat else {"text": _TEXT}
        kind = "chat.completion" if chat else "text_completion"
        return self._whole(200, {**self._frame(kind, asked.model), "choices": [{**choice, **said}], "usage": usage})

    def _frame(self, kind: str, model: str) -> dict[str, object]:
        prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
        created = int(self._now())
        return {"id": f"{prefix}-demo{created:x}", "object": kind, "created": created, "model": model}

    def _embeddings(self, asked: _Asked) -> dict[str, object]:
        texts = asked.input if isinstance(asked.input, list) else [asked.input or ""]
        rows = [
            {"object": "embedding", "index": index, "embedding": [((index + step) % 7 - 3) / 8 for step in range(8)]}
            for index in range(len(texts))
        ]
        tokens = sum(len(str(text)) for text in texts) // 4 + 1
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": rows, "model": asked.model, "usage": usage}

    def _whole(self, status: int, document: dict[str, object]) -> Response:
        response = Response(_Playback(), status, _JSON, close_delimited=False)
        response.keep(_encode(document))
        response.finish()
        return response

    def _stream(self, model: str, usage: dict[str, int], *, chat: bool) -> Response:
        frame = self._frame("chat.completion.chunk" if chat else "text_completion", model)
        events = [_event({**frame, "choices": [_choice(chat, word)]}) for word in _words()]
        events.append(_event({**frame, "choices": [_choice(chat, "", finish="stop")]}))
        events.append(_event({**frame, "choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        playback = _Playback()
        response = Response(playback, 200, _EVENTS, close_delimited=False)
        playback.play(self._loop, response, events)
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


def _choice(chat: bool, text: str, *, finish: str | None = None) -> dict[str, object]:
    delta = {"role": "assistant", "content": text} if finish is None else {}
    said: dict[str, object] = {"delta": delta} if chat else {"text": text}
    return {"index": 0, **said, "logprobs": None, "finish_reason": finish}


def _event(document: dict[str, object]) -> bytes:
    return b"data: " + _encode(document) + b"\n\n"


def _usage(into: int, out: int) -> dict[str, int]:
    return {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
