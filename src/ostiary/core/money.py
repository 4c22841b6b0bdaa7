"""Money as integer nanodollars (1 USD = 10**9). It must not meet a float on the way to a sum."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import TypeAlias

Nano: TypeAlias = int  # an amount in nanodollars

NANO_PER_DOLLAR = 10**9
MAX_NANO = 10**18  # a thousand million dollars: above this a number is a mistake


def nano_from_dollars(value: str | int | float | Decimal) -> Nano:
    """Nanodollars of an amount in dollars as written by a person (12.5, "0.01", 1e-3), rounded half to even.

    Raises:
        ValueError: not a finite number, negative, or beyond `MAX_NANO`.
    """
    if isinstance(value, bool):
        raise ValueError("an amount of money is a number")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("an amount of money is a number") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("an amount of money is finite and not negative")
    if amount * NANO_PER_DOLLAR > MAX_NANO:
        raise ValueError("an amount of money of this size is refused")
    return int((amount * NANO_PER_DOLLAR).to_integral_value(rounding=ROUND_HALF_EVEN))


def dollars_text(nano: Nano) -> str:
    """The amount as a decimal string without exponent or trailing zeros: 1500 -> "0.0000015"."""
    if 0 < nano < NANO_PER_DOLLAR:  # nearly every amount
        return "0." + f"{nano:09d}".rstrip("0")
    whole, rest = divmod(abs(nano), NANO_PER_DOLLAR)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".") if rest else str(whole)
    return f"-{text}" if nano < 0 else text
