"""Reads the price that an operator declares for a deployment. It must not fill in what was not declared."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType

from ostiary.core.price import FREE, MILLION, Price

_FEMTO = 10**15  # parts of a dollar that a rate counts: nanodollars per million units
_MAX_DOLLARS = 1000  # per token, picture, second, character or request: above this a number is a mistake

# Field of `litellm_params` or `model_info` (dollars per unit) -> rate of `Price`.
FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "input_cost_per_token": "input",
        "output_cost_per_token": "output",
        "cache_read_input_token_cost": "cache_read",
        "cache_creation_input_token_cost": "cache_creation",
        "output_cost_per_reasoning_token": "reasoning",
        "input_cost_per_audio_token": "audio_input",
        "output_cost_per_audio_token": "audio_output",
        "output_cost_per_image": "image",
        "input_cost_per_image": "image",
        "output_cost_per_second": "second_out",
        "input_cost_per_second": "second_in",
        "input_cost_per_character": "character_in",
        "output_cost_per_character": "character_out",
        "input_cost_per_request": "request",
        "input_cost_per_query": "request",
    }
)
# A rate for a part of the tokens says nothing of the rest, which would be free: it needs the plain rate beside it.
_NEEDS = (
    ("cache_read_input_token_cost", "input_cost_per_token"),
    ("cache_creation_input_token_cost", "input_cost_per_token"),
    ("input_cost_per_audio_token", "input_cost_per_token"),
    ("output_cost_per_reasoning_token", "output_cost_per_token"),
    ("output_cost_per_audio_token", "output_cost_per_token"),
)


def declared_price(params: Mapping[str, object]) -> Price | None:
    """The price declared among a deployment's parameters; None if none is, `FREE` if all that is declared is zero.

    Values are dollars per unit, numbers or decimal strings, taken as written. Of `output_cost_per_image` and
    `input_cost_per_image`, and of `output_cost_per_second` and `input_cost_per_second`, the first stands where both
    are above zero: pictures and seconds are measured once.

    Raises:
        ValueError: a value that is no price; names the field.
    """
    declared = {field: _rate(field, params[field]) for field in FIELDS if params.get(field) is not None}
    if not declared:
        return None
    if not any(declared.values()):
        return FREE
    for part, whole in _NEEDS:
        if part in declared and whole not in declared:
            raise ValueError(f"{part}: needs {whole} beside it")
    rates: dict[str, int] = {}
    for field, rate in declared.items():
        name = FIELDS[field]
        rates[name] = rates.get(name) or rate
    if rates.get("second_out"):
        rates.pop("second_in", None)
    if "request" in rates:
        rates["request"] = -(-rates["request"] // MILLION)
    return Price(**rates)


def _rate(field: str, value: object) -> int:
    """Nanodollars per million units."""
    try:
        dollars = Decimal(str(value))  # as written: 1e-06 is 0.000001, and True is no number
    except InvalidOperation:
        raise ValueError(f"{field}: a price is a number") from None
    if not dollars.is_finite() or not 0 <= dollars <= _MAX_DOLLARS:
        raise ValueError(f"{field}: a price is between 0 and {_MAX_DOLLARS} dollars per unit")
    rate = int((dollars * _FEMTO).to_integral_value())
    if dollars and not rate:
        raise ValueError(f"{field}: a price below 1e-15 dollars per unit cannot be counted; write 0 for free")
    return rate
