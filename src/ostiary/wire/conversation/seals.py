"""Proofs of one issuer on their way through another's dialect, to come back with the next request.

A client that speaks one dialect to a provider of another keeps the provider's proofs for it, in the place where its
own dialect keeps proofs: as text of the form `base64("ostiary1\\n" issuer "\\n" place "\\n" value)`. It must not judge
what a proof proves: its issuer does.

Some clients throw away what a model thought and keep only the proofs that stand with its calls. For them whole thoughts
travel with the call after them: the place is "before", and the value a JSON list of [issuer, proof, words, hidden].
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import msgspec

from ostiary.wire.conversation.parts import Reasoning, Seal

_MARK = b"ostiary1\n"  # nine bytes: in base64 always these twelve letters, whatever follows
_PREFIX = "b3N0aWFyeTEK"
_OWN, _NEXT, _BEFORE = b"own", b"next", b"before"
_thoughts = msgspec.json.Decoder(list[tuple[str, str, str, bool]]).decode


def carry(seal: Seal, *, ahead: bool = False) -> str:
    """The text under which a proof travels in a dialect that is not its issuer's. ASCII, standard base64.

    Args:
        ahead: the part it stands with has no proof of its own; it belongs to the part that follows.
    """
    content = b"\n".join((seal.issuer.encode(), _NEXT if ahead else _OWN, seal.value.encode()))
    return base64.b64encode(_MARK + content).decode()


def unproven() -> str:
    """The text that stands for the proof of what has none, for clients that keep only what is proven."""
    return carry(Seal("", ""))


def carried(text: str, dialect: str) -> tuple[Seal, bool]:
    """The proof behind a text that stands where `dialect` keeps proofs, and whether it belongs to the next part.

    Total: what is not of our making is a proof of the dialect's own.
    """
    if not text.startswith(_PREFIX):
        return Seal(dialect, text), False
    try:
        # some clients write what they were given in the other alphabet of base64
        content = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
        issuer, place, value = content[len(_MARK) :].split(b"\n", 2)
        return Seal(issuer.decode(), value.decode()), place == _NEXT
    except (binascii.Error, ValueError):
        return Seal(dialect, text), False


def carry_thoughts(thoughts: Sequence[Reasoning]) -> str:
    """The text under which proven thoughts travel with the call that follows them. ASCII, standard base64."""
    rows = [(one.seal.issuer, one.seal.value, one.text, one.hidden) for one in thoughts if one.seal is not None]
    issuer = rows[0][0] if rows else ""
    return base64.b64encode(_MARK + b"\n".join((issuer.encode(), _BEFORE, msgspec.json.encode(rows)))).decode()


def thoughts_carried(text: str) -> tuple[Reasoning, ...]:
    """The thoughts behind a text that stands with a call; none where it is anything else. Total."""
    if not text.startswith(_PREFIX):
        return ()
    try:
        content = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
        _, place, value = content[len(_MARK) :].split(b"\n", 2)
        rows = _thoughts(value) if place == _BEFORE else []
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return ()
    return tuple(Reasoning(words, Seal(issuer, proof), hidden=hidden) for issuer, proof, words, hidden in rows)
