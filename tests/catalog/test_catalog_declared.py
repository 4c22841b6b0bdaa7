"""Prices that an operator declares: read exactly, or refused by the name of the field."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.catalog.declared import FIELDS, declared_price
from ostiary.core.price import FREE, Price
from ostiary.core.usage import Usage


def test_nothing_declared_is_no_price() -> None:
    assert declared_price({}) is None
    assert declared_price({"model": "openai/x", "rpm": 5}) is None
    assert declared_price({"input_cost_per_token": None}) is None


@pytest.mark.parametrize("value", [2.5e-06, "0.0000025", "2.5e-6", Decimal("0.0000025")])
def test_a_price_is_read_as_written(value: object) -> None:
    price = declared_price({"input_cost_per_token": value, "output_cost_per_token": 1e-05})
    assert price == Price(input=2_500_000_000, output=10_000_000_000)
    assert price.cost(Usage(input=1_000_000, output=0)) == 2_500_000_000


def test_every_rate_finds_its_place() -> None:
    price = declared_price(
        {
            "input_cost_per_token": "1e-6",
            "output_cost_per_token": "2e-6",
            "cache_read_input_token_cost": "3e-7",
            "cache_creation_input_token_cost": "4e-6",
            "output_cost_per_reasoning_token": "5e-6",
            "input_cost_per_audio_token": "6e-6",
            "output_cost_per_audio_token": "7e-6",
            "output_cost_per_image": "0.04",
            "input_cost_per_second": "0.0001",
            "input_cost_per_character": "0.000015",
            "output_cost_per_character": "0.000001",
            "input_cost_per_request": "0.005",
        }
    )
    assert price == Price(
        input=10**9,
        output=2 * 10**9,
        cache_read=3 * 10**8,
        cache_creation=4 * 10**9,
        reasoning=5 * 10**9,
        audio_input=6 * 10**9,
        audio_output=7 * 10**9,
        image=4 * 10**13,
        second_in=10**11,
        character_in=15 * 10**9,
        character_out=10**9,
        request=5_000_000,
    )


def test_pictures_and_seconds_are_charged_once_where_both_directions_are_declared() -> None:
    both = {"input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001, "output_cost_per_token": 0}
    price = declared_price(both)
    assert price is not None
    assert price.cost(Usage(milliseconds=60_000)) == 6_000_000  # six tenths of a cent a minute
    price = declared_price({"input_cost_per_image": 0.5, "output_cost_per_image": 0.02})
    assert price is not None
    assert price.cost(Usage(images=2)) == 40_000_000


def test_all_zero_declares_the_deployment_free() -> None:
    assert declared_price({"input_cost_per_token": 0, "output_cost_per_token": 0.0}) == FREE
    assert declared_price({"input_cost_per_token": "0", "cache_read_input_token_cost": 0}) == FREE


def test_a_declared_zero_beside_other_rates_is_zero_and_not_a_gap() -> None:
    price = declared_price({"input_cost_per_token": 1e-6, "cache_read_input_token_cost": 0})
    assert price == Price(input=10**9, cache_read=0)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [True, "free", "", "nan", float("inf"), -1e-9, "1,5", [1], {}, 1001, 1e-30])
def test_nonsense_is_refused_by_the_name_of_the_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        declared_price({field: value})


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("cache_read_input_token_cost", "input_cost_per_token"),
        ("output_cost_per_reasoning_token", "output_cost_per_token"),
    ],
)
def test_a_rate_for_part_of_the_tokens_does_not_make_the_rest_free(part: str, whole: str) -> None:
    with pytest.raises(ValueError, match=f"^{part}: needs {whole}"):
        declared_price({part: 1e-7})


@given(rate=st.integers(min_value=1, max_value=10**15), tokens=st.integers(min_value=1, max_value=10**7))
def test_no_digit_is_lost_between_the_file_and_the_sum(rate: int, tokens: int) -> None:
    price = declared_price({"input_cost_per_token": f"{Decimal(rate) / 10**15:f}"})
    assert price is not None
    exact = Decimal(rate) * tokens / 10**6
    assert 0 <= price.cost(Usage(input=tokens)) - exact < 1
