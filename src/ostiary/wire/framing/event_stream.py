"""Messages of `application/vnd.amazon.eventstream`, read and written. It must not keep more than one message in memory.

Source: Amazon event stream encoding, as botocore 1.44 reads it (`botocore.eventstream`). All numbers are big-endian:

    total length (4)  length of headers (4)  CRC-32 of these eight bytes (4)
    headers: length of name (1)  name  type (1)  value, by its type
    payload
    CRC-32 of all bytes before it (4)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeAlias
from zlib import crc32

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry

# True and false; numbers, times (milliseconds since 1970) included; bytes, UUIDs included; text.
Header: TypeAlias = bool | int | bytes | str

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_AROUND = _PRELUDE.size + _CRC.size
_MOST_HEADERS = 128 * 1024
EVENT_STREAM = b"application/vnd.amazon.eventstream"
LARGEST_MESSAGE = 25 * 1024 * 1024  # the reference reads payloads of up to 24 MiB
# type of a header -> how its value is read
_NUMBERS = {2: struct.Struct(">b"), 3: struct.Struct(">h"), 4: struct.Struct(">i"), 5: struct.Struct(">q")}
_NUMBERS[8] = _NUMBERS[5]  # a time
_BYTES, _TEXT, _UUID = 6, 7, 9
_UUID_LENGTH = 16


class Message(msgspec.Struct, frozen=True):
    """One message; `raw` are its bytes, so that joining them gives the stream again."""

    headers: Mapping[str, Header]
    payload: bytes
    raw: bytes


class EventStreamFramer:
    """Cuts a stream into messages, each whole and its check sums right.

    `fault` is set where the bytes are no event stream, or a message is longer than `largest`; nothing is read from
    there on. `pending` counts the bytes of an unfinished message.
    """

    __slots__ = ("_buffer", "fault", "largest")

    def __init__(self, largest: int = LARGEST_MESSAGE) -> None:
        self._buffer = bytearray()
        self.largest = largest
        self.fault: Fault | None = None

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished message are held."""
        return len(self._buffer)

    def flush(self) -> bytes:
        """What is left when the stream is over: the start of a message, or nothing."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by `data`, in order. Total."""
        if self.fault is not None:
            return []
        buffer = self._buffer
        buffer += data
        found: list[Message] = []
        start = 0
        while len(buffer) - start >= _PRELUDE.size:
            total, headers, check = _PRELUDE.unpack_from(buffer, start)
            if not self._plausible(total, headers) or check != crc32(buffer[start : start + 8]):
                self._break()
                return found
            if len(buffer) - start < total:
                break
            message = _message(bytes(buffer[start : start + total]), headers)
            if message is None:
                self._break()
                return found
            found.append(message)
            start += total
        del buffer[:start]
        return found

    def _plausible(self, total: int, headers: int) -> bool:
        return headers <= _MOST_HEADERS and _AROUND + headers <= total <= self.largest

    def _break(self) -> None:
        self.fault = Fault(
            Kind.BAD_ANSWER, "the provider's stream is not readable", origin=Origin.UPSTREAM, retry=Retry.NEXT
        )
        self._buffer.clear()


class MessageCutter:
    """Cuts a stream into whole messages, as bytes. `fault` and `largest` are those of its framer."""

    __slots__ = ("_framer",)

    def __init__(self, largest: int = LARGEST_MESSAGE) -> None:
        self._framer = EventStreamFramer(largest)

    @property
    def fault(self) -> Fault | None:
        """See `EventStreamFramer`."""
        return self._framer.fault

    def feed(self, data: bytes) -> list[bytes]:
        """The messages completed by `data`, in order. Total."""
        return [message.raw for message in self._framer.feed(data)]

    def flush(self) -> bytes:
        """What is left when the stream is over: the start of a message, or nothing."""
        return self._framer.flush()


def write_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message. All headers are text, which is what the services of this protocol send."""
    written = b"".join(_header(name, value) for name, value in headers.items())
    start = struct.pack(">II", _AROUND + len(written) + len(payload), len(written))
    message = b"".join((start, _CRC.pack(crc32(start)), written, payload))
    return message + _CRC.pack(crc32(message))


def _header(name: str, value: str) -> bytes:
    named, said = name.encode(), value.encode()
    return b"".join((bytes((len(named),)), named, bytes((_TEXT,)), _LENGTH.pack(len(said)), said))


def _message(raw: bytes, headers_length: int) -> Message | None:
    """A message; None where its check sum or its headers are wrong."""
    end = len(raw) - _CRC.size
    if _CRC.unpack_from(raw, end)[0] != crc32(raw[:end]):
        return None
    payload = _PRELUDE.size + headers_length
    try:
        headers = _headers(raw[_PRELUDE.size : payload])
    except (struct.error, IndexError, ValueError):
        return None
    return Message(headers, raw[payload:end], raw)


def _headers(data: bytes) -> dict[str, Header]:
    """The headers by name.

    Raises:
        struct.error, IndexError, ValueError: they are none, or one stands twice.
    """
    found: dict[str, Header] = {}
    place = 0
    while place < len(data):
        name, place = _take(data, place + 1, data[place])
        value, place = _value(data, place + 1, data[place])
        if name.decode() in found:
            raise ValueError
        found[name.decode()] = value
    return found


def _value(data: bytes, place: int, kind: int) -> tuple[Header, int]:
    number = _NUMBERS.get(kind)
    if number is not None:
        value: int = number.unpack_from(data, place)[0]
        return value, place + number.size
    if kind in (0, 1):
        return kind == 0, place
    length = _UUID_LENGTH if kind == _UUID else _LENGTH.unpack_from(data, place)[0]
    said, place = _take(data, place if kind == _UUID else place + _LENGTH.size, length)
    if kind == _TEXT:
        return said.decode(), place
    if kind not in (_BYTES, _UUID):
        raise ValueError
    return said, place


def _take(data: bytes, place: int, length: int) -> tuple[bytes, int]:
    end = place + length
    if end > len(data):
        raise IndexError
    return data[place:end], end
