"""Watching a stream while it is relayed: usage, end and errors are seen, the bytes stay as they are.

It must not hold back what it has no reason to hold, and must not let a broken stream look like a whole one.

The tap's states. A stream begins unjudged: its first event is always decoded, so that an error or rubbish in place of
an answer is seen before anything is sent. After that, data that ends on an event boundary and has none of the marks
(`"usage":{`, `"error"`, `[DONE]`, a finish reason) is passed on as it came. Data with a mark, or cut inside an event,
is framed and its events are decoded one by one. `[DONE]`, or the transport's end after a finish reason, is a whole
stream; anything else is a truncated one.
"""

from __future__ import annotations

import re

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.reply import ABSENT, WireUsage, bad_answer, hidden_error
from ostiary.wire.framing.sse import SseFramer, event_data


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    usage: WireUsage | None = None
    error: msgspec.Raw = ABSENT
    choices: list[_Choice] | None = None


_chunk = msgspec.json.Decoder(_Chunk).decode
DONE = b"[DONE]"
# A provider that was asked for usage puts this on every chunk; a client that did not ask never sees it. Inside a JSON
# string the quotes would be escaped, so these bytes are a member and nothing else.
_NO_USAGE = b',"usage":null'
_NO_USAGE_SPACED = re.compile(rb',\s*"usage"\s*:\s*null')


class StreamTap:
    """Reads one stream on its way through.

    Attributes:
        usage: the last usage the provider stated.
        chunks: events with data seen so far; about one token each, for an estimate.
        finished: a finish reason was seen.
        done: `[DONE]` was seen; nothing after it is passed on.
        fault: the error event or rubbish that took the place of the answer, if any.
    """

    __slots__ = ("_framer", "_strip_usage", "_unjudged", "chunks", "done", "fault", "finished", "usage")

    def __init__(self, *, strip_usage: bool) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.finished = False
        self.done = False
        self.fault: Fault | None = None
        self._strip_usage = strip_usage
        self._unjudged = True
        self._framer = SseFramer()

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on for the bytes that came in."""
        if (
            not self._unjudged
            and not self._framer.pending
            and data.endswith(b"\n\n")
            and b'"usage":{' not in data
            and b'"error"' not in data
            and b'"finish_reason":"' not in data
            and b"[DONE]" not in data
            and b'": ' not in data
        ):
            self.chunks += data.count(b"data:")
            return data.replace(_NO_USAGE, b"") if self._strip_usage else data
        passed = []
        for frame in self._framer.feed(data):
            if self.done or self.fault is not None:
                break
            if self._keep(frame):
                passed.append(_NO_USAGE_SPACED.sub(b"", frame) if self._strip_usage else frame)
        return b"".join(passed)

    def finish(self) -> bytes:
        """The stream is over: judge what is left. Returns the last bytes to pass on."""
        rest = self._framer.flush()
        if rest and not self.done and self.fault is None and self._keep(rest):
            return rest
        return b""

    @property
    def whole(self) -> bool:
        """Whether the stream came to a normal end, given that the transport's end has come."""
        return self.done or (self.finished and self.fault is None)

    def _keep(self, frame: bytes) -> bool:
        """Read one event; False for one that is not passed on."""
        data = event_data(frame)
        if data is None:
            return True
        if data.strip() == DONE:
            self.done = True
            return True
        self.chunks += 1
        try:
            chunk = _chunk(data)
        except msgspec.ValidationError:
            self._unjudged = False
            return True  # a shape we do not know is the client's to judge
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.fault = bad_answer()
            return False
        if chunk.error is not ABSENT and bytes(chunk.error) != b"null":
            self.fault = hidden_error(data)
            return False
        self._unjudged = False
        if chunk.choices:
            self.finished = self.finished or any(choice.finish_reason for choice in chunk.choices)
        if chunk.usage is None:
            return True
        self.usage = chunk.usage.to_usage() or self.usage
        return not (self._strip_usage and not chunk.choices)
