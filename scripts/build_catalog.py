"""Builds the model and price table that ships with the package, from the wheels of two offline price packages.

It must not guess: a price that `Usage` cannot measure, or that its source gives as nothing, is left out and so unknown.

    python scripts/build_catalog.py --litellm litellm-*.whl --genai-prices genai_prices-*.whl --as-of 2026-11-23

It needs this package installed, and the dependencies of the second wheel (pydantic, httpx2), which is imported. Prints
what it kept, what it refused, and where the two sources disagree: read those lists, and `ostiary catalog diff` with the
table as it was, before committing a new one. The head of the table holds the hashes of the wheels; a wheel of the same
version with another hash is refused.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ostiary.catalog.facts import CAPABILITIES, ModelFacts, line_of
from ostiary.catalog.models import Models, Provenance, Source
from ostiary.catalog.published import count, implausible, published_facts, read_published
from ostiary.core.price import Price

TABLE = Path(__file__).parent.parent / "src" / "ostiary" / "catalog" / "data" / "models.jsonl"
LITELLM_JSON = "litellm/model_prices_and_context_window_backup.json"

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
# Charged beside the answer's tokens, or another way to state a rate that is left to the plain one.
GENAI_IGNORED_UNITS = frozenset(
    {"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok", "cache_audio_read_mtok"}
)
# Words in a name that say that the model is not for chat.
NOT_CHAT = ("realtime", "transcribe", "tts", "whisper", "image", "moderation", "embed", "rerank", "live", "speech")

Rates = dict[str, int]


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
    return {name: value for name, value in rates.items() if value}


def genai_facts(wheel: Path, as_of: datetime.date) -> Iterator[ModelFacts]:
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
                    mode = "chat"
                elif "output" not in rates and "embed" in name and rates.keys() == {"input"}:
                    mode = "embedding"
                else:
                    continue
                window = count(model.context_window)
                # A prompt is never longer than the window, and the source knows no other limit.
                yield ModelFacts(
                    Price(**rates), mode, window, None, prefix + name, owner, context_window=window, source=1
                )


def with_window(facts: ModelFacts, other: ModelFacts | None) -> ModelFacts:
    """With the context window of the other source, unless it is smaller than what the first says goes in."""
    window = other.context_window if other else None
    if window is None or window < max(facts.max_input_tokens or 0, facts.max_output_tokens or 0):
        return facts
    return msgspec.structs.replace(facts, context_window=window)


def disagreements(first: Mapping[str, ModelFacts], second: Mapping[str, ModelFacts]) -> Iterator[str]:
    """Where the sources differ by more than a hundredth in a plain rate."""
    for key in sorted(first.keys() & second.keys()):
        ours, theirs = first[key].price, second[key].price
        if ours is None or theirs is None:
            continue
        for name, mine, other in (("input", ours.input, theirs.input), ("output", ours.output, theirs.output)):
            if mine and other and abs(mine - other) * 100 > other:
                yield f"{key}: {name} {mine / 10**9:g} against {other / 10**9:g} dollars per million"


def source_of(name: str, wheel: Path) -> Source:
    """A wheel's file name is `{distribution}-{version}-{tags}.whl`."""
    return Source(name, wheel.name.split("-")[1], "MIT", hashlib.sha256(wheel.read_bytes()).hexdigest())


def refuse_other_wheels(sources: tuple[Source, ...]) -> None:
    """Stop at a wheel that is not the one which the table was made from, and says that it is."""
    known = {(one.name, one.version): one.sha256 for one in Models(TABLE.read_bytes()).provenance().sources}
    for source in sources:
        if known.get((source.name, source.version)) not in (None, "", source.sha256):
            sys.exit(f"{source.name} {source.version} is not the wheel that the table names")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the model and price table from two wheels.")
    parser.add_argument("--litellm", type=Path, required=True)
    parser.add_argument("--genai-prices", type=Path, required=True)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, required=True, help="day the wheels were fetched")
    options = parser.parse_args()

    sources = source_of("litellm", options.litellm), source_of("genai-prices", options.genai_prices)
    refuse_other_wheels(sources)
    with zipfile.ZipFile(options.litellm) as archive:
        published = read_published(archive.read(LITELLM_JSON))
    second = {facts.name: facts for facts in genai_facts(options.genai_prices, options.as_of)}
    first = {facts.name: with_window(facts, second.get(facts.name)) for facts in published_facts(published)}
    # The first source knows the modes and the keys, so it wins; the second fills what it lacks.
    added = {key: facts for key, facts in second.items() if key not in published}
    rows = first | added
    for key, facts in rows.items():
        if complaint := implausible(facts):
            print(f"{key}: {complaint} cannot be meant; left unknown")
            rows[key] = msgspec.structs.replace(facts, price=None)

    head = msgspec.json.encode(Provenance(options.as_of.isoformat(), sources, CAPABILITIES)) + b"\n"
    # Sorted as text, because the loader searches by halves.
    TABLE.write_bytes(b"".join([head, *sorted(map(line_of, rows.values()))]))

    for line in disagreements(first, second):
        print(line)
    priced = Counter(facts.mode for facts in rows.values() if facts.price)
    print(f"{len(rows)} models, {len(added)} of them from genai-prices alone; {TABLE.stat().st_size:,} bytes")
    for mode, total in sorted(Counter(facts.mode for facts in rows.values()).items()):
        print(f"  {mode}: {total}, priced {priced[mode]}")


if __name__ == "__main__":
    main()
