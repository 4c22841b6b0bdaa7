"""A root key wrapped by a key service, bound to its context. It must not keep the root, nor store what does not open.

A wrapped root is `OSK`, format 1, the length and name of the kind of service, and the service's own ciphertext. Inside
that ciphertext stand SHA-256 of the context and the root: the context holds even where a service cannot bind one
(RSA), or is too old to (it would not say so). Where it can, it gets the context as well and refuses by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from ostiary.vault.kms.client import SECONDS
from ostiary.vault.kms.faults import KeyServiceRefused, KeyServiceUnreachable, WrongKey

ROOT_LENGTH = 32

_MAGIC = b"OSK\x01"
_DIGEST_LENGTH = 32


class KeyService(Protocol):
    """One key of one key service.

    Attributes:
        kind: the scheme of its URI.
        id: the key's name at the service; no secret.
        where: host and port, for messages.
    """

    kind: str
    id: str
    where: str

    async def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """The service's ciphertext of at most 64 bytes."""
        ...

    async def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """What was encrypted.

        Raises:
            WrongKey: by another key, or for another context where the service can tell.
        """
        ...


class KmsRoot:
    """Wraps and unwraps root keys by a key service.

    Attributes:
        kind: the scheme of the service's URI, stored in what it wraps.
        id: the key's name at the service.

    Every method raises:
        KeyServiceUnreachable: no answer in 10 s, or "later" (UNAVAILABLE; may be tried again, which the caller does).
        KeyServiceRefused: denied, disabled, pending deletion, gone, of another sort (INTERNAL).
    """

    def __init__(self, service: KeyService, *, seconds: float = SECONDS) -> None:
        self.kind = service.kind
        self.id = service.id
        self._service = service
        self._seconds = seconds

    async def wrap(self, root: bytes, context: Mapping[str, str]) -> bytes:
        """The 32 bytes of `root`, wrapped for `context`, and opened again: what would not open is not handed out."""
        if len(root) != ROOT_LENGTH:
            raise ValueError("a root key has 32 bytes")
        bound = digest_of(context) + root
        async with self._deadline():
            ciphertext = await self._service.encrypt(bound, context)
        async with self._deadline():
            opened = await self._service.decrypt(ciphertext, context)
        if not hmac.compare_digest(opened, bound):
            raise KeyServiceRefused(self.id, "it does not give back what it was given; nothing was stored")
        kind = self.kind.encode()
        return _MAGIC + bytes((len(kind),)) + kind + ciphertext

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The root that was wrapped for `context`.

        Raises:
            WrongKey: by another service or key, for another context, or damaged.
        """
        ciphertext = self._unframed(wrapped)
        async with self._deadline():
            bound = await self._service.decrypt(ciphertext, context)
        if len(bound) != _DIGEST_LENGTH + ROOT_LENGTH or not hmac.compare_digest(
            bound[:_DIGEST_LENGTH], digest_of(context)
        ):
            raise WrongKey(self.id)
        return bound[_DIGEST_LENGTH:]

    async def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The same root under the newest version of the service's key, for after a rotation there.

        Raises:
            WrongKey: as `unwrap`.
        """
        return await self.wrap(await self.unwrap(wrapped, context), context)

    def __repr__(self) -> str:
        return f"KmsRoot(kind={self.kind}, id={self.id})"

    def _unframed(self, wrapped: bytes) -> bytes:
        start = len(_MAGIC) + 1
        if not wrapped.startswith(_MAGIC) or len(wrapped) <= start:
            raise WrongKey(self.id, "it was not wrapped by a key service, or it is damaged")
        end = start + wrapped[start - 1]
        if wrapped[start:end] != self.kind.encode():
            raise WrongKey(self.id, "it was wrapped by another kind of key service, or it is damaged")
        return wrapped[end:]

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """The time that one operation has, tokens included."""
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise KeyServiceUnreachable(self._service.where, f"no answer in {self._seconds:g} s") from None


def canonical(context: Mapping[str, str]) -> bytes:
    """One byte string for a context, whatever its order: names and values, each with its length before it."""
    texts = [text.encode() for pair in sorted(context.items()) for text in pair]
    return b"".join(struct.pack(">I", len(text)) + text for text in texts)


def digest_of(context: Mapping[str, str]) -> bytes:
    """The 32 bytes that stand for a context inside the ciphertext."""
    return hashlib.sha256(b"ostiary/1/kms-context" + canonical(context)).digest()
