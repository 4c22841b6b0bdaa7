"""Watching a stream while it is relayed: usage, end and errors are seen, the bytes stay as they are.

It must not hold back what it has no reason to hold, and must not let a broken stream look like a whole one.

Every event is decoded (half a microsecond: only usage, error and finish reasons are built), so that an error or rubbish
in place of an event is seen wherever it comes. Data that is exactly one event, as most are, skips the framer. `[DONE]`,
or the transport's end after each choice's finish reason, is a whole stream; anything else is a truncated one.
"""

from __future__ import annotations

import re

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.usage import ABSENT, WireUsage, bad_answer, hidden_error
from ostiary.wire.framing.sse import SseFramer, event_data


class _Choice(msgspec.Struct):
    index: int | str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    usage: WireUsage | None = None
    error: msgspec.Raw = ABSENT
    choices: list[_Choice] | None = None


_chunk = msgspec.json.Decoder(_Chunk).decode
DONE = b"[DONE]"
_MOST_CHOICES = 128  # the most that can be asked for; beyond it they are not told apart
# A provider that was asked for usage puts this on every chunk; a client that did not ask never sees it. Inside a JSON
# string the quotes would be escaped, so these bytes are a member and nothing else.
_NO_USAGE = b',"usage":null'
_NO_USAGE_SPACED = re.compile(rb',\s*"usage"\s*:\s*null')


class StreamTap:
    """Reads one stream on its way through.

    Attributes:
        usage: the last usage the provider stated.
        chunks: events with data seen so far; about one token each, for an estimate.
        finished: every choice that began has come to its finish reason.
        done: `[DONE]` was seen; nothing after it is passed on.
        fault: the error event or rubbish that took the place of the answer, if any.
    """

    __slots__ = ("_begun", "_ended", "_framer", "_strip_usage", "chunks", "done", "fault", "finished", "usage")

    def __init__(self, *, strip_usage: bool) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.finished = False
        self.done = False
        self.fault: Fault | None = None
        self._strip_usage = strip_usage
        self._framer = SseFramer()
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on for the bytes that came in."""
        if (
            not self._framer.pending
            and data.startswith(b"data: {")
            and data.endswith(b"}\n\n")
            and data.count(b"\n") == 2
            and b"\r" not in data
        ):
            return self._pass(data, data[6:-2]) if self._open else b""
        passed = b""
        for frame in self._framer.feed(data):
            if self._open:
                passed += self._pass(frame, event_data(frame))
        return passed

    def finish(self) -> bytes:
        """The stream is over: judge what is left. Returns the last bytes to pass on."""
        rest = self._framer.flush()
        return self._pass(rest, event_data(rest)) if rest and self._open else b""

    @property
    def _open(self) -> bool:
        return not self.done and self.fault is None

    @property
    def whole(self) -> bool:
        """Whether the stream came to a normal end, given that the transport's end has come."""
        return self.done or (self.finished and self.fault is None)

    def _pass(self, frame: bytes, data: bytes | None) -> bytes:
        """Read one event; what of it is passed on."""
        if data is None:
            return frame  # a comment
        try:
            chunk = _chunk(data)
        except msgspec.ValidationError:  # a bracket where an object should be is seen before the JSON is
            self.done = data.strip() == DONE
            self.chunks += not self.done
            return frame  # a shape we do not know is the client's to judge
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.fault = bad_answer()
            return b""
        self.chunks += 1
        if chunk.error is not ABSENT and bytes(chunk.error) != b"null":
            self.fault = hidden_error(data)
            return b""
        for choice in chunk.choices or ():
            index = choice.index if isinstance(choice.index, int) and 0 < choice.index < _MOST_CHOICES else 0
            (self._ended if choice.finish_reason else self._begun).add(index)
            self.finished = bool(self._ended) and self._begun <= self._ended
        if chunk.usage is None:
            return _without_null_usage(frame) if self._strip_usage else frame
        self.usage = chunk.usage.to_usage() or self.usage
        return b"" if self._strip_usage and not chunk.choices else frame


def _without_null_usage(frame: bytes) -> bytes:
    if _NO_USAGE in frame:
        return frame.replace(_NO_USAGE, b"")
    return _NO_USAGE_SPACED.sub(b"", frame) if b'"usage"' in frame else frame
