"""Reads model tables of the shape LiteLLM publishes (`model_prices_and_context_window.json`). It must not guess.

A price that a `Usage` cannot measure, or that the file gives as nothing (0), is left out and so unknown. Field names
are those of the file in the wheel of litellm 1.109.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from ostiary.catalog.facts import CAPABILITIES, MODES, ModelFacts
from ostiary.core.price import Price

NANO_PER_MILLION_UNITS = 10**9 * 10**6
# Outside these a figure is a slip of the pen. Dollars per million tokens, in nanodollars; the dearest model is at 600.
MIN_TOKEN_RATE = 10**6
MAX_TEXT_RATE = 700 * 10**9
MAX_VECTOR_RATE = 10 * 10**9
VECTOR_MODES = frozenset({"embedding", "rerank", "moderation"})
TOKEN_RATES = ("input", "output", "cache_read", "cache_creation", "reasoning", "audio_input", "audio_output")
EXAMPLE = "sample_spec"  # a row that explains the others

Rates = dict[str, int]
_DAY = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", re.ASCII)
_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def read_published(raw: bytes) -> dict[str, dict[str, Any]]:
    """The rows of such a file, numbers as they are written.

    Raises:
        ValueError: it is no JSON object of JSON objects; says where.
    """
    try:
        document = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError):
        raise ValueError("is no JSON object") from None
    for key, entry in document.items():
        if not isinstance(entry, dict):
            raise ValueError(f"{key[:80]!r} is no JSON object")
    return document


def published_facts(document: Mapping[str, Mapping[str, Any]]) -> Iterator[ModelFacts]:
    """The facts of the rows whose mode is one of `MODES`.

    Raises:
        ValueError: a figure that is no number; names the row.
    """
    for key, entry in document.items():
        mode = entry.get("mode")
        if key == EXAMPLE or mode not in MODES or not isinstance(entry.get("litellm_provider"), str):
            continue
        try:
            yield facts_in(key, entry, mode)
        except (ArithmeticError, TypeError, AttributeError, LookupError):
            raise ValueError(f"{key[:80]!r} holds a figure that is no number") from None


def facts_in(key: str, entry: Mapping[str, Any], mode: str) -> ModelFacts:
    """The facts of one row, taken for a model of `mode`. What the row does not say is unknown, the owner empty."""
    tiers = entry.get("tiered_pricing")
    if tiers and not entry.get("input_cost_per_token") and tiers[0].get("range", [1])[0] == 0:
        entry = {**entry, **tiers[0]}  # the plain tier, like everywhere else
    ends = entry.get("deprecation_date")
    rates = _PRICES[mode](entry) if mode in _PRICES else None
    return ModelFacts(
        price=Price(**rates) if rates else None,
        mode=mode,
        max_input_tokens=count(entry.get("max_input_tokens")),
        max_output_tokens=count(entry.get("max_output_tokens")),
        name=key,
        owner=str(entry.get("litellm_provider") or ""),
        capabilities={name: value for name in CAPABILITIES if isinstance(value := entry.get(name), bool)},
        vector_size=count(entry.get("output_vector_size")),
        ends=ends if isinstance(ends, str) and _DAY.fullmatch(ends) else None,
    )


def implausible(facts: ModelFacts) -> str | None:
    """What is wrong with a price whose figures cannot be meant."""
    if facts.price is None:
        return None
    rates = {name: getattr(facts.price, name) or 0 for name in TOKEN_RATES}
    ceiling = MAX_VECTOR_RATE if facts.mode in VECTOR_MODES else MAX_TEXT_RATE
    for name, value in rates.items():
        if value and not MIN_TOKEN_RATE <= value <= ceiling:
            return f"{name} of {value / 10**9:g} dollars per million tokens"
    plain = rates["input"]
    if plain and (rates["cache_read"] > plain or rates["cache_creation"] > 4 * plain):
        return "a cache dearer than what it saves"
    return None


def count(value: object) -> int | None:
    """A limit or size, where there is one."""
    return int(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) and value > 0 else None


def _rate(entry: Mapping[str, Any], *fields: str) -> int:
    """The first of these fields that is above zero, as nanodollars per million units; 0 if none is."""
    for field in fields:
        value = entry.get(field)
        if value:
            return int((Decimal(value) * NANO_PER_MILLION_UNITS).to_integral_value())
    return 0


def _present(**rates: int) -> Rates:
    """Only rates above zero: a zero in such a file means that nobody filled it in."""
    return {name: value for name, value in rates.items() if value}


def _token_rates(entry: Mapping[str, Any]) -> Rates:
    return _present(
        input=_rate(entry, "input_cost_per_token"),
        output=_rate(entry, "output_cost_per_token"),
        cache_read=_rate(entry, "cache_read_input_token_cost", "input_cost_per_token_cache_hit"),
        cache_creation=_rate(entry, "cache_creation_input_token_cost"),
        reasoning=_rate(entry, "output_cost_per_reasoning_token"),
        audio_input=_rate(entry, "input_cost_per_audio_token"),
        audio_output=_rate(entry, "output_cost_per_audio_token"),
    )


def _text_price(entry: Mapping[str, Any]) -> Rates | None:
    rates = _token_rates(entry)
    if "input" not in rates or "output" not in rates:
        return None
    if _rate(entry, "output_cost_per_image_token") > rates["output"]:
        return None  # which tokens of the answer were a picture is not measured
    # A search is part of every answer of these models; the fee is that of the smallest search, their default.
    searches = entry.get("search_context_cost_per_query")
    if entry.get("litellm_provider") == "perplexity" and searches:
        rates |= _present(request=_request_fee(searches, "search_context_size_low"))
    return rates


def _request_fee(entry: Mapping[str, Any], field: str) -> int:
    """Nanodollars per request."""
    return _rate(entry, field) // 10**6


def _image_price(entry: Mapping[str, Any]) -> Rates | None:
    if not _rate(entry, "output_cost_per_image_token"):
        return _present(image=_rate(entry, "output_cost_per_image", "input_cost_per_image")) or None
    # The answer may state tokens. They are those of pictures, at the dearer rate of the two; where it states none, the
    # pictures are counted. `input_cost_per_image` is here the price of a picture in the prompt, which is not counted.
    return _present(
        input=max(_rate(entry, "input_cost_per_token"), _rate(entry, "input_cost_per_image_token")),
        output=max(_rate(entry, "output_cost_per_token"), _rate(entry, "output_cost_per_image_token")),
        cache_read=max(_rate(entry, "cache_read_input_token_cost"), _rate(entry, "cache_read_input_image_token_cost")),
        image=_rate(entry, "output_cost_per_image"),
    )


def _transcription_price(entry: Mapping[str, Any]) -> Rates | None:
    # One duration is measured, so one rate applies, even where the source repeats it for both directions.
    seconds = _present(second_in=_rate(entry, "output_cost_per_second", "input_cost_per_second"))
    rates = _token_rates(entry)
    if "output" in rates and ("input" in rates or "audio_input" in rates):
        rates.setdefault("input", rates.get("audio_input", 0))
        return rates | seconds
    return seconds or None


def _speech_price(entry: Mapping[str, Any]) -> Rates | None:
    # The answer is sound and states no tokens; what can be counted is the text it was asked to speak.
    return _present(character_in=_rate(entry, "input_cost_per_character")) or None


def _realtime_price(entry: Mapping[str, Any]) -> Rates | None:
    # Cached sound is charged as sound: which of the cached tokens were sound is not measured.
    rates = _token_rates(entry)
    return rates if rates.keys() >= {"input", "output", "audio_input", "audio_output"} else None


def _rerank_price(entry: Mapping[str, Any]) -> Rates | None:
    fee = _request_fee(entry, "input_cost_per_query")
    return _present(request=fee) | _present(input=_rate(entry, "input_cost_per_token")) or None


def _input_price(entry: Mapping[str, Any]) -> Rates | None:
    rates = _token_rates(entry)
    return {"input": rates["input"]} if "input" in rates else None


_PRICES = {
    "chat": _text_price,
    "completion": _text_price,
    "responses": _text_price,
    "embedding": _input_price,
    "moderation": _input_price,
    "rerank": _rerank_price,
    "image_generation": _image_price,
    "audio_transcription": _transcription_price,
    "audio_speech": _speech_price,
    "realtime": _realtime_price,
}
