"""A record exists from admission on and is settled once, whichever way the scope is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ledger_kit import SEAL, START, StillClock, complete, key, record, running_ledger, settled_in, spend

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import NOTHING, Usage
from ostiary.gateway.ledger.account import Estimate
from ostiary.gateway.ledger.journal import Journal, recover
from ostiary.gateway.ledger.ledger import Ledger

ESTIMATE = Estimate(tokens_floor=10, tokens=110, cost_floor=5, cost=500)


def left_by(error: BaseException | None, directory: Path, *, sent: bool, first_byte: int = 0) -> Record:
    """The record of a request whose scope was left by `error` after it had reserved."""
    with running_ledger(directory) as ledger:
        account = ledger.account(key(max_budget=10**9, tpm_limit=1000))

        def leave() -> None:
            with ledger.open(record("a", first_byte=first_byte), account) as entry:
                entry.reserve(ESTIMATE, PriceState.LISTED)
                entry.sent = sent
                if error is not None:
                    raise error

        if error is None:
            leave()
        else:
            with pytest.raises(type(error)):
                leave()
        (row,) = settled_in(ledger)
        assert account.spend == row.cost
        assert (account.reserved, account.limits.reserved, account.limits.calls) == (0, 0, 0)
        assert row.ended == int(START * 1000)
        assert not row.measured
        return row


@pytest.mark.parametrize(
    ("error", "first_byte", "outcome", "status", "fault"),
    [
        (Fault(Kind.CONTENT_POLICY, "", origin=Origin.POLICY), 0, Outcome.BLOCKED, 400, "content_policy"),
        (Fault(Kind.CONNECT, "", origin=Origin.UPSTREAM), 0, Outcome.FAILED, 502, "connect"),
        (Fault(Kind.TRUNCATED, "", origin=Origin.UPSTREAM), 7, Outcome.TRUNCATED, 502, "truncated"),
        (Fault(Kind.MALFORMED, "", origin=Origin.CLIENT), 0, Outcome.FAILED, 400, "malformed"),
        (asyncio.CancelledError(), 0, Outcome.CLIENT_GONE, 499, ""),
        (ZeroDivisionError(), 0, Outcome.FAILED, 500, "internal"),
        (None, 0, Outcome.FAILED, 500, "internal"),
    ],
)
@pytest.mark.parametrize("sent", [True, False])
def test_a_scope_left_unsettled_is_settled_by_what_left_it(
    tmp_path: Path,
    error: BaseException | None,
    first_byte: int,
    outcome: Outcome,
    status: int,
    fault: str,
    sent: bool,
) -> None:
    row = left_by(error, tmp_path / "j", sent=sent, first_byte=first_byte)
    assert (row.outcome, row.status, row.fault) == (outcome, status, fault)
    assert (row.cost, row.usage) == ((500, Usage(input=10, output=100)) if sent else (0, NOTHING))


def test_what_was_sent_and_not_measured_is_charged_at_its_estimate_never_at_zero(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key())
        with ledger.open(record("a"), account) as entry:
            entry.reserve(ESTIMATE, PriceState.LISTED)
            entry.sent = True
            entry.settle(None, measured=True, outcome=Outcome.TRUNCATED, status=200, cost=0)
        (row,) = settled_in(ledger)
        assert (row.cost, row.measured, account.spend) == (500, False, 500)


def test_a_second_settlement_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key())
        with ledger.open(record("a"), account) as entry:
            entry.reserve(ESTIMATE, PriceState.LISTED)
            complete(entry, cost=70)
            entry.settle(Usage(input=9), measured=True, outcome=Outcome.FAILED, status=500, cost=9)
        (row,) = settled_in(ledger)
        assert (row.outcome, row.cost, account.spend, ledger.settled_twice) == (Outcome.COMPLETED, 70, 70, 1)


def test_a_request_without_an_account_has_a_record_too(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:

        def nobody() -> None:
            with ledger.open(record("a", key_id="")):
                assert [row.id for row in ledger.open_records()] == ["a"]
                raise Fault(Kind.UNAUTHENTICATED, "Who are you?")

        with pytest.raises(Fault):
            nobody()
        with ledger.open(record("b", key_id="")) as entry:
            entry.reserve(ESTIMATE, PriceState.UNKNOWN)
            complete(entry)
        assert [(row.outcome, row.status) for row in settled_in(ledger)] == [("failed", 401), ("completed", 200)]
        assert ledger.open_records() == []


def test_another_target_may_be_reserved_for_without_counting_another_request(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        account = ledger.account(key(max_budget=1000, rpm_limit=5, tpm_limit=1000, model_tpm=(("m", 500),)))
        with ledger.open(record("a", model="m"), account) as entry:
            entry.reserve(ESTIMATE, PriceState.LISTED)
            entry.reserve(Estimate(10, 60, 5, 900), PriceState.DECLARED)
            assert (account.reserved, account.limits.reserved, account.models["m"].reserved) == (900, 60, 60)
            assert (account.limits.requests, account.limits.calls) == (1, 1)
            with pytest.raises(Fault):
                entry.reserve(Estimate(10, 60, 1001, 1001), PriceState.LISTED)
            assert (account.reserved, account.limits.reserved, account.limits.calls) == (0, 0, 1)
        assert (account.limits.calls, account.models["m"].calls) == (0, 0)


def test_the_record_is_in_the_journal_and_the_metrics_before_settle_returns(tmp_path: Path) -> None:
    told: list[str] = []
    journal = Journal(tmp_path / "j", 0, SEAL)
    ledger = Ledger(journal, StillClock(), lambda row: told.append(row.id))
    with ledger.open(record("a"), ledger.account(key())) as entry:
        entry.reserve(ESTIMATE, PriceState.LISTED)
        complete(entry)
        assert told == ["a"]
        assert [row.id for row in journal.read(journal.unsaved, 9)[0]] == ["a"]
    journal.close()
    assert [row.outcome for row in recover(tmp_path / "j", 1, SEAL)] == [Outcome.COMPLETED]


def test_an_account_can_cancel_what_runs_on_it(tmp_path: Path) -> None:
    class Exchange:
        reason = ""

        def cancel(self, reason: str) -> None:
            self.reason = reason

    with running_ledger(tmp_path / "j") as ledger:
        account, exchange, late = ledger.account(key()), Exchange(), Exchange()
        with ledger.open(record("a"), account, exchange) as entry:
            account.cancel("This key has been blocked.")
            complete(entry)
        with ledger.open(record("b")) as entry:
            entry.bind(account, late)
            complete(entry)
        account.cancel("Nobody hears this.")
        assert (exchange.reason, late.reason) == ("This key has been blocked.", "")


def test_spend_that_the_store_may_not_know_is_told_until_it_is_saved(tmp_path: Path) -> None:
    with running_ledger(tmp_path / "j") as ledger:
        assert ledger.spend_of("k1") is None
        account = ledger.account(key(spend=5))
        spend(ledger, account, "a", cost=100)
        assert ledger.spend_of("k1") == 105
        assert ledger.account(key(spend=5)) is account  # read again from a store that lags
        with ledger.open(record("b"), account) as entry:
            entry.reserve(ESTIMATE, PriceState.LISTED)
            ledger.rest()
            assert ledger.spend_of("k1") == 105
            complete(entry)
        ledger.rest()
        assert ledger.spend_of("k1") is None
