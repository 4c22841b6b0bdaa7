"""Which credential a request carries, from its headers alone. It must not look at the path, the host or the body."""

from __future__ import annotations

from collections.abc import Iterable

from ostiary.core.fault import Fault, Kind

# Every place a client library may put its key. One extractor for all of them.
CARRIERS = frozenset(
    {
        b"authorization",
        b"api-key",
        b"x-api-key",
        b"x-goog-api-key",
        b"ocp-apim-subscription-key",
        b"x-litellm-api-key",
    }
)
LONGEST_CREDENTIAL = 512


def carried(headers: Iterable[tuple[bytes, bytes]], extra: bytes = b"") -> bytes:
    """The one credential of a request without its scheme, whatever it is; empty where there is none.

    Args:
        headers: lower-case names and values.
        extra: a further carrier named by the configuration, lower-case.

    Raises:
        Fault: INVALID_REQUEST for two different ones.
    """
    found = b""
    for name, value in headers:
        if name in CARRIERS or name == extra:
            text = _bare(value)
            if found and text and text != found:
                raise Fault(Kind.INVALID_REQUEST, "the request carries two different credentials")
            found = text or found
    return found


def possible(credential: bytes) -> bool:
    """Whether it can be a key at all: printable ASCII of a sane length."""
    return len(credential) <= LONGEST_CREDENTIAL and credential.isascii() and credential.decode("ascii").isprintable()


def _bare(value: bytes) -> bytes:
    """The credential without its scheme: `Bearer x` and `x` mean the same key."""
    if value[:7].lower() == b"bearer ":
        return value[7:].strip()
    return value.strip()
