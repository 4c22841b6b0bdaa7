"""Who is calling, from the request's headers. It must not look anywhere else, nor ask the store about nonsense."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Protocol

from ostiary.control.access.keytext import possible_key
from ostiary.control.access.permissions import ADMINISTRATOR, Caller, key_caller
from ostiary.core.clock import Clock
from ostiary.core.credential import carried, possible
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey


class KeyFinder(Protocol):
    """Virtual keys by digest."""

    async def find(self, digest: bytes) -> VirtualKey | None:
        """The key with this digest, or None.

        Raises:
            Fault: UNAVAILABLE when the store cannot be asked.
        """
        ...


class Callers:
    """The administrator and the holders of virtual keys.

    Args:
        keys: where virtual keys are found.
        digest: the keyed digest of a key's text.
        admin_digest: the digest of the administrator's key now in force; empty when there is none.
        clock: for expiry.
        header: a further header that may carry the key, lower-case.
    """

    def __init__(
        self,
        keys: KeyFinder,
        digest: Callable[[str], bytes],
        admin_digest: Callable[[], bytes],
        clock: Clock,
        *,
        header: str = "",
    ) -> None:
        self._keys = keys
        self._digest = digest
        self._admin_digest = admin_digest
        self._clock = clock
        self._header = header.encode()

    async def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller behind a request's headers (lower-case names).

        Raises:
            Fault: UNAUTHENTICATED, BLOCKED_KEY or EXPIRED_KEY; INVALID_REQUEST for two different credentials;
                UNAVAILABLE when the store cannot be asked.
        """
        text = self._credential(headers)
        digest, admin = self._digest(text), self._admin_digest()
        if admin and hmac.compare_digest(digest, admin):
            return ADMINISTRATOR
        key = await self._keys.find(digest) if possible_key(text) else None
        if key is None:
            raise Fault(Kind.UNAUTHENTICATED, "the key is not valid")
        if key.blocked:
            raise Fault(Kind.BLOCKED_KEY, "the virtual key is blocked", origin=Origin.POLICY)
        if key.expires is not None and self._clock.now() >= key.expires:
            raise Fault(Kind.EXPIRED_KEY, "the virtual key has expired", origin=Origin.POLICY)
        return key_caller(key)

    def _credential(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        found = carried(headers, self._header)
        if not found:
            raise Fault(Kind.UNAUTHENTICATED, "no credential: send a key as 'Authorization: Bearer sk-…'")
        if not possible(found):
            raise Fault(Kind.UNAUTHENTICATED, "the key is not valid")
        return found.decode("ascii")
