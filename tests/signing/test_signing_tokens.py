"""A value that is fetched anew: when, by whom, and what happens when it cannot be. On a clock that is moved by hand."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.gateway.signing.tokens import Fixed, NoToken, Token, Tokens


class HandClock:
    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Desk:
    """Gives out values that live for `life` seconds; each fetch waits until it is let through, or fails."""

    def __init__(self, clock: HandClock, life: float = 3600.0) -> None:
        self.clock = clock
        self.life = life
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.trouble: BaseException | None = None

    async def fetch(self) -> Token[str]:
        self.asked += 1
        mine = self.asked
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        return Token(f"value {mine}", self.clock.at + self.life)


async def settled() -> None:
    """Let tasks that have nothing to wait for come to their end."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_all_who_wait_share_one_flight(clock: HandClock) -> None:
    desk = Desk(clock)
    desk.open.clear()
    tokens = Tokens(desk.fetch, clock)
    waiting = [asyncio.ensure_future(tokens.current(clock.at)) for _ in range(50)]
    await settled()
    desk.open.set()
    assert {(await one).value for one in waiting} == {"value 1"}
    assert desk.asked == 1
    assert tokens.peek(clock.at) == "value 1"


async def test_one_who_leaves_does_not_end_the_flight(clock: HandClock) -> None:
    desk = Desk(clock)
    desk.open.clear()
    tokens = Tokens(desk.fetch, clock)
    leaver, stayer = (asyncio.ensure_future(tokens.current(clock.at)) for _ in range(2))
    await settled()
    leaver.cancel()
    await settled()
    desk.open.set()
    assert (await stayer).value == "value 1"
    assert leaver.cancelled()
    assert desk.asked == 1


@pytest.mark.parametrize(("life", "due"), [(3600, 2880), (1200, 900), (900, 600), (600, 300), (300, 150), (10, 5)])
async def test_a_refresh_begins_early_while_the_old_value_serves(clock: HandClock, life: float, due: float) -> None:
    desk = Desk(clock, life)
    tokens = Tokens(desk.fetch, clock)
    await tokens.current(clock.at)
    desk.open.clear()
    clock.at += due - 0.5
    assert tokens.peek(clock.at) == "value 1"
    assert desk.asked == 1
    clock.at += 0.5
    assert tokens.peek(clock.at) == "value 1"
    assert (await tokens.current(clock.at)).value == "value 1"
    await settled()
    assert desk.asked == 2
    assert tokens.peek(clock.at) == "value 1"
    desk.open.set()
    await settled()
    assert tokens.peek(clock.at) == "value 2"
    await tokens.close()


async def test_a_failed_refresh_keeps_the_old_value_to_its_end_and_then_raises(clock: HandClock) -> None:
    desk = Desk(clock)
    told: list[Fault] = []
    tokens = Tokens(desk.fetch, clock, told.append)
    expires = (await tokens.current(clock.at)).expires
    desk.trouble = NoToken("the desk is closed")
    clock.at += 2880
    assert tokens.peek(clock.at) == "value 1"
    await settled()
    clock.at = expires - 1
    assert tokens.peek(clock.at) == "value 1"
    await settled()
    clock.at = expires
    assert tokens.peek(clock.at) is None
    with pytest.raises(NoToken) as caught:
        await tokens.current(clock.at)
    assert (caught.value.kind, caught.value.retry, caught.value.why) == (
        Kind.UPSTREAM_AUTH,
        Retry.NEXT,
        "the desk is closed",
    )
    assert [getattr(fault, "why", "") for fault in told] == ["the desk is closed"] * len(told)


async def test_pauses_between_failures_grow_to_a_minute_and_end_with_success(clock: HandClock) -> None:
    desk = Desk(clock)
    desk.trouble = NoToken("closed")
    tokens = Tokens(desk.fetch, clock)
    pauses = []
    for _ in range(9):
        asked, began = desk.asked, clock.at
        while desk.asked == asked:
            with pytest.raises(NoToken):
                await tokens.current(clock.at)
            if desk.asked == asked:
                clock.at += 0.5
        pauses.append(clock.at - began)
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    with pytest.raises(NoToken) as caught:
        await tokens.current(clock.at)
    assert caught.value.retry_after == 60
    with pytest.raises(NoToken) as fresh:
        await Tokens(desk.fetch, clock).current(clock.at)
    assert fresh.value.retry_after == 1
    desk.trouble = None
    clock.at += 60
    assert await tokens.current(clock.at)


async def test_an_unforeseen_error_is_a_fault_without_its_text(clock: HandClock) -> None:
    desk = Desk(clock)
    desk.trouble = RuntimeError("canary-7361")
    tokens = Tokens(desk.fetch, clock)
    with pytest.raises(NoToken) as caught:
        await tokens.current(clock.at)
    assert "canary" not in caught.value.why + caught.value.public + repr(caught.value)


async def test_a_value_that_has_ended_when_it_comes_is_a_failure(clock: HandClock) -> None:
    desk = Desk(clock, life=0)
    tokens = Tokens(desk.fetch, clock)
    for _ in range(3):
        with pytest.raises(NoToken, match="upstream_auth"):
            await tokens.current(clock.at)
    assert desk.asked == 1


async def test_a_clock_that_is_set_back_does_not_revive_a_value(clock: HandClock) -> None:
    desk = Desk(clock)
    tokens = Tokens(desk.fetch, clock)
    await tokens.current(clock.at)
    clock.at -= 86_400
    assert tokens.peek(clock.at) is None
    assert (await tokens.current(clock.at)).value == "value 2"


async def test_a_refused_value_is_fetched_anew_but_not_when_it_is_new(clock: HandClock) -> None:
    desk = Desk(clock)
    tokens = Tokens(desk.fetch, clock)
    first = (await tokens.current(clock.at)).value
    tokens.refused(first)
    assert tokens.peek(clock.at) == first
    clock.at += 60
    tokens.refused("another value")
    assert tokens.peek(clock.at) == first
    tokens.refused(first)
    assert tokens.peek(clock.at) is None
    assert (await tokens.current(clock.at)).value == "value 2"
    tokens.refused(first)
    assert tokens.peek(clock.at) == "value 2"


async def test_closing_ends_the_flight_and_whoever_waits_is_told(clock: HandClock) -> None:
    desk = Desk(clock)
    desk.open.clear()
    tokens = Tokens(desk.fetch, clock)
    waiting = asyncio.ensure_future(tokens.current(clock.at))
    await settled()
    await tokens.close()
    with pytest.raises(NoToken):
        await waiting
    with pytest.raises(NoToken):
        await tokens.current(clock.at)
    assert desk.asked == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_fixed_value_is_there_at_once_and_never_ends() -> None:
    source = Fixed("value")
    source.refused("value")
    assert source.peek(9e12) == "value"
    assert (await source.current(9e12)).value == "value"
    await source.close()


@given(steps=st.lists(st.tuples(st.floats(0, 4000), st.booleans(), st.floats(1, 7200)), max_size=25))
def test_what_is_handed_out_has_never_ended(steps: list[tuple[float, bool, float]]) -> None:
    """Whatever fails and whenever it is asked: a value in hand is in force, and one flight is under way at most."""

    async def life() -> None:
        clock = HandClock()
        desk = Desk(clock)
        tokens = Tokens(desk.fetch, clock)
        ends: dict[str, float] = {}
        for wait, fails, lives in steps:
            clock.at += wait
            desk.trouble, desk.life = NoToken("closed") if fails else None, lives
            before = desk.asked
            peeked = tokens.peek(clock.at)
            try:
                token = await tokens.current(clock.at)
            except NoToken:
                assert peeked is None
            else:
                ends[token.value] = token.expires
                assert token.expires > clock.at
                assert peeked in (None, token.value)
                assert tokens.peek(clock.at) == token.value
            await settled()
            assert desk.asked <= before + 1
        await tokens.close()

    asyncio.run(life())
