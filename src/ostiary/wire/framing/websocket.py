"""WebSocket frames and messages, read and written, for either role. It must not negotiate extensions, nor make masks.

Source: RFC 6455. A frame:

    FIN (1 bit)  RSV1-3 (3, always 0: no extension is spoken)  opcode (4)
    MASK (1)  length (7; 126: two bytes follow, 127: eight)
    masking key (4, where MASK is set)  payload

A client masks every frame and a server none (5.1); either breach ends the connection. The shortest form of a length is
required (5.2). Control frames are whole and at most 125 bytes long, and may stand between the frames of a message (5.4,
5.5). What breaks a rule gives one `Violation` with the close code that says which, and nothing is read after it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha1
from typing import Final, NamedTuple, TypeAlias

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
KEY_BYTES = 16

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL: Final = 1002
NOT_TEXT: Final = 1003
NO_CODE: Final = 1005  # stands for a close frame without a code; never sent
BROKEN: Final = 1006  # stands for a connection that ended without a close frame; never sent
BAD_DATA: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011
TRY_LATER: Final = 1013

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

LONGEST_CONTROL = 125
LARGEST_MESSAGE = 16 * 1024 * 1024
MOST_FRAGMENTS = 4096  # of one message: each costs its reader more than its sender
_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
# Codes that may stand in a close frame: those of section 7.4.1 and of the IANA registry, and the private ranges.
_SENDABLE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class Message(NamedTuple):
    """A whole message; `text` has been checked to be UTF-8."""

    payload: bytes
    text: bool


class Ping(NamedTuple):
    """To be answered with a pong of the same payload."""

    payload: bytes


class Pong(NamedTuple):
    """The answer to a ping, or a sign of life."""

    payload: bytes


class Closing(NamedTuple):
    """The peer's close frame. `code` is `NO_CODE` where it has none. Nothing is read after it."""

    code: int
    reason: str


class Violation(NamedTuple):
    """The peer broke a rule: the connection is to be failed with this code (7.1.7)."""

    code: int
    reason: str


Event: TypeAlias = Message | Ping | Pong | Closing | Violation


class WebSocketFramer:
    """Cuts a stream into messages and control frames.

    Args:
        masked: whether the peer masks: True where the peer is the client.
        largest: bytes of a message, in one frame or many.

    `pending` counts the bytes that are held of unfinished frames and messages. `ended` tells that nothing is read any
    more.
    """

    __slots__ = ("_binary", "_buffer", "_fragments", "_held", "_largest", "_masked", "_need", "_pieces", "ended")

    def __init__(self, *, masked: bool, largest: int = LARGEST_MESSAGE) -> None:
        self._masked = masked
        self._largest = largest
        self._buffer = bytearray()
        self._need = 2  # bytes of the buffer before it is worth another look
        self._pieces: list[bytes] = []  # of the unfinished message
        self._held = 0  # their bytes
        self._fragments = 0
        self._binary = False
        self.ended = False

    @property
    def pending(self) -> int:
        """Bytes of unfinished frames and messages."""
        return len(self._buffer) + self._held

    def feed(self, data: bytes) -> list[Event]:
        """What is complete with `data`, in order. Total: any bytes give events."""
        if self.ended:
            return []
        buffer = self._buffer
        buffer += data
        found: list[Event] = []
        start = 0
        while len(buffer) - start >= self._need:
            event, end = self._frame(buffer, start)
            if event is not None:
                found.append(event)
                if isinstance(event, Closing | Violation):
                    self._end()
                    return found
            elif end == start:
                break
            start = end
            self._need = 2
        del buffer[:start]
        return found

    def _end(self) -> None:
        self.ended = True
        self._buffer = bytearray()
        self._pieces = []
        self._held = 0

    def _frame(self, buffer: bytearray, start: int) -> tuple[Event | None, int]:
        """What the frame at `start` completes, and where it ends; its beginning where it is not all there."""
        first, second = buffer[start], buffer[start + 1]
        opcode, final = first & 0x0F, first & 0x80
        why = self._wrong(first, second)
        if why:
            return Violation(PROTOCOL, why), start
        length, at = second & 0x7F, start + 2
        if length > LONGEST_CONTROL:
            size = 2 if length == 126 else 8
            if len(buffer) - at < size:
                self._need = 2 + size
                return None, start
            length = int.from_bytes(buffer[at : at + size])
            at += size
            if length <= LONGEST_CONTROL or (size == 8 and length <= 0xFFFF):
                return Violation(PROTOCOL, "a length is not written in its shortest form"), start
        if opcode < CLOSE and length + self._held > self._largest:
            return Violation(TOO_BIG, "the message is too long"), start
        payload = at + (4 if self._masked else 0)
        end = payload + length
        if len(buffer) < end:
            self._need = end - start
            return None, start
        data = bytes(buffer[payload:end])
        if self._masked:
            data = masked(data, bytes(buffer[at:payload]))
        return (self._control(opcode, data) if opcode >= CLOSE else self._data(opcode, bool(final), data)), end

    def _wrong(self, first: int, second: int) -> str:
        """The rule that the first two bytes of a frame break, if any."""
        opcode = first & 0x0F
        if first & 0x70:
            return "a reserved bit is set, and no extension was agreed on"
        if opcode not in _OPCODES:
            return "an unknown opcode"
        if bool(second & 0x80) is not self._masked:
            return "a frame is not masked" if self._masked else "a frame is masked"
        if opcode >= CLOSE and (not first & 0x80 or second & 0x7F > LONGEST_CONTROL):
            return "a control frame is in fragments, or too long"
        if (opcode == CONTINUATION) is not bool(self._fragments) and opcode < CLOSE:
            return "a message begins within another, or goes on without one"
        return ""

    def _data(self, opcode: int, final: bool, data: bytes) -> Event | None:
        if opcode != CONTINUATION:
            self._binary = opcode == BINARY
        if not final or self._fragments:
            self._pieces.append(data)
            self._held += len(data)
            self._fragments += 1
            if not final:
                over = self._fragments >= MOST_FRAGMENTS
                return Violation(TOO_BIG, "the message is in too many fragments") if over else None
            data = b"".join(self._pieces)
            self._pieces, self._held, self._fragments = [], 0, 0
        if not self._binary and not _is_text(data):
            return Violation(BAD_DATA, "the text is not UTF-8")
        return Message(data, not self._binary)

    def _control(self, opcode: int, data: bytes) -> Event:
        if opcode == PING:
            return Ping(data)
        if opcode == PONG:
            return Pong(data)
        if not data:
            return Closing(NO_CODE, "")
        code = int.from_bytes(data[:2])
        if len(data) == 1 or not may_be_sent(code):
            return Violation(PROTOCOL, "a close frame has no valid code")
        if not _is_text(data[2:]):
            return Violation(BAD_DATA, "the reason is not UTF-8")
        return Closing(code, data[2:].decode())


def encode_frame(opcode: int, payload: bytes, mask: bytes = b"", *, final: bool = True) -> bytes:
    """One frame.

    Args:
        mask: four bytes that nobody can foretell where we are the client; empty for a server.
    """
    length, bit = len(payload), 0x80 if mask else 0
    if length <= LONGEST_CONTROL:
        size = bytes((bit | length,))
    elif length <= 0xFFFF:
        size = bytes((bit | 126,)) + length.to_bytes(2)
    else:
        size = bytes((bit | 127,)) + length.to_bytes(8)
    head = bytes(((0x80 if final else 0) | opcode,)) + size + mask
    return head + (masked(payload, mask) if mask else payload)


def encode_close(code: int, reason: str = "", mask: bytes = b"") -> bytes:
    """A close frame; the reason is cut to what fits. `NO_CODE` gives one without a code.

    Raises:
        ValueError: a code that may not be sent.
    """
    if code == NO_CODE:
        return encode_frame(CLOSE, b"", mask)
    if not may_be_sent(code):
        raise ValueError(f"the close code {code} may not be sent")
    said = reason.encode()[: LONGEST_CONTROL - 2].decode(errors="ignore").encode()
    return encode_frame(CLOSE, code.to_bytes(2) + said, mask)


def masked(data: bytes, mask: bytes) -> bytes:
    """The payload with the mask laid over it, or taken off. One operation over the whole, not one for each byte."""
    size = len(data)
    if not size or mask == b"\0\0\0\0":
        return data
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


def may_be_sent(code: int) -> bool:
    """Whether a code may stand in a close frame (7.4)."""
    return code in _SENDABLE or 3000 <= code <= 4999


def is_key(value: bytes) -> bool:
    """Whether a `Sec-WebSocket-Key` is the base64 of 16 bytes, in its one canonical form (4.1)."""
    try:
        nonce = b64decode(value, validate=True)
    except (NotBase64, ValueError):
        return False
    return len(nonce) == KEY_BYTES and b64encode(nonce) == value


def accept_of(key: bytes) -> bytes:
    """The `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key` (4.2.2)."""
    return b64encode(sha1(key + GUID, usedforsecurity=False).digest())


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated header, without blanks; empty ones left out."""
    return [token for token in (part.strip(b" \t") for part in value.split(b",")) if token]


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
