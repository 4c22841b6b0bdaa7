"""Watching the events of a relayed operation (`Operation.RAW`): pictures, transcripts, speech. It must strip nothing.

These streams have no `[DONE]` and no choices. Each kind names its last event `….completed` or `….done` (OpenAI API
reference, streaming events of images, transcriptions and speech); where a provider sends none of these, the announced
end of the transport is the end of the stream. Data that is no JSON object is the client's to judge.
"""

from __future__ import annotations

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.tap import DONE
from ostiary.wire.dialects.openai_chat.usage import ABSENT, WireUsage, hidden_error
from ostiary.wire.framing.sse import SseFramer, event_data


class _Event(msgspec.Struct):
    type: str = ""
    usage: WireUsage | None = None
    error: msgspec.Raw = ABSENT


_event = msgspec.json.Decoder(_Event).decode
_LAST = (".completed", ".done")


class EventTap:
    """Reads one stream on its way through; every event goes on as it came, but for an error.

    Args:
        announced: the transport will say where the body ends, so that its end can be trusted.

    Attributes:
        usage: the last usage the provider stated.
        chunks: always 0, since these events are not tokens: a stream without a measure costs its estimate.
        done: `[DONE]` was seen; nothing after it is passed on.
        fault: the error event that took the place of the answer, if any.
    """

    __slots__ = ("_announced", "_framer", "_last_seen", "chunks", "done", "fault", "usage")

    def __init__(self, *, announced: bool) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.done = False
        self.fault: Fault | None = None
        self._announced = announced
        self._last_seen = False
        self._framer = SseFramer()

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on for the bytes that came in: whole events."""
        passed = [self._pass(frame) for frame in self._framer.feed(data)]
        return b"".join(passed)

    def finish(self) -> bytes:
        """The stream is over: judge what is left. Returns the last bytes to pass on."""
        return self._pass(self._framer.flush())

    @property
    def whole(self) -> bool:
        """Whether the stream came to a normal end, given that the transport's end has come."""
        return self.fault is None and (self.done or self._last_seen or self._announced)

    def _pass(self, frame: bytes) -> bytes:
        if self.done or self.fault is not None:
            return b""
        data = event_data(frame)
        if data is None:
            return frame  # a comment
        try:
            event = _event(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.done = data.strip() == DONE
            return frame
        if event.type == "error" or (event.error is not ABSENT and bytes(event.error) != b"null"):
            self.fault = hidden_error(data)
            return b""
        self._last_seen = self._last_seen or event.type.endswith(_LAST)
        if event.usage is not None:
            self.usage = event.usage.to_usage() or self.usage
        return frame
