"""The key index: the accounts of the virtual keys in use, found by keyed digest. It must not hold a key's text.

The index is bounded: beyond `capacity` the accounts that rested longest are let go, but never one with a request
under way or with spend the store does not know yet. Unknown digests are remembered for a second, so that a client
with a wrong key does not reach the store with each try. A change that overtakes a look-up of the same key makes it
look again, so that no row from before the change comes to rest here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

import msgspec

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.ids import well_formed_key
from ostiary.core.key import ADMIN_KEY_ID, VirtualKey
from ostiary.gateway.ledger.account import Account
from ostiary.gateway.policy.identify import unknown_key
from ostiary.gateway.policy.strikes import Strikes
from ostiary.gateway.ports import KeySource

NEGATIVE_SECONDS = 1.0
NEGATIVE_ENTRIES = 10_000
SWEEP_SECONDS = 1.0
_CLOSED = "the organisation of this key is closed"
REST_SECONDS = 120.0  # longer than a rate window and than the way of a record to the store


class KeyIndex:
    """Accounts by digest.

    Args:
        digest: the keyed digest of a key's text.
        source: where unknown digests are asked for.
        account: the ledger's account of a key just read: the live one where there is one.
        capacity: how many accounts are kept at rest.
    """

    def __init__(
        self,
        digest: Callable[[str], bytes],
        source: KeySource,
        account: Callable[[VirtualKey], Account],
        clock: Clock,
        capacity: int = 50_000,
    ) -> None:
        self._digest = digest
        self._source = source
        self._account = account
        self._clock = clock
        self._capacity = capacity
        self._accounts: OrderedDict[bytes, Account] = OrderedDict()
        self._by_id: dict[str, Account] = {}
        self._retired: dict[bytes, tuple[Account, float]] = {}
        self._swept = 0.0  # when the ended graces were last looked for
        self._absent: OrderedDict[bytes, float] = OrderedDict()
        self._reading = 0  # look-ups under way
        self._changes = 0
        self._changed: dict[str | bytes, int] = {}  # ids and digests, while anybody reads -> number of the change
        self._admin: Account | None = None
        self._strikes = Strikes()
        self._closed: frozenset[str] = frozenset()

    def set_admin(self, digest: bytes) -> None:
        """The administrator's key: every right, no limit, not in the store."""
        if self._admin is not None:
            if self._admin.key.digest == digest:
                return
            self._accounts.pop(self._admin.key.digest, None)
        key = VirtualKey(id=ADMIN_KEY_ID, digest=digest, alias="admin", admin=True)
        account = self._admin = self._accounts[digest] = self._by_id[ADMIN_KEY_ID] = self._account(key)
        account.replace(key)  # the live account may still be that of the last key

    def resident(self, text: str) -> Account | None:
        """The account of a key, if the index holds it. The hot path."""
        return self._accounts.get(self._digest(text))

    async def find(self, text: str, peer: str) -> Account:
        """The account of a key, from the index or the store.

        Args:
            peer: the address it came from; one that keeps showing wrong keys has to wait, see `strikes`.

        Raises:
            Fault: UNAUTHENTICATED for no key of ours; RATE_LIMITED; UNAVAILABLE when the store cannot be asked.
        """
        digest = self._digest(text)
        account = self._accounts.get(digest)
        if account is not None:
            return account
        now = self._clock.monotonic()
        retired = self._retired.get(digest)
        if retired is not None and retired[1] > self._clock.now():
            return retired[0]
        # A key of our own format with a wrong checksum is a typo or a forgery: no store is asked.
        if well_formed_key(text) is False or self._absent.get(digest, 0.0) > now:
            raise unknown_key()
        self._strikes.check(peer, now)
        key = await self._read(digest)
        if key is None:
            self._strikes.add(peer, now)
            self._remember_absent(digest, now)
            raise unknown_key()
        if key.organization_id in self._closed:
            raise Fault(Kind.BLOCKED_KEY, _CLOSED, origin=Origin.POLICY)
        return self._keep(key)

    async def _read(self, digest: bytes) -> VirtualKey | None:
        """The row as it is once nothing has changed it meanwhile."""
        self._reading += 1
        try:
            while True:
                before = self._changes
                key = await self._source.find(digest)
                last = self._changed.get(digest, 0)
                if key is not None:
                    last = max(last, self._changed.get(key.id, 0))
                if last <= before:
                    return key
        finally:
            self._reading -= 1
            if not self._reading:
                self._changed.clear()

    def _note(self, key_id: str, digest: bytes) -> None:
        """A key changed: whoever is reading it reads again."""
        if self._reading:
            self._changes += 1
            self._changed[key_id] = self._changed[digest] = self._changes

    def put(self, key: VirtualKey, *, cancel_in_flight: bool = False) -> None:
        """A key was created or changed. One that rests in the store is not loaded for that.

        A text that was replaced answers no more from here; one in its grace period is found in the store anew.
        """
        self._note(key.id, key.digest)
        self._absent.pop(key.digest, None)
        account = self._by_id.get(key.id)
        if account is None or key.revision < account.key.revision:
            return
        if account.key.digest != key.digest:
            self._accounts.pop(account.key.digest, None)
        account.replace(key)
        if cancel_in_flight:
            account.cancel("the virtual key was blocked")

    def drop(self, key_id: str, digest: bytes, *, cancel_in_flight: bool = False) -> None:
        """This digest answers no more: the key was deleted or has a new text."""
        self._note(key_id, digest)
        self._accounts.pop(digest, None)
        self._retired.pop(digest, None)
        account = self._by_id.get(key_id)
        if account is None:
            return
        if account.key.digest == digest:
            self._forget(account)
        if cancel_in_flight:
            account.cancel("the virtual key was deleted")

    def suspend(self) -> None:
        """The store has been away for so long that what is held may be wrong: every key is asked for again.

        Until the store answers they are refused with UNAVAILABLE, all but the administrator's, which is not in it.
        Requests under way go on. What a key has spent is not forgotten.
        """
        now = self._clock.now()
        self._accounts.clear()
        self._retired.clear()
        if self._admin is not None:
            self._accounts[self._admin.key.digest] = self._admin
        for account in list(self._by_id.values()):
            if account is not self._admin and _at_rest(account, now):
                del self._by_id[account.key.id]

    def close_organizations(self, ids: frozenset[str]) -> None:
        """Serve these organisations no more, running requests included, and all others; told anew with each change."""
        if ids == self._closed:
            return
        self._closed = ids
        for account in [one for one in self._by_id.values() if one.key.organization_id in ids]:
            self._accounts.pop(account.key.digest, None)
            self._forget(account)
            account.cancel(_CLOSED)

    @property
    def changes(self) -> int:
        """How many changes were noted so far; counts while a read of the store is under way."""
        return self._changes

    def account(self, key_id: str) -> Account | None:
        """The account with this id, if resident."""
        return self._by_id.get(key_id)

    def __len__(self) -> int:
        return len(self._accounts)

    def _keep(self, key: VirtualKey) -> Account:
        account = self._by_id.get(key.id)
        if account is None:
            account = self._by_id[key.id] = self._account(msgspec.structs.replace(key, retired_until=None))
        if self._retired:
            self._forget_retired()
        if key.retired_until is not None:
            self._retired[key.digest] = (account, key.retired_until)
            return account
        if account.key.digest != key.digest or account.key.revision < key.revision:
            account.replace(key)  # it was first met by an earlier text, or changed while nobody could tell
        self._accounts[key.digest] = account
        if len(self._accounts) > self._capacity:
            self._let_go()
        return account

    def _let_go(self) -> None:
        """Drop resting accounts, oldest first, looking at no more than a few."""
        now = self._clock.now()
        for digest in list(islice(self._accounts, len(self._accounts) - self._capacity + 8)):
            account = self._accounts[digest]
            if account is self._admin or not _at_rest(account, now):
                self._accounts.move_to_end(digest)
            elif len(self._accounts) > self._capacity:
                del self._accounts[digest]
                self._forget(account)

    def _forget(self, account: Account) -> None:
        """Let an account go with its texts in grace: whoever still has one is looked up anew."""
        if self._by_id.get(account.key.id) is account:
            del self._by_id[account.key.id]
        for digest in [digest for digest, (kept, _) in self._retired.items() if kept is account]:
            del self._retired[digest]

    def _forget_retired(self) -> None:
        """Let go of texts whose grace has ended, and of accounts at rest that nothing else leads to."""
        now = self._clock.now()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        in_grace = {account.key.id for account, until in self._retired.values() if until > now}
        for digest, account in [(d, account) for d, (account, until) in self._retired.items() if until <= now]:
            if account.key.id in in_grace or self._accounts.get(account.key.digest) is account:
                del self._retired[digest]
            elif _at_rest(account, now):
                self._forget(account)

    def _remember_absent(self, digest: bytes, now: float) -> None:
        self._absent[digest] = now + NEGATIVE_SECONDS
        self._absent.move_to_end(digest)
        while len(self._absent) > NEGATIVE_ENTRIES:
            self._absent.popitem(last=False)


def _at_rest(account: Account, now: float) -> bool:
    """Nothing under way, and all that was spent has long reached the store."""
    return not account.running and not account.reserved and now - account.last_used > REST_SECONDS
