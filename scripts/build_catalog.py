"""Builds the model and price table that ships with the package, from the wheels of two offline price packages.

It must not guess: a price that `Usage` cannot measure, or that its source gives as nothing, is left out and so unknown.

    python scripts/build_catalog.py --litellm litellm-*.whl --genai-prices genai_prices-*.whl --as-of 2026-11-23

The second wheel is imported, and needs its dependencies (pydantic, httpx2) installed. Prints what it kept, what it
refused, and where the two sources disagree: read those lists before committing a new table.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent.parent / "src" / "ostiary" / "catalog" / "data" / "models.jsonl"
LITELLM_JSON = "litellm/model_prices_and_context_window_backup.json"

NANO_PER_MILLION_UNITS = 10**9 * 10**6
# Outside these a figure is a slip of the pen. Dollars per million tokens, in nanodollars; the dearest model is at 600.
MIN_TOKEN_RATE = 10**6
MAX_TEXT_RATE = 700 * 10**9
MAX_VECTOR_RATE = 10 * 10**9

TEXT_MODES = frozenset({"chat", "completion", "responses"})
MODES = TEXT_MODES | {"embedding", "image_generation", "audio_transcription", "audio_speech", "rerank", "moderation"}

# Provider of the second source -> key prefix and owner in the first one's terms. Azure is absent on purpose: its names
# are the operator's own. A Hugging Face price depends on who serves, so it is absent too.
GENAI_OWNERS = {
    "anthropic": ("", "anthropic"),
    "baseten": ("baseten/", "baseten"),
    "cerebras": ("cerebras/", "cerebras"),
    "cloudflare": ("cloudflare/", "cloudflare"),
    "cohere": ("", "cohere_chat"),
    "databricks": ("databricks/", "databricks"),
    "deepseek": ("deepseek/", "deepseek"),
    "fireworks": ("fireworks_ai/", "fireworks_ai"),
    "google": ("gemini/", "gemini"),
    "groq": ("groq/", "groq"),
    "meta": ("meta_llama/", "meta_llama"),
    "minimax": ("minimax/", "minimax"),
    "mistral": ("mistral/", "mistral"),
    "moonshotai": ("moonshot/", "moonshot"),
    "novita": ("novita/", "novita"),
    "openai": ("", "openai"),
    "openrouter": ("openrouter/", "openrouter"),
    "ovhcloud": ("ovhcloud/", "ovhcloud"),
    "perplexity": ("perplexity/", "perplexity"),
    "together": ("together_ai/", "together_ai"),
    "voyageai": ("voyage/", "voyage"),
    "x-ai": ("xai/", "xai"),
    "zai": ("zai/", "zai"),
}
GENAI_TEXT_UNITS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_creation",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "requests_kcount": "request",
}
TOKEN_RATES = frozenset(GENAI_TEXT_UNITS.values()) - {"request"}
# Charged beside the answer's tokens, or another way to state a rate that is left to the plain one.
GENAI_IGNORED_UNITS = frozenset(
    {"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok", "cache_audio_read_mtok"}
)
# Words in a name that say that the model is not for chat.
NOT_CHAT = ("realtime", "transcribe", "tts", "whisper", "image", "moderation", "embed", "rerank", "live", "speech")

Rates = dict[str, int]
Row = tuple[str, str, str, int | None, int | None, Rates | None]  # key, owner, mode, tokens in, tokens out, price


def rate(entry: Mapping[str, Any], *fields: str) -> int:
    """The first of these fields that is above zero, as nanodollars per million units; 0 if none is."""
    for field in fields:
        value = entry.get(field)
        if value:
            return int((Decimal(value) * NANO_PER_MILLION_UNITS).to_integral_value())
    return 0


def present(**rates: int) -> Rates:
    """Only rates above zero: a zero in a source means that nobody filled it in."""
    return {name: value for name, value in rates.items() if value}


def token_rates(entry: Mapping[str, Any]) -> Rates:
    return present(
        input=rate(entry, "input_cost_per_token"),
        output=rate(entry, "output_cost_per_token"),
        cache_read=rate(entry, "cache_read_input_token_cost", "input_cost_per_token_cache_hit"),
        cache_creation=rate(entry, "cache_creation_input_token_cost"),
        reasoning=rate(entry, "output_cost_per_reasoning_token"),
        audio_input=rate(entry, "input_cost_per_audio_token"),
        audio_output=rate(entry, "output_cost_per_audio_token"),
    )


def text_price(entry: Mapping[str, Any]) -> Rates | None:
    rates = token_rates(entry)
    if "input" not in rates or "output" not in rates:
        return None
    if rate(entry, "output_cost_per_image_token") > rates["output"]:
        return None  # which tokens of the answer were a picture is not measured
    # A search is part of every answer of these models; the fee is that of the smallest search, their default.
    searches = entry.get("search_context_cost_per_query")
    if entry["litellm_provider"] == "perplexity" and searches:
        rates |= present(request=request_fee(searches, "search_context_size_low"))
    return rates


def request_fee(entry: Mapping[str, Any], field: str) -> int:
    """Nanodollars per request."""
    return rate(entry, field) // 10**6


def image_price(entry: Mapping[str, Any]) -> Rates | None:
    if not rate(entry, "output_cost_per_image_token"):
        return present(image=rate(entry, "output_cost_per_image", "input_cost_per_image")) or None
    # The answer may state tokens. They are those of pictures, at the dearer rate of the two; where it states none, the
    # pictures are counted. `input_cost_per_image` is here the price of a picture in the prompt, which is not counted.
    return present(
        input=max(rate(entry, "input_cost_per_token"), rate(entry, "input_cost_per_image_token")),
        output=max(rate(entry, "output_cost_per_token"), rate(entry, "output_cost_per_image_token")),
        cache_read=max(rate(entry, "cache_read_input_token_cost"), rate(entry, "cache_read_input_image_token_cost")),
        image=rate(entry, "output_cost_per_image"),
    )


def transcription_price(entry: Mapping[str, Any]) -> Rates | None:
    # One duration is measured, so one rate applies, even where the source repeats it for both directions.
    seconds = present(second_in=rate(entry, "output_cost_per_second", "input_cost_per_second"))
    rates = token_rates(entry)
    if "output" in rates and ("input" in rates or "audio_input" in rates):
        rates.setdefault("input", rates.get("audio_input", 0))
        return rates | seconds
    return seconds or None


def speech_price(entry: Mapping[str, Any]) -> Rates | None:
    # The answer is sound and states no tokens; what can be counted is the text it was asked to speak.
    return present(character_in=rate(entry, "input_cost_per_character")) or None


def rerank_price(entry: Mapping[str, Any]) -> Rates | None:
    fee = request_fee(entry, "input_cost_per_query")
    return present(request=fee) | present(input=rate(entry, "input_cost_per_token")) or None


def input_price(entry: Mapping[str, Any]) -> Rates | None:
    rates = token_rates(entry)
    return {"input": rates["input"]} if "input" in rates else None


PRICES = {
    **dict.fromkeys(TEXT_MODES, text_price),
    "embedding": input_price,
    "moderation": input_price,
    "rerank": rerank_price,
    "image_generation": image_price,
    "audio_transcription": transcription_price,
    "audio_speech": speech_price,
}


def count(value: object) -> int | None:
    """A limit on tokens, where the source gives one."""
    return int(value) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and value > 0 else None


def litellm_rows(source: Mapping[str, Any]) -> Iterator[Row]:
    for key, entry in source.items():
        mode = entry.get("mode")
        if key == "sample_spec" or mode not in MODES:
            continue
        tiers = entry.get("tiered_pricing")
        if tiers and not entry.get("input_cost_per_token") and tiers[0].get("range", [1])[0] == 0:
            entry = {**entry, **tiers[0]}  # noqa: PLW2901 # the plain tier, like everywhere else
        limits = count(entry.get("max_input_tokens")), count(entry.get("max_output_tokens"))
        yield key, entry["litellm_provider"], mode, *limits, PRICES[mode](entry)


def genai_ids(model: Any, types: Any) -> set[str]:
    """The model's id and the names that are equal to it, never those that only resemble it."""
    names = {model.id}
    clauses = [model.match]
    while clauses:
        clause = clauses.pop()
        if isinstance(clause, types.ClauseEquals):
            names.add(clause.equals)
        elif isinstance(clause, types.ClauseOr):
            clauses.extend(clause.or_)
    return {name for name in names if name.isascii() and " " not in name}


def in_force(prices: Any, as_of: datetime.date, types: Any) -> Any | None:
    """The price list of a day; None where it depends on the hour."""
    if not isinstance(prices, list):
        return prices
    valid = []
    for entry in prices:
        since = entry.constraint
        if since is None:
            valid.append((datetime.date.min, entry.prices))
        elif not isinstance(since, types.StartDateConstraint):
            return None
        elif since.start_date <= as_of:
            valid.append((since.start_date, entry.prices))
    return max(valid, key=lambda dated: dated[0])[1] if valid else None


def genai_price(prices: Any, types: Any) -> Rates | None:
    """Rates of one price list; None where it has a unit that is not measured."""
    rates = {}
    for unit, value in vars(prices).items():
        if value is None or unit.startswith("_") or unit in GENAI_IGNORED_UNITS:
            continue
        if unit not in GENAI_TEXT_UNITS:
            return None
        plain = value.base if isinstance(value, types.TieredPrices) else value
        scale = 10**6 if unit == "requests_kcount" else 10**9
        rates[GENAI_TEXT_UNITS[unit]] = int((Decimal(plain) * scale).to_integral_value())
    return present(**rates)


def genai_rows(wheel: Path, as_of: datetime.date) -> Iterator[Row]:
    sys.path.insert(0, str(wheel))
    types = importlib.import_module("genai_prices.types")
    for provider in importlib.import_module("genai_prices.data").providers:
        if provider.id not in GENAI_OWNERS:
            continue
        prefix, owner = GENAI_OWNERS[provider.id]
        for model in provider.models:
            prices = in_force(model.prices, as_of, types)
            rates = genai_price(prices, types) if prices else None
            if not rates or "input" not in rates:
                continue
            for name in sorted(genai_ids(model, types)):
                if "output" in rates and not any(word in name for word in NOT_CHAT):
                    yield prefix + name, owner, "chat", count(model.context_window), None, rates
                elif "output" not in rates and "embed" in name and rates.keys() == {"input"}:
                    yield prefix + name, owner, "embedding", count(model.context_window), None, rates


def nonsense(row: Row) -> str | None:
    """What is wrong with a row's price, if its figures cannot be meant."""
    rates = row[5] or {}
    ceiling = MAX_VECTOR_RATE if row[2] in {"embedding", "rerank", "moderation"} else MAX_TEXT_RATE
    for name in TOKEN_RATES & rates.keys():
        if not MIN_TOKEN_RATE <= rates[name] <= ceiling:
            return f"{name} of {rates[name] / 10**9:g} dollars per million"
    plain = rates.get("input")
    if plain and (rates.get("cache_read", 0) > plain or rates.get("cache_creation", 0) > 4 * plain):
        return "a cache dearer than what it saves"
    return None


def disagreements(first: Mapping[str, Row], second: Mapping[str, Row]) -> Iterator[str]:
    """Where the sources differ by more than a hundredth in a plain rate."""
    for key in sorted(first.keys() & second.keys()):
        ours, theirs = first[key][5] or {}, second[key][5] or {}
        for name in ("input", "output"):
            if name in ours and name in theirs and abs(ours[name] - theirs[name]) * 100 > theirs[name]:
                yield f"{key}: {name} {ours[name] / 10**9:g} against {theirs[name] / 10**9:g} dollars per million"


def wheel_version(wheel: Path) -> str:
    """A wheel's file name is `{distribution}-{version}-{tags}.whl`."""
    return wheel.name.split("-")[1]


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the model and price table from two wheels.")
    parser.add_argument("--litellm", type=Path, required=True)
    parser.add_argument("--genai-prices", type=Path, required=True)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, required=True, help="day the wheels were fetched")
    options = parser.parse_args()

    with zipfile.ZipFile(options.litellm) as archive:
        source = json.loads(archive.read(LITELLM_JSON), parse_float=Decimal)
    first = {row[0]: row for row in litellm_rows(source)}
    second = {row[0]: row for row in genai_rows(options.genai_prices, options.as_of)}
    # The first source knows the modes and the keys, so it wins; the second fills what it lacks.
    added = {key: row for key, row in second.items() if key not in source}
    rows = first | added
    for key, row in rows.items():
        if complaint := nonsense(row):
            print(f"{key}: {complaint} cannot be meant; left unknown")
            rows[key] = (*row[:5], None)

    head = {
        "as_of": options.as_of.isoformat(),
        "sources": [
            {"name": "litellm", "version": wheel_version(options.litellm), "license": "MIT"},
            {"name": "genai-prices", "version": wheel_version(options.genai_prices), "license": "MIT"},
        ],
    }
    # Sorted as text, because the loader searches by halves.
    lines = [compact(head), *sorted(compact(row) for row in rows.values())]
    TABLE.write_text("".join(lines), encoding="ascii")

    for line in disagreements(first, second):
        print(line)
    priced = Counter(row[2] for row in rows.values() if row[5])
    print(f"{len(rows)} models, {len(added)} of them from genai-prices alone; {TABLE.stat().st_size:,} bytes")
    for mode, total in sorted(Counter(row[2] for row in rows.values()).items()):
        print(f"  {mode}: {total}, priced {priced[mode]}")


if __name__ == "__main__":
    main()
