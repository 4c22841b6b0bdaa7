"""Newline-delimited JSON, framed without reading it. It must not keep more than one line in memory.

Source: the NDJSON convention (one JSON text per line, lines end in LF or CRLF), as Ollama streams it. A frame is a
line's bytes including its end, so that joining the frames gives the stream again. Blank lines are frames, too.
"""

from __future__ import annotations

LARGEST_LINE = 16 * 1024 * 1024


class JsonLinesFramer:
    """Cuts a stream into lines.

    The start of an unfinished line is held as the pieces it came in, so that a long line takes time in proportion to
    its length. It is less than `largest` bytes: a longer line is let go in pieces of that size, which are frames
    without an end, however the stream was cut.
    """

    __slots__ = ("_held", "_pieces", "largest")

    def __init__(self, largest: int = LARGEST_LINE) -> None:
        self.largest = largest
        self._pieces: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by `data`, in order, with their ends."""
        if b"\n" not in data and self._held + len(data) < self.largest:
            self._hold(data)
            return []
        buffer = self.flush() + data
        frames: list[bytes] = []
        start = 0
        while True:
            end = buffer.find(b"\n", start, start + self.largest) + 1
            if not end:
                if len(buffer) - start < self.largest:
                    break
                end = start + self.largest
            frames.append(buffer[start:end])
            start = end
        self._hold(buffer[start:])
        return frames

    def flush(self) -> bytes:
        """What is left when the stream is over: a line without its end, or nothing."""
        rest = b"".join(self._pieces)
        self._pieces, self._held = [], 0
        return rest

    def _hold(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._held += len(data)
