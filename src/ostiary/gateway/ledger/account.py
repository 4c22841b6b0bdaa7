"""The counters of one virtual key in this process: budget, limits, running exchanges. It must not do any I/O.

Budgets work like token limits (see `limits`): reserve, then settle. A request is refused when
spent + reserved + the cost of its input alone exceed the budget, or when nothing is left; otherwise it reserves its
estimated cost, or what is left if that is less. So a small budget can be used to its end, requests at the same time
see each other's reservations, and the sum of reservations never exceeds the budget. The overshoot is bounded: per
request in flight, what its answer cost beyond its own reservation.

A budget window begins at `spend_from` and lasts `budget_seconds` of the calendar clock; it rolls in whole multiples,
so that it does not drift. What is settled counts in the window in which it is settled. A free target is never refused
for money; a target of unknown price is refused to every key that has a budget, because nobody could say what is left.

The account is the truth on spend while the process lives: the store lags behind by what is not flushed yet. A newer
revision of the key therefore changes rights and limits, and sets spend only if it begins a later budget window: who
wants to set what a key has spent gives it a `spend_from` of now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano, dollars_text
from ostiary.core.price import PriceState
from ostiary.gateway.ledger.limits import Limit, Limits


class Cancellable(Protocol):
    """A running exchange, as the account sees it."""

    def cancel(self, reason: str) -> None:
        """End the exchange; `reason` is one sentence for the caller."""
        ...


class Estimate(NamedTuple):
    """What a request will use. The floors are its input alone; tokens, and nanodollars of cost."""

    tokens_floor: int = 0
    tokens: int = 0
    cost_floor: Nano = 0
    cost: Nano = 0


class Account:
    """Counters of one key.

    Args:
        key: its rights and limits. A `spend_from` of 0 means that the budget window begins now.
        now: Unix seconds.
    """

    __slots__ = ("key", "last_used", "limits", "models", "reserved", "running", "spend", "spend_from")

    def __init__(self, key: VirtualKey, now: float) -> None:
        self.key = key
        self.spend: Nano = key.spend
        self.spend_from = key.spend_from or now
        self.reserved: Nano = 0
        self.limits = Limits(key.rpm_limit, key.tpm_limit, key.max_parallel)
        self.models: dict[str, Limits] = {}
        self.running: set[Cancellable] = set()
        self.last_used = now
        self._share_models()

    def replace(self, key: VirtualKey) -> None:
        """Take a newer revision of the key over; counters stay, spend follows a later `spend_from`."""
        if key.spend_from > self.spend_from:
            self.spend, self.spend_from = key.spend, key.spend_from
        elif key.spend_from == self.spend_from:
            self.spend = max(self.spend, key.spend)
        self.key = key
        self.limits.replace(key.rpm_limit, key.tpm_limit, key.max_parallel)
        self._share_models()

    def _share_models(self) -> None:
        """One `Limits` per model that the key limits, keeping the counters of those there were."""
        rpm, tpm = dict(self.key.model_rpm), dict(self.key.model_tpm)
        before, self.models = self.models, {}
        for model in {**rpm, **tpm}:
            limits = self.models[model] = before.get(model) or Limits()
            limits.replace(rpm.get(model), tpm.get(model), None)

    def cancel(self, reason: str) -> None:
        """End every running exchange of this key."""
        for exchange in list(self.running):
            exchange.cancel(reason)

    def roll(self, now: float) -> None:
        """Begin a new budget window if the last one has ended. `now` is in Unix seconds."""
        seconds = self.key.budget_seconds
        if seconds and now - self.spend_from >= seconds:
            passed = (now - self.spend_from) // seconds * seconds
            self.spend_from = round(self.spend_from + passed, 3)  # the store counts milliseconds: equal must be equal
            self.spend = 0

    def admit(self, now: float, model: str, floor: int) -> Limits | None:
        """Check the limits of the key and of the key's `model`; counts nothing. Answers the latter, if there are any.

        `now` is in monotonic seconds, `floor` the tokens that the request uses at least.

        Raises:
            Fault: RATE_LIMITED.
        """
        limits = self.limits
        limit = limits.refusal(now, floor)
        if limit is not None:
            raise _rate_limited(limits, limit, now)
        narrow = self.models.get(model) if self.models else None
        if narrow is not None and (limit := narrow.refusal(now, floor)) is not None:
            raise _rate_limited(narrow, limit, now, model=model)
        return narrow

    def afford(self, now: float, estimate: Estimate, price: PriceState) -> None:
        """Check the budget; counts nothing.

        Raises:
            Fault: BUDGET_EXCEEDED, UNKNOWN_PRICE.
        """
        budget = self.key.max_budget
        if budget is None or price is PriceState.FREE:
            return
        if price is PriceState.UNKNOWN:
            raise Fault(
                Kind.UNKNOWN_PRICE,
                "The price of this model is unknown, and this key has a budget. "
                "Declare a price for the deployment, or declare it free.",
                origin=Origin.POLICY,
                param="model",
            )
        self.roll(now)
        left = budget - self.spend - self.reserved
        if left <= 0 or estimate.cost_floor > left:
            raise Fault(
                Kind.BUDGET_EXCEEDED,
                f"Budget exceeded: max_budget is {dollars_text(budget)} dollars, {dollars_text(self.spend)} are spent, "
                f"{dollars_text(self.reserved)} are reserved by running requests, "
                f"and this request costs at least {dollars_text(estimate.cost_floor)}.",
                origin=Origin.POLICY,
                param="max_budget",
            )

    def hold(self, cost: Nano, price: PriceState) -> Nano:
        """Reserve `cost`, or what is left of the budget; `afford` has just passed. Answers the amount reserved."""
        budget = self.key.max_budget
        if budget is None or price is PriceState.FREE:
            return 0
        held = max(0, min(cost, budget - self.spend - self.reserved))
        self.reserved += held
        return held

    def pay(self, now: float, held: Nano, cost: Nano) -> None:
        """The end of a request that held `held` and cost `cost`. `now` is in Unix seconds."""
        self.roll(now)
        self.reserved -= held
        self.spend += cost


def rate_headers(account: Account, model: str, now: float) -> bytes:
    """`x-ratelimit-*` header lines, each ending in CRLF; empty for a key without such limits.

    Where the key and its model have a limit, the one with less left is told. `now` is in monotonic seconds.
    """
    limits, narrow = account.limits, account.models.get(model)
    if narrow is None:
        if limits.rpm is None and limits.tpm is None:
            return b""
        limits.roll(now)
        requests = tokens = limits
    else:
        limits.roll(now)
        narrow.roll(now)
        requests = _tighter(limits, narrow, "rpm", Limits.remaining_requests)
        tokens = _tighter(limits, narrow, "tpm", Limits.remaining_tokens)
    lines = b""
    if requests.rpm is not None:
        lines = _REQUEST_LINES % (requests.rpm, requests.remaining_requests(), requests.resets(now))
    if tokens.tpm is not None:
        lines += _TOKEN_LINES % (tokens.tpm, tokens.remaining_tokens(), tokens.resets(now))
    return lines


def _tighter(one: Limits, other: Limits, name: str, remaining: Callable[[Limits], int]) -> Limits:
    """Of two limits the one that is set, or the one with less left."""
    if getattr(other, name) is None:
        return one
    if getattr(one, name) is None:
        return other
    return min(one, other, key=remaining)


def _lines_of(unit: bytes) -> bytes:
    return b"".join(
        b"x-ratelimit-%s-%s: %s\r\n" % (name, unit, form)
        for name, form in ((b"limit", b"%d"), (b"remaining", b"%d"), (b"reset", b"%.0fs"))
    )


_REQUEST_LINES = _lines_of(b"requests")
_TOKEN_LINES = _lines_of(b"tokens")


def _rate_limited(limits: Limits, limit: Limit, now: float, *, model: str = "") -> Fault:
    of = f" for model {model}" if model else ""
    if limit is Limit.MAX_PARALLEL:
        what, wait = f"{limits.max_parallel} requests at once", 1.0
    elif limit is Limit.RPM:
        what, wait = f"{limits.rpm} requests per minute", limits.resets(now)
    else:
        what, wait = f"{limits.tpm} tokens per minute", limits.resets(now)
    return Fault(
        Kind.RATE_LIMITED,
        f"Rate limit exceeded: {limit.value} of this key{of} is {what}.",
        origin=Origin.POLICY,
        param=limit.value,
        retry_after=wait,
    )
