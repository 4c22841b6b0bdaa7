"""Server-sent events, framed without touching them. It must not keep more than one event in memory.

Source: WHATWG HTML, 9.2.5 and 9.2.6. An event ends at an empty line; lines end in LF, CRLF or CR. A frame is the
event's bytes including its blank line, so that joining the frames gives the stream again.
"""

from __future__ import annotations

import re

# The blank line that ends an event: the end of a line, and of an empty one. A CR at the very end of the data may still
# be followed by its LF.
_BLANK = re.compile(rb"(?:\n|\r(?!\n))(?:\n|\r\n?)")
LARGEST_EVENT = 16 * 1024 * 1024


class SseFramer:
    """Cuts a stream into events.

    `pending` holds the start of an unfinished event. An event beyond `largest` bytes is let go in pieces, so that
    memory stays bounded; its pieces are frames without an end.
    """

    __slots__ = ("_scanned", "largest", "pending")

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self.pending = b""
        self.largest = largest
        self._scanned = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events completed by `data`, in order."""
        buffer = self.pending + data if self.pending else data
        frames: list[bytes] = []
        start = 0
        position = max(self._scanned - 3, 0)
        while match := _BLANK.search(buffer, position):
            end = match.end()
            if end == len(buffer) and buffer.endswith(b"\r"):
                break  # its LF may be the next byte
            frames.append(buffer[start:end])
            start = position = end
        self.pending = buffer[start:] if start else buffer
        self._scanned = len(self.pending)
        if len(self.pending) > self.largest:
            frames.append(self.pending)
            self.pending, self._scanned = b"", 0
        return frames

    @property
    def fault(self) -> None:
        """Any bytes are events, if need be without data."""
        return None

    def flush(self) -> bytes:
        """What is left when the stream is over: an event without its blank line, or nothing."""
        rest, self.pending, self._scanned = self.pending, b"", 0
        return rest


def event_data(frame: bytes) -> bytes | None:
    """The `data` of an event, its lines joined by LF; None for an event without data, such as a comment."""
    if frame.startswith(b"data: ") and frame.endswith(b"\n\n") and b"\r" not in frame and frame.count(b"\n") == 2:
        return frame[6:-2]  # the shape of nearly every event
    if frame.startswith(b"event: ") and frame.endswith(b"\n\n") and b"\r" not in frame and frame.count(b"\n") == 3:
        second = frame.index(b"\n") + 1
        if frame.startswith(b"data: ", second):
            return frame[second + 6 : -2]  # and that of those with a name
    lines = []
    for line in frame.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines) if lines else None


def sse_event(data: bytes, name: bytes = b"") -> bytes:
    """An event of one line of data. Line breaks in `data`, a JSON text, are white space between its tokens."""
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"event: %s\ndata: %s\n\n" % (name, data) if name else b"data: %s\n\n" % data
