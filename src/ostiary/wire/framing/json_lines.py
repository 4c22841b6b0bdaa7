"""Newline-delimited JSON, framed without reading it. It must not keep more than one line in memory.

Source: the NDJSON convention (one JSON text per line, lines end in LF or CRLF), as Ollama streams it. A frame is a
line's bytes including its end, so that joining the frames gives the stream again. Blank lines are frames, too.
"""

from __future__ import annotations

LARGEST_LINE = 16 * 1024 * 1024


class JsonLinesFramer:
    """Cuts a stream into lines.

    `pending` holds the start of an unfinished line, never more than `largest` bytes: a longer line is let go in pieces
    of that size, which are frames without an end, however the stream was cut.
    """

    __slots__ = ("_scanned", "largest", "pending")

    def __init__(self, largest: int = LARGEST_LINE) -> None:
        self.pending = b""
        self.largest = largest
        self._scanned = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by `data`, in order, with their ends."""
        buffer = self.pending + data if self.pending else data
        frames: list[bytes] = []
        start, position = 0, self._scanned
        while True:
            end = buffer.find(b"\n", position, start + self.largest)
            if end >= 0:
                frames.append(buffer[start : end + 1])
                start = position = end + 1
            elif len(buffer) - start >= self.largest:
                frames.append(buffer[start : start + self.largest])
                start = position = start + self.largest
            else:
                break
        self.pending = buffer[start:] if start else buffer
        self._scanned = len(self.pending)
        return frames

    def flush(self) -> bytes:
        """What is left when the stream is over: a line without its end, or nothing."""
        rest, self.pending, self._scanned = self.pending, b"", 0
        return rest
