"""How a record becomes the bytes of a journal entry: a port, so that entries can be sealed. It must not know files."""

from __future__ import annotations

from typing import Protocol

import msgspec

from ostiary.core.record import Record


class Codec(Protocol):
    """How a record becomes bytes. `decode` raises ValueError for bytes that are no record."""

    def encode(self, record: Record) -> bytes: ...

    def decode(self, payload: bytes) -> Record: ...


class PlainCodec:
    """MessagePack, unsealed."""

    __slots__ = ("_decoder", "encode")

    def __init__(self) -> None:
        self.encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(Record)

    def decode(self, payload: bytes) -> Record:
        """The record. Raises ValueError."""
        try:
            return self._decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise ValueError("not a record") from error
