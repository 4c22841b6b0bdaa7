"""Budgets and limits hold for any interleaving of requests, settlements, cancellations and time."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import START, StillClock, complete, key, record, running_ledger, settled_in, spend

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.money import NANO_PER_DOLLAR
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome
from ostiary.gateway.ledger.account import Account, Estimate, rate_headers
from ostiary.gateway.ledger.ledger import Entry, Ledger
from ostiary.gateway.ledger.limits import MINUTE, Limit, Limits

LISTED = PriceState.LISTED


def refused(ledger: Ledger, account: Account, estimate: Estimate, price: PriceState = LISTED, model: str = "") -> Fault:
    with pytest.raises(Fault) as caught, ledger.open(record("refused", model=model), account) as entry:
        entry.reserve(estimate, price)
    assert caught.value.origin is Origin.POLICY
    return caught.value


# -- laws --------------------------------------------------------------------------------------------------------------

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 40), st.integers(0, 40)),  # floor, and beyond it
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 100)),  # which, and what it used
        st.tuples(st.just("cancel"), st.integers(0, 9), st.booleans()),  # which, and whether it was sent
        st.tuples(st.just("again"), st.integers(0, 9), st.integers(0, 80)),  # which, and a new estimate
        st.tuples(st.just("wait"), st.integers(0, 90), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    _steps,
    st.none() | st.integers(0, 200),
    st.none() | st.integers(1, 200),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 4),
)
def test_whatever_happens_counters_equal_the_ledger_and_no_limit_is_passed_at_admission(
    steps: list[tuple[str, int, int]], budget: int | None, tpm: int | None, rpm: int | None, parallel: int | None
) -> None:
    clock = StillClock()
    with tempfile.TemporaryDirectory() as directory, running_ledger(Path(directory) / "j", clock) as ledger:
        account = ledger.account(
            key(max_budget=budget, tpm_limit=tpm, rpm_limit=rpm, max_parallel=parallel, model_tpm=(("m", 50),))
        )
        running: list[Entry] = []
        admitted: dict[float, int] = {}
        for number, (step, first, second) in enumerate(steps):
            if step == "wait":
                clock.seconds += first
            elif step == "reserve":
                entry = ledger.open(record(str(number), model="m"), account)
                spent = account.spend + account.reserved
                entry.__enter__()
                try:
                    entry.reserve(Estimate(first, first + second, first, first + second), LISTED)
                except Fault as fault:
                    entry.__exit__(Fault, fault, None)
                    assert entry.record.outcome is Outcome.BLOCKED
                else:
                    running.append(entry)
                    admitted[account.limits.started] = admitted.get(account.limits.started, 0) + 1
                    assert budget is None or spent + first <= budget
            elif running:
                entry = running[first % len(running)]
                if step == "again":
                    try:
                        entry.reserve(Estimate(0, second, 0, second), LISTED)
                    except Fault:
                        assert entry.held[:2] == (0, 0)
                elif step == "settle":
                    running.remove(entry)
                    complete_open(entry, second)
                else:
                    running.remove(entry)
                    entry.sent = bool(second)
                    entry.__exit__(asyncio.CancelledError, asyncio.CancelledError(), None)
            assert ledger.leaks() == []
            assert account.limits.reserved >= 0
            assert budget is None or account.spend >= budget or account.spend + account.reserved <= budget
        assert rpm is None or all(count <= rpm for count in admitted.values())
        for entry in running:
            entry.__exit__(asyncio.CancelledError, asyncio.CancelledError(), None)
        assert (account.reserved, account.limits.reserved, account.limits.calls) == (0, 0, 0)
        assert (account.models["m"].reserved, account.models["m"].calls) == (0, 0)
        assert account.spend == sum(row.cost for row in settled_in(ledger))
        assert ledger.in_flight == 0


def complete_open(entry: Entry, used: int) -> None:
    complete(entry, cost=used, tokens=used)
    entry.__exit__(None, None, None)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3)), max_size=80), st.integers(0, 5))
def test_requests_per_minute_are_exact(arrivals: list[tuple[float, int]], rpm: int) -> None:
    limits, now, began, count = Limits(rpm=rpm), 0.0, None, 0
    for pause, _ in arrivals:
        now += pause
        if began is None or now - began >= MINUTE:
            began, count = now, 0
        assert (limits.refusal(now, 0) is None) == (count < rpm)
        if count < rpm:
            limits.enter()
            limits.leave(now, 0, 0)
            count += 1


# -- budgets -----------------------------------------------------------------------------------------------------------


@pytest.mark.attack("DOS-10")
async def test_dos_10_of_64_requests_racing_for_a_budget_of_one_exactly_one_passes(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=100))
        gate = asyncio.Barrier(64)

        async def one(number: int) -> bool:
            await gate.wait()
            try:
                with ledger.open(record(str(number)), account) as entry:
                    entry.reserve(Estimate(50, 60, 60, 100), LISTED)
                    await asyncio.sleep(0)
                    complete(entry, cost=100)
            except Fault:
                return False
            return True

        assert sum(await asyncio.gather(*(one(number) for number in range(64)))) == 1
        assert sum(row.fault == Kind.BUDGET_EXCEEDED for row in settled_in(ledger)) == 63
        assert account.spend == 100


@pytest.mark.attack("DOS-10")
def test_dos_10_the_overshoot_is_what_an_answer_cost_beyond_its_own_reservation(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=100))
        with ledger.open(record("a"), account) as entry:
            entry.reserve(Estimate(1, 10, 10, 500), LISTED)
            assert account.reserved == 100
            assert refused(ledger, account, Estimate(1, 1, 0, 1)).kind is Kind.BUDGET_EXCEEDED
            complete(entry, cost=130)
        assert (account.spend, account.reserved) == (130, 0)
        assert refused(ledger, account, Estimate()).kind is Kind.BUDGET_EXCEEDED


async def test_after_10000_cancelled_requests_the_counters_equal_the_ledger(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=10**12, tpm_limit=10**9, max_parallel=20_000))

        async def one(number: int) -> None:
            with ledger.open(record(str(number)), account) as entry:
                if number % 3:
                    entry.reserve(Estimate(5, 10, 5, 10), LISTED)
                    entry.sent = number % 3 == 2
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(one(number)) for number in range(10_000)]
        await asyncio.sleep(0)
        assert ledger.in_flight == 10_000
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        rows = settled_in(ledger)
        assert len(rows) == len({row.id for row in rows}) == 10_000
        assert {row.outcome for row in rows} == {Outcome.CLIENT_GONE}
        assert account.spend == sum(row.cost for row in rows) == 10 * sum(number % 3 == 2 for number in range(10_000))
        assert (account.reserved, account.limits.reserved, account.limits.calls) == (0, 0, 0)
        assert (ledger.in_flight, ledger.leaks()) == (0, [])


def test_a_small_budget_can_be_used_to_its_end(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=1000))
        for number in range(10):
            with ledger.open(record(str(number)), account) as entry:
                entry.reserve(Estimate(10, 5000, 20, 50_000), LISTED)
                complete(entry, cost=100)
        assert account.spend == 1000
        assert refused(ledger, account, Estimate(10, 20, 20, 30)).kind is Kind.BUDGET_EXCEEDED


def test_the_refusal_names_the_limit_and_the_amounts_in_dollars(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=2 * NANO_PER_DOLLAR, spend=1_500_000_000, spend_from=START))
        fault = refused(ledger, account, Estimate(1, 1, NANO_PER_DOLLAR, NANO_PER_DOLLAR))
        assert (fault.status, fault.param) == (400, "max_budget")
        assert "max_budget is 2 dollars, 1.5 are spent, 0 are reserved" in fault.public
        assert settled_in(ledger)[0].outcome is Outcome.BLOCKED


def test_an_unknown_price_is_refused_to_a_key_with_a_budget_and_to_no_other(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        rich, poor = ledger.account(key()), ledger.account(key("k2", max_budget=10**9))
        assert refused(ledger, poor, Estimate(), PriceState.UNKNOWN).kind is Kind.UNKNOWN_PRICE
        with ledger.open(record("a"), rich) as entry:
            entry.reserve(Estimate(), PriceState.UNKNOWN)
            complete(entry, cost=0)
        assert settled_in(ledger)[-1].price is PriceState.UNKNOWN


def test_a_free_target_is_never_refused_for_money(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=0))
        assert refused(ledger, account, Estimate()).kind is Kind.BUDGET_EXCEEDED
        with ledger.open(record("a"), account) as entry:
            entry.reserve(Estimate(5, 10), PriceState.FREE)
            complete(entry, cost=0)
        assert account.spend == 0


def test_budget_windows_roll_in_whole_multiples_without_drift(tmp_path: Path) -> None:
    clock = StillClock()
    with running_ledger(tmp_path / "j", clock) as ledger:
        account = ledger.account(key(max_budget=100, budget_seconds=3600, spend=100, spend_from=START))
        clock.seconds = 3599.5
        assert refused(ledger, account, Estimate(0, 1, 1, 1)).kind is Kind.BUDGET_EXCEEDED
        clock.seconds = 3 * 3600 + 1234.5
        spend(ledger, account, "a", cost=70)
        assert (account.spend, account.spend_from) == (70, START + 3 * 3600)
        again = key(max_budget=100, budget_seconds=3600, spend=0, spend_from=START + 3 * 3600, revision=1)
        assert ledger.account(again).spend == 70  # the same window to the millisecond: no reset
        clock.seconds = 4 * 3600
        assert ledger.spend_of("k1") == 0


@given(st.integers(1, 2**41), st.integers(1, 10**7), st.integers(1, 1000), st.floats(0, 1))
def test_a_window_of_the_account_is_that_of_the_store_to_the_millisecond(
    from_ms: int, length: int, windows: int, within: float
) -> None:
    account = Account(key(budget_seconds=length, spend_from=from_ms / 1000), 0.0)
    account.roll(from_ms / 1000 + (windows + within * 0.99) * length + 0.001)
    assert account.spend_from in {(from_ms + n * length * 1000) / 1000 for n in (windows, windows + 1)}


def test_a_calendar_that_goes_back_neither_renews_a_budget_nor_breaks_it(tmp_path: Path) -> None:
    clock = StillClock()
    with running_ledger(tmp_path / "j", clock) as ledger:
        account = ledger.account(key(max_budget=100, budget_seconds=3600, spend=100, spend_from=START))
        clock.seconds = -86_400.0
        assert refused(ledger, account, Estimate()).kind is Kind.BUDGET_EXCEEDED


def test_a_newer_revision_changes_limits_and_keeps_counters_unless_it_begins_a_later_window(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=1000, rpm_limit=1, spend_from=START, model_rpm=(("m", 1),)))
        spend(ledger, account, "a", cost=400)
        account.models["m"].requests = 1
        behind = key(max_budget=300, rpm_limit=5, spend=100, spend_from=START, model_rpm=(("m", 2),), revision=2)
        assert ledger.account(behind) is account
        assert (account.spend, account.limits.requests, account.limits.rpm) == (400, 1, 5)
        assert (account.models["m"].requests, account.models["m"].rpm) == (1, 2)
        assert refused(ledger, account, Estimate()).kind is Kind.BUDGET_EXCEEDED
        account.replace(key(max_budget=300, spend=0, spend_from=START + 1, revision=3))
        assert (account.spend, account.models) == (0, {})


# -- rate limits -------------------------------------------------------------------------------------------------------


def test_refusals_by_rate_name_the_limit_and_when_the_window_ends(tmp_path: Path) -> None:
    clock = StillClock()
    with running_ledger(tmp_path / "j", clock) as ledger:
        account = ledger.account(key(rpm_limit=2, tpm_limit=100, max_parallel=1))
        with ledger.open(record("a"), account) as entry:
            entry.reserve(Estimate(10, 60), LISTED)
            fault = refused(ledger, account, Estimate())
            assert (fault.status, fault.param, fault.retry_after) == (429, "max_parallel_requests", 1.0)
            complete(entry, tokens=60)
        clock.seconds = 20.0
        fault = refused(ledger, account, Estimate(41, 41))
        assert (fault.param, fault.retry_after) == ("tpm_limit", 40.0)
        spend(ledger, account, "b", tokens=1)
        assert refused(ledger, account, Estimate()).param == "rpm_limit"
        clock.seconds = 60.0
        spend(ledger, account, "c")


def test_limits_of_a_model_hold_for_that_model_alone(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(model_rpm=(("m", 1),), model_tpm=(("n", 10),)))
        with ledger.open(record("a", model="m"), account) as entry:
            entry.reserve(Estimate(), LISTED)
            complete(entry)
        fault = refused(ledger, account, Estimate(), model="m")
        assert fault.param == "rpm_limit"
        assert "for model m" in fault.public
        assert refused(ledger, account, Estimate(11, 11), model="n").param == "tpm_limit"
        spend(ledger, account, "b")


def test_a_request_refused_by_one_limit_uses_up_no_other(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(rpm_limit=1, max_budget=10, model_rpm=(("m", 1),)))
        for _ in range(3):
            refused(ledger, account, Estimate(0, 0, 11, 11), model="m")
        assert (account.limits.requests, account.models["m"].requests, account.limits.calls) == (0, 0, 0)


def test_tokens_beyond_the_limit_are_a_debt_worked_off_window_by_window() -> None:
    limits = Limits(tpm=100)
    assert limits.refusal(0.0, 0) is None
    limits.enter()
    limits.leave(10.0, limits.hold(10), 250)
    assert limits.refusal(59.0, 0) is Limit.TPM
    assert limits.refusal(60.0, 0) is Limit.TPM  # 150 of debt
    assert limits.refusal(130.0, 0) is None  # 50 of debt, in the window from 120 to 180
    assert (limits.remaining_tokens(), limits.resets(130.0)) == (50, 50.0)
    assert limits.refusal(500.0, 100) is None  # nothing left of it
    assert limits.started == 500.0


def test_a_window_begins_with_the_first_request_after_the_last_one_ended() -> None:
    limits = Limits(rpm=1)
    limits.refusal(0.0, 0)
    limits.enter()
    assert limits.refusal(59.9, 0) is Limit.RPM
    assert limits.refusal(95.0, 0) is None
    assert limits.resets(95.0) == MINUTE


def test_rate_headers_tell_the_tighter_of_the_limits_of_key_and_model() -> None:
    account = Account(key(rpm_limit=10, model_rpm=(("m", 3),), model_tpm=(("m", 500),)), START)
    account.limits.refusal(0.0, 0)
    account.limits.enter()
    assert rate_headers(account, "other", 15.0) == (
        b"x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\nx-ratelimit-reset-requests: 45s\r\n"
    )
    assert b"limit-requests: 3\r\n" in rate_headers(account, "m", 15.0)
    assert b"remaining-tokens: 500\r\n" in rate_headers(account, "m", 15.0)
    assert rate_headers(Account(key(), START), "m", 0.0) == b""
