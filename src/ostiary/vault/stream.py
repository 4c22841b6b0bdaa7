"""A long secret as a row of sealed chunks with a head in clear. It must not touch a file, or open a chunk out of turn.

Layout: magic 'OSBK' (4) | format 1 (1) | length of the head (4) | head, JSON | chunks. A chunk is its length (4, the
highest bit set on the last one) | ciphertext and tag.

HKDF-SHA512(backup key, the stream's random salt, "ostiary/1/backup-stream", instance, region) gives 32 bytes of AES
key and 32 of commitment, so every stream has a key of its own. The nonce of a chunk is its number (11) and whether it
is the last (1); the associated data are all bytes before the first chunk. What is cut, joined, turned round, doubled
or carried to another instance or region therefore does not open. (The construction is STREAM, by Hoang, Reyhanitabar,
Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015.)
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.derive import derived, key_and_commitment

MAGIC = b"OSBK"
FORMAT = 1
SALT_LENGTH = 32
MOST_HEAD = 64 * 1024
MOST_CHUNK = 64 * 1024 * 1024  # a chunk is opened as a whole: the most memory that a stream can make a reader take
_TAG = 16
_LAST = 1 << 31
_PRELUDE = struct.Struct(">4sBI")
_LENGTH = struct.Struct(">I")
_KEY_INFO = b"ostiary/1/backup-stream"
_ID = "backup-stream/id"


class StreamBroken(Fault):
    """A sealed stream that does not open: damaged, cut, put together, or not ours."""

    def __init__(self, why: str) -> None:
        super().__init__(Kind.INTERNAL, f"the backup cannot be read: {why}", origin=Origin.GATEWAY)


class About(msgspec.Struct, frozen=True):
    """What a stream's head says in clear. `made_at` is Unix milliseconds, `master` the id of the master key."""

    instance: str
    region: str
    schema: str
    made_at: int
    master: str


class Head(msgspec.Struct, frozen=True):
    """The head as it stands in the stream: `About`, and what it takes to open the rest (in hexadecimal)."""

    about: About
    key_id: str
    salt: str
    commitment: str


def stream_key_id(key: bytes, instance: str) -> str:
    """The name of a backup key, derived from it: 16 hexadecimal digits that tell nothing of the key."""
    return derived(key, instance, _ID, 8).hex()


class StreamSealer:
    """Seals the chunks of one stream, in order.

    Args:
        key: 32 bytes, `Purpose.BACKUP` of the instance.
        about: becomes part of the head, and of what every chunk is bound to.
    """

    def __init__(self, key: bytes, about: About) -> None:
        salt = os.urandom(SALT_LENGTH)
        secret, commitment = _derived(key, salt, about)
        written = Head(about, stream_key_id(key, about.instance), salt.hex(), commitment.hex())
        body = msgspec.json.encode(written)
        self.head = _PRELUDE.pack(MAGIC, FORMAT, len(body)) + body
        self._cipher = AESGCM(secret)
        self._number = 0
        self._ended = False

    def seal(self, chunk: bytes, *, last: bool = False) -> bytes:
        """The bytes that stand for the next chunk, at most `MOST_CHUNK` bytes long. Nothing follows the last one."""
        if self._ended or len(chunk) > MOST_CHUNK:
            raise ValueError("a stream ends once, and its chunks are bounded")
        sealed = self._cipher.encrypt(_nonce(self._number, last), chunk, self.head)
        self._number += 1
        self._ended = last
        return _LENGTH.pack(len(sealed) | (_LAST if last else 0)) + sealed


class StreamOpener:
    """A stream that was begun to be read. `about` is what its head claims: true once the first chunk has opened.

    Raises:
        StreamBroken: what is in the file is no such stream.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._prelude, head = _read_head(file)
        self._head = head
        self.about = head.about
        self.key_id = head.key_id

    def chunks(self, keys: Sequence[bytes]) -> Iterator[bytes]:
        """The chunks, one after the other; the last one has been given only when the stream was whole.

        Args:
            keys: the instance's backup keys, 32 bytes each; the one that the head names is used.

        Raises:
            Fault: none of the keys is the one that the head names.
            StreamBroken: the stream is damaged, cut, or of another instance or region than its head says.
        """
        cipher = AESGCM(self._secret(keys))
        number, last = 0, False
        while not last:
            sealed, last = self._next()
            try:
                yield cipher.decrypt(_nonce(number, last), sealed, self._prelude)
            except InvalidTag:
                raise StreamBroken(f"part {number + 1} is damaged, or not in its place") from None
            number += 1
        if self._file.read(1):
            raise StreamBroken("something follows its end")

    def _secret(self, keys: Sequence[bytes]) -> bytes:
        named = [key for key in keys if hmac.compare_digest(stream_key_id(key, self.about.instance), self.key_id)]
        if not named:
            public = (
                f"the keystore lacks the key {self.key_id} that the backup was sealed with "
                f"(made under master key {self.about.master}): restore the keystore that belongs to it first"
            )
            raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
        secret, commitment = _derived(named[0], bytes.fromhex(self._head.salt), self.about)
        if not hmac.compare_digest(commitment.hex(), self._head.commitment):
            raise StreamBroken("its head was changed")
        return secret

    def _next(self) -> tuple[bytes, bool]:
        """The next chunk as it is sealed, and whether it says that it is the last."""
        written = self._file.read(_LENGTH.size)
        if len(written) < _LENGTH.size:
            raise StreamBroken("its end is missing")
        (word,) = _LENGTH.unpack(written)
        length = word & (_LAST - 1)
        if not _TAG <= length <= MOST_CHUNK + _TAG:
            raise StreamBroken("it is damaged")
        sealed = self._file.read(length)
        if len(sealed) < length:
            raise StreamBroken("its end is missing")
        return sealed, bool(word & _LAST)


def _read_head(file: BinaryIO) -> tuple[bytes, Head]:
    """The bytes before the first chunk, and what they say."""
    prelude = file.read(_PRELUDE.size)
    if len(prelude) < _PRELUDE.size or not prelude.startswith(MAGIC):
        raise StreamBroken("it is no backup of this program")
    _, version, length = _PRELUDE.unpack(prelude)
    if version != FORMAT:
        raise StreamBroken(f"its format is {version}, and this program knows {FORMAT}: use the program that made it")
    if length > MOST_HEAD:
        raise StreamBroken("its head is damaged")
    body = file.read(length)
    try:
        head = msgspec.json.decode(body, type=Head)
        bytes.fromhex(head.salt)
    except (msgspec.MsgspecError, ValueError):
        raise StreamBroken("its head is damaged") from None
    return prelude + body, head


def _derived(key: bytes, salt: bytes, about: About) -> tuple[bytes, bytes]:
    """The AES key and the commitment, 32 bytes each, of one stream."""
    if len(key) != 32:
        raise ValueError("a backup key has 32 bytes")
    parts = (_KEY_INFO, about.instance.encode(), about.region.encode())
    info = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    return key_and_commitment(key, salt, info)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))
