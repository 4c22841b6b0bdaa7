"""The dialect's name, and the decoders of plain values. It must not know where they stand."""

from __future__ import annotations

import msgspec

from ostiary.wire.conversation.members import Members

DIALECT = "openai_chat"
COMPLETIONS = "openai_completions"
FAMILY = frozenset({DIALECT, COMPLETIONS})  # of one envelope, usage and framing
STRING = msgspec.json.Decoder(str)
INTEGER = msgspec.json.Decoder(int)
FLAG = msgspec.json.Decoder(bool)
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])


def object_of(members: Members, name: str) -> msgspec.Raw | None:
    """A member that is an object, as it stands; any other value is left."""
    raw = members.take(name, RAW)
    if raw is not None and not bytes(raw).startswith(b"{"):
        members.put_back(name, raw)
        return None
    return raw
