"""Proofs of one issuer on their way through another's dialect, to come back with the next request.

A client that speaks one dialect to a provider of another keeps the provider's proofs for it, in the place where its
own dialect keeps proofs: as text of the form `base64("ostiary1\\n" issuer "\\n" place "\\n" value)`. It must not judge
what a proof proves: its issuer does.
"""

from __future__ import annotations

import base64
import binascii

from ostiary.wire.conversation.parts import Seal

_MARK = b"ostiary1\n"  # nine bytes: in base64 always these twelve letters, whatever follows
_PREFIX = "b3N0aWFyeTEK"
_OWN, _NEXT = b"own", b"next"


def carry(seal: Seal, *, ahead: bool = False) -> str:
    """The text under which a proof travels in a dialect that is not its issuer's. ASCII, standard base64.

    Args:
        ahead: the part it stands with has no proof of its own; it belongs to the part that follows.
    """
    content = b"\n".join((seal.issuer.encode(), _NEXT if ahead else _OWN, seal.value.encode()))
    return base64.b64encode(_MARK + content).decode()


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
