"""The key index: who is found, what is remembered, what is let go, and that nothing stale outlives a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.ids import mint_key
from ostiary.core.key import VirtualKey
from ostiary.gateway.ledger.account import Account
from ostiary.gateway.policy.keys import NEGATIVE_ENTRIES, NEGATIVE_SECONDS, REST_SECONDS, KeyIndex
from ostiary.gateway.policy.strikes import MOST


class Hands:
    """A clock that is set by hand."""

    seconds = 0.0

    def now(self) -> float:
        return 1_700_000_000.0 + self.seconds

    def monotonic(self) -> float:
        return 1000.0 + self.seconds


class Store:
    """Rows by digest. `before` runs between the reading of a row and its arrival."""

    def __init__(self) -> None:
        self.rows: dict[bytes, VirtualKey] = {}
        self.asked: list[bytes] = []
        self.failure: Fault | None = None
        self.between: list[Callable[[], None]] = []

    async def find(self, digest: bytes) -> VirtualKey | None:
        self.asked.append(digest)
        found = self.rows.get(digest)
        await asyncio.sleep(0)
        if self.between:
            self.between.pop(0)()
        if self.failure is not None:
            raise self.failure
        return found


class Exchange:
    """Something that runs under a key."""

    reason = ""

    def cancel(self, reason: str) -> None:
        self.reason = reason


class Desk:
    """An index over a store in memory, where the digest of a text is the text."""

    def __init__(self, capacity: int = 50_000) -> None:
        self.clock = Hands()
        self.store = Store()
        self.live: dict[str, Account] = {}
        self.made = 0
        self.index = KeyIndex(str.encode, self.store, self._account, self.clock, capacity)

    def _account(self, key: VirtualKey) -> Account:
        self.made += 1
        return self.live.get(key.id) or Account(key, self.clock.now())

    def row(self, text: str, key_id: str = "k1", **fields: object) -> VirtualKey:
        key = VirtualKey(id=key_id, digest=text.encode(), **fields)  # type: ignore[arg-type]
        self.store.rows[key.digest] = key
        return key

    async def kind(self, text: str, peer: str = "10.0.0.1") -> Kind | None:
        try:
            await self.index.find(text, peer)
        except Fault as fault:
            return fault.kind
        return None


async def test_a_key_is_read_once_and_then_resident() -> None:
    desk = Desk()
    desk.row("sk-a")
    assert desk.index.resident("sk-a") is None
    account = await desk.index.find("sk-a", "10.0.0.1")
    assert (
        desk.index.resident("sk-a") is account is await desk.index.find("sk-a", "10.0.0.1") is desk.index.account("k1")
    )
    assert len(desk.store.asked) == 1


async def test_those_who_ask_at_once_share_one_account() -> None:
    desk = Desk()
    desk.row("sk-a")
    accounts = await asyncio.gather(*(desk.index.find("sk-a", "10.0.0.1") for _ in range(20)))
    assert len({id(account) for account in accounts}) == 1
    assert len(desk.index) == 1


async def test_a_key_with_requests_under_way_elsewhere_gets_its_live_account() -> None:
    desk = Desk()
    desk.live["k1"] = Account(desk.row("sk-a"), 0.0)
    assert await desk.index.find("sk-a", "10.0.0.1") is desk.live["k1"]


# --- what is not there ---


async def test_an_unknown_key_is_asked_for_once_a_second() -> None:
    desk = Desk()
    for _ in range(5):
        assert await desk.kind("sk-a") is Kind.UNAUTHENTICATED
    assert len(desk.store.asked) == 1
    desk.clock.seconds = NEGATIVE_SECONDS + 0.01
    assert await desk.kind("sk-a") is Kind.UNAUTHENTICATED
    assert len(desk.store.asked) == 2


async def test_a_key_that_is_made_is_known_at_once_although_it_was_just_missed() -> None:
    desk = Desk()
    assert await desk.kind("sk-a") is Kind.UNAUTHENTICATED
    desk.index.put(desk.row("sk-a"))
    assert await desk.kind("sk-a") is None


async def test_what_is_remembered_of_unknown_keys_is_bounded() -> None:
    desk = Desk()
    for number in range(NEGATIVE_ENTRIES + 50):
        await desk.kind(f"sk-{number}", f"10.{number >> 8}.{number & 255}.1")
    assert len(desk.index._absent) == NEGATIVE_ENTRIES


async def test_dos_09_wrong_keys_without_end_reach_the_store_only_so_often() -> None:
    desk = Desk()
    kinds = [await desk.kind(f"sk-{number}") for number in range(MOST + 20)]
    assert kinds == [Kind.UNAUTHENTICATED] * MOST + [Kind.RATE_LIMITED] * 20
    assert len(desk.store.asked) == MOST
    assert await desk.kind("sk-other", "10.0.0.2") is Kind.UNAUTHENTICATED


async def test_a_key_of_our_own_form_with_a_wrong_checksum_reaches_no_store() -> None:
    desk = Desk()
    text = mint_key("eu1", bytes(range(43)))
    wrong = text[:-1] + ("x" if text[-1] != "x" else "y")
    assert await desk.kind(wrong) is Kind.UNAUTHENTICATED
    assert desk.store.asked == []
    assert await desk.kind(text) is Kind.UNAUTHENTICATED
    assert len(desk.store.asked) == 1


async def test_a_store_that_cannot_be_asked_is_never_taken_for_a_no() -> None:
    desk = Desk()
    desk.row("sk-a")
    desk.store.failure = Fault(Kind.UNAVAILABLE, "away", origin=Origin.GATEWAY)
    assert await desk.kind("sk-a") is Kind.UNAVAILABLE
    desk.store.failure = None
    assert await desk.kind("sk-a") is None


# --- changes ---


async def test_a_change_is_in_force_for_the_next_request() -> None:
    desk = Desk()
    desk.row("sk-a")
    account = await desk.index.find("sk-a", "10.0.0.1")
    desk.index.put(desk.row("sk-a", revision=2, blocked=True))
    assert account.key.blocked
    desk.index.put(desk.row("sk-a", revision=1))
    assert account.key.blocked, "an older revision that arrives late changes nothing"


async def test_a_change_of_a_key_that_rests_in_the_store_loads_nothing() -> None:
    desk = Desk()
    desk.index.put(desk.row("sk-a"))
    desk.index.drop("k2", b"sk-b")
    assert (len(desk.index), desk.made) == (0, 0)


@pytest.mark.parametrize("cancel", [True, False])
async def test_blocking_and_deleting_end_what_runs_only_where_asked(cancel: bool) -> None:
    desk = Desk()
    account = Account(desk.row("sk-a"), 0.0)
    desk.live["k1"] = account
    await desk.index.find("sk-a", "10.0.0.1")
    running = Exchange()
    account.running.add(running)
    desk.index.put(desk.row("sk-a", revision=1, blocked=True), cancel_in_flight=cancel)
    assert ("blocked" in running.reason) == cancel
    running.reason = ""
    desk.index.drop("k1", b"sk-a", cancel_in_flight=cancel)
    assert ("deleted" in running.reason) == cancel


async def test_a_deleted_key_is_asked_for_anew() -> None:
    desk = Desk()
    desk.row("sk-a")
    await desk.index.find("sk-a", "10.0.0.1")
    del desk.store.rows[b"sk-a"]
    desk.index.drop("k1", b"sk-a")
    assert desk.index.account("k1") is None
    assert await desk.kind("sk-a") is Kind.UNAUTHENTICATED


async def test_a_replaced_text_answers_no_more() -> None:
    desk = Desk()
    desk.row("sk-old")
    account = await desk.index.find("sk-old", "10.0.0.1")
    del desk.store.rows[b"sk-old"]
    desk.index.put(desk.row("sk-new", revision=1))
    assert await desk.kind("sk-old") is Kind.UNAUTHENTICATED
    assert await desk.index.find("sk-new", "10.0.0.1") is account


async def test_a_text_in_its_grace_period_shares_the_account_until_its_time_is_up() -> None:
    desk = Desk()
    desk.row("sk-new", revision=1)
    desk.row("sk-old", revision=1, retired_until=desk.clock.now() + 60)
    old = await desk.index.find("sk-old", "10.0.0.1")
    assert await desk.index.find("sk-old", "10.0.0.1") is old is await desk.index.find("sk-new", "10.0.0.1")
    assert old.key.retired_until is None
    assert len(desk.store.asked) == 2
    desk.clock.seconds = 61.0
    del desk.store.rows[b"sk-old"]
    assert await desk.kind("sk-old") is Kind.UNAUTHENTICATED
    desk.row("sk-older", "k2", retired_until=desk.clock.now() + 60)
    await desk.index.find("sk-older", "10.0.0.1")
    assert len(desk.index._retired) == 1, "what has ended is forgotten"


async def test_an_account_known_by_a_text_in_grace_alone_leaves_when_it_has_ended_and_it_rests() -> None:
    desk = Desk()
    for number in range(3):
        desk.row(f"sk-old-{number}", f"k{number}", retired_until=desk.clock.now() + 60)
        await desk.index.find(f"sk-old-{number}", "10.0.0.1")
    busy = desk.index.account("k1")
    assert busy is not None
    busy.running.add(Exchange())
    desk.row("sk-also-old", "k2", retired_until=desk.clock.now() + 2 * REST_SECONDS)
    await desk.index.find("sk-also-old", "10.0.0.1")
    desk.clock.seconds = REST_SECONDS + 61
    desk.row("sk-other", "other")
    await desk.index.find("sk-other", "10.0.0.1")
    assert desk.index.account("k0") is None
    assert desk.index.account("k1") is busy, "what runs under it must be reached by a change"
    assert desk.index.account("k2") is not None, "another text of it is still in grace"
    assert sorted(desk.index._retired) == [b"sk-also-old", b"sk-old-1"]


async def test_a_text_in_grace_answers_no_more_for_an_account_that_was_let_go() -> None:
    desk = Desk(capacity=1)
    desk.row("sk-new", revision=1)
    desk.row("sk-old", revision=1, retired_until=desk.clock.now() + 10 * REST_SECONDS)
    old = await desk.index.find("sk-old", "10.0.0.1")
    assert await desk.index.find("sk-new", "10.0.0.1") is old
    desk.clock.seconds = REST_SECONDS + 1
    desk.row("sk-other", "other")
    await desk.index.find("sk-other", "10.0.0.1")
    assert desk.index.account("k1") is None
    again = await desk.index.find("sk-old", "10.0.0.1")
    assert again is desk.index.account("k1"), "a change of the key reaches whoever uses the old text"


async def test_deleting_a_key_ends_its_text_in_grace_as_well() -> None:
    desk = Desk()
    desk.row("sk-new", revision=1)
    desk.row("sk-old", revision=1, retired_until=desk.clock.now() + 60)
    await desk.index.find("sk-old", "10.0.0.1")
    await desk.index.find("sk-new", "10.0.0.1")
    desk.store.rows.clear()
    desk.index.drop("k1", b"sk-new")
    assert await desk.kind("sk-new") is Kind.UNAUTHENTICATED
    assert await desk.kind("sk-old") is Kind.UNAUTHENTICATED


# --- changes that overtake a look-up ---


async def test_a_key_blocked_while_it_is_looked_up_is_blocked() -> None:
    desk = Desk()
    desk.row("sk-a")
    desk.store.between = [lambda: desk.index.put(desk.row("sk-a", revision=1, blocked=True))]
    assert (await desk.index.find("sk-a", "10.0.0.1")).key.blocked


async def test_a_key_deleted_while_it_is_looked_up_is_gone() -> None:
    desk = Desk()
    desk.row("sk-a")

    def delete() -> None:
        del desk.store.rows[b"sk-a"]
        desk.index.drop("k1", b"sk-a")

    desk.store.between = [delete]
    assert await desk.kind("sk-a") is Kind.UNAUTHENTICATED
    assert desk.index.resident("sk-a") is None


async def test_a_key_made_while_it_is_looked_up_is_found() -> None:
    desk = Desk()
    desk.store.between = [lambda: desk.index.put(desk.row("sk-a"))]
    assert await desk.kind("sk-a") is None


async def test_all_who_look_up_a_key_that_changes_see_the_change() -> None:
    desk = Desk()
    desk.row("sk-a")
    desk.store.between = [lambda: desk.index.put(desk.row("sk-a", revision=1, blocked=True))]
    accounts = await asyncio.gather(*(desk.index.find("sk-a", "10.0.0.1") for _ in range(5)))
    assert all(account.key.blocked for account in accounts)
    assert not desk.index._changed


# --- bounded ---


async def test_the_index_lets_go_of_those_who_rested_longest() -> None:
    desk = Desk(capacity=10)
    for number in range(10):
        desk.row(f"sk-{number}", f"k{number}")
        await desk.index.find(f"sk-{number}", "10.0.0.1")
    desk.clock.seconds = REST_SECONDS + 1
    for number in range(10, 14):
        desk.row(f"sk-{number}", f"k{number}")
        await desk.index.find(f"sk-{number}", "10.0.0.1")
    assert len(desk.index) == 10
    assert desk.index.resident("sk-0") is None
    assert desk.index.account("k0") is None
    assert desk.index.resident("sk-13") is not None


async def test_an_account_with_anything_under_way_is_never_let_go() -> None:
    desk = Desk(capacity=2)
    desk.index.set_admin(b"sk-admin")
    desk.row("sk-busy", "busy")
    desk.row("sk-held", "held")
    busy, held = await desk.index.find("sk-busy", "10.0.0.1"), await desk.index.find("sk-held", "10.0.0.1")
    busy.running.add(Exchange())
    held.reserved = 5
    desk.clock.seconds = REST_SECONDS + 1
    for number in range(50):
        desk.row(f"sk-{number}", f"k{number}")
        await desk.index.find(f"sk-{number}", "10.0.0.1")
        desk.clock.seconds += REST_SECONDS + 1
    assert desk.index.resident("sk-busy") is busy
    assert desk.index.resident("sk-held") is held
    assert desk.index.resident("sk-admin") is not None
    assert len(desk.index) < 10


async def test_spend_on_its_way_to_the_store_keeps_an_account() -> None:
    desk = Desk(capacity=1)
    desk.row("sk-a", "a")
    account = await desk.index.find("sk-a", "10.0.0.1")
    desk.clock.seconds = 1000.0
    account.last_used = desk.clock.now() - REST_SECONDS + 1
    desk.row("sk-b", "b")
    await desk.index.find("sk-b", "10.0.0.1")
    assert desk.index.resident("sk-a") is account


# --- the administrator ---


async def test_the_administrators_key_is_not_in_the_store_and_follows_the_configuration() -> None:
    desk = Desk()
    desk.index.set_admin(b"sk-admin")
    first = await desk.index.find("sk-admin", "10.0.0.1")
    assert first.key.admin
    desk.index.set_admin(b"sk-admin")
    assert await desk.index.find("sk-admin", "10.0.0.1") is first
    desk.index.set_admin(b"sk-other")
    assert desk.index.resident("sk-admin") is None
    assert (await desk.index.find("sk-other", "10.0.0.1")).key.admin
    assert desk.store.asked == []
    assert await desk.kind("sk-admin") is Kind.UNAUTHENTICATED


async def test_an_admin_key_that_is_changed_and_changed_back_while_in_use_is_the_one_that_counts() -> None:
    desk = Desk()
    desk.index.set_admin(b"sk-admin")
    desk.live["admin"] = await desk.index.find("sk-admin", "10.0.0.1")
    for digest in (b"sk-other", b"sk-admin"):
        desk.index.set_admin(digest)
    assert desk.index.resident("sk-admin") is desk.live["admin"]
    assert desk.index.resident("sk-other") is None


async def test_after_a_long_outage_every_key_but_the_administrators_is_asked_for_again() -> None:
    desk = Desk()
    desk.row("sk-a")
    desk.index.set_admin(b"sk-admin")
    assert await desk.kind("sk-a") is None
    account = desk.index.resident("sk-a")
    assert account is not None
    account.spend = 7
    account.last_used = desk.clock.now()

    desk.index.suspend()
    desk.store.failure = Fault(Kind.UNAVAILABLE, "gone", origin=Origin.GATEWAY)
    assert await desk.kind("sk-a") is Kind.UNAVAILABLE
    assert desk.index.resident("sk-admin") is not None

    desk.store.failure = None
    desk.row("sk-a", blocked=True, revision=2)
    assert await desk.index.find("sk-a", "10.0.0.1") is account  # what it has spent is not forgotten
    assert account.spend == 7
    assert account.key.blocked


async def test_an_organisation_that_is_closed_is_served_no_more_until_it_is_opened_again() -> None:
    desk = Desk()
    desk.row("sk-a", "k1", organization_id="org-1")
    desk.row("sk-b", "k2", organization_id="org-2")
    account = await desk.index.find("sk-a", "10.0.0.1")
    running = Exchange()
    account.running.add(running)
    assert await desk.kind("sk-b") is None

    desk.index.close_organizations(frozenset({"org-1"}))
    assert running.reason == "the organisation of this key is closed"
    assert desk.index.resident("sk-a") is None
    assert await desk.kind("sk-a") is Kind.BLOCKED_KEY
    assert desk.index.resident("sk-b") is not None

    desk.index.close_organizations(frozenset())
    assert await desk.kind("sk-a") is None
