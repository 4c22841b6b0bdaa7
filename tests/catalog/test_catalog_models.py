"""The model table: figures checked by hand, matching that never takes another model's price, and the law of cost."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.catalog.models import ModelFacts, Models, load_models
from ostiary.catalog.provider import Provider
from ostiary.catalog.providers import load_providers
from ostiary.core.price import Price
from ostiary.core.usage import NOTHING, Usage

TABLE = Path(__file__).parents[2] / "src" / "ostiary" / "catalog" / "data" / "models.jsonl"
ROWS = [json.loads(line) for line in TABLE.read_text().splitlines()[1:]]
DOLLAR = 10**9


def find(model: str, base_model: str | None = None) -> ModelFacts | None:
    prefix, _, upstream_model = model.partition("/")
    provider = load_providers().find(prefix)
    assert provider is not None
    return load_models().find(provider, upstream_model, base_model)


def dollars(amount: str) -> int:
    return int(Fraction(amount) * DOLLAR)


# --- Figures, from the providers' own price pages ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("openai/gpt-4o", Price(input=dollars("2.5"), output=dollars("10"), cache_read=dollars("1.25"))),
        ("openai/gpt-4o-mini", Price(input=dollars("0.15"), output=dollars("0.6"), cache_read=dollars("0.075"))),
        ("openai/text-embedding-3-small", Price(input=dollars("0.02"))),
        ("openai/text-embedding-3-large", Price(input=dollars("0.13"))),
        ("openai/whisper-1", Price(second_in=dollars("100"))),  # 0.006 a minute
        ("openai/tts-1", Price(character_in=dollars("15"))),
        ("text-completion-openai/gpt-3.5-turbo-instruct", Price(input=dollars("1.5"), output=dollars("2"))),
        (
            "anthropic/claude-sonnet-4-5",
            Price(input=dollars("3"), output=dollars("15"), cache_read=dollars("0.3"), cache_creation=dollars("3.75")),
        ),
        ("groq/llama-3.1-8b-instant", Price(input=dollars("0.05"), output=dollars("0.08"))),
        ("cohere/rerank-v3.5", Price(request=2_000_000)),  # two dollars a thousand searches
        ("voyage/voyage-3.5", Price(input=dollars("0.06"))),
    ],
)
def test_a_well_known_price_is_right(model: str, price: Price) -> None:
    facts = find(model)
    assert facts is not None
    assert facts.price == price


def test_a_chat_costs_what_the_price_page_says() -> None:
    facts = find("openai/gpt-4o")
    assert facts is not None
    assert facts.price is not None
    # 1,000 in, of which 400 cached, 500 out: 600 * 2.5e-6 + 400 * 1.25e-6 + 500 * 1e-5 = 0.007 dollars
    assert facts.price.cost(Usage(input=1000, cache_read=400, output=500)) == 7_000_000


def test_facts_say_mode_limits_and_row() -> None:
    facts = find("openai/gpt-4o")
    assert facts is not None
    assert (facts.mode, facts.name, facts.owner) == ("chat", "gpt-4o", "openai")
    assert (facts.max_input_tokens, facts.max_output_tokens, facts.context_window) == (128_000, 16_384, 128_000)
    modes = {
        "openai/text-embedding-3-small": "embedding",
        "openai/whisper-1": "audio_transcription",
        "openai/tts-1": "audio_speech",
        "openai/gpt-image-1": "image_generation",
        "cohere/rerank-v3.5": "rerank",
        "openai/omni-moderation-latest": "moderation",
        "openai/gpt-realtime": "realtime",
        "text-completion-openai/gpt-3.5-turbo-instruct": "completion",
    }
    for model, mode in modes.items():
        facts = find(model)
        assert facts is not None
        assert facts.mode == mode


# --- Matching ---------------------------------------------------------------------------------------------------------

MINE = Provider(name="mine", title="Mine", price_names=("mine", "mine_too"))


def table(*rows: tuple[str, str, int | None]) -> Models:
    lines = [
        json.dumps([key, owner, "chat", None, None, rate and {"input": rate, "output": rate}], separators=(",", ":"))
        for key, owner, rate in rows
    ]
    return Models(("\n".join(["{}", *sorted(lines)]) + "\n").encode())


def test_the_providers_own_row_comes_before_the_bare_one() -> None:
    models = table(("gpt", "mine", 1), ("mine/gpt", "mine", 2))
    assert models.find(MINE, "gpt").name == "mine/gpt"  # type: ignore[union-attr]


def test_a_bare_row_of_another_provider_is_not_taken() -> None:
    models = table(("gpt", "theirs", 1), ("theirs/gpt", "theirs", 1))
    assert models.find(MINE, "gpt") is None
    assert models.find(MINE, "theirs/gpt") is None


def test_further_names_of_a_provider_count_as_its_own() -> None:
    models = table(("gpt", "mine_too", 1))
    assert models.find(MINE, "gpt") is not None


def test_a_provider_without_price_names_is_listed_under_its_own() -> None:
    assert table(("acme/m", "acme", 1)).find(Provider(name="acme", title="Acme"), "m") is not None


def test_base_model_alone_decides() -> None:
    models = table(("mine/gpt", "mine", 1), ("mine/other", "mine", 2), ("gpt-x", "theirs", 3))
    assert models.find(MINE, "gpt", "other").name == "mine/other"  # type: ignore[union-attr]
    assert models.find(MINE, "gpt", "mine/other").name == "mine/other"  # type: ignore[union-attr]
    assert models.find(MINE, "gpt", "gpt-x").name == "gpt-x"  # type: ignore[union-attr]
    assert models.find(MINE, "gpt", "gpt-unknown") is None


def test_a_listed_snapshot_is_its_own_row_and_an_unlisted_one_its_models() -> None:
    models = table(("mine/gpt", "mine", 1), ("mine/gpt-2024-05-13", "mine", 9))
    assert models.find(MINE, "gpt-2024-05-13").name == "mine/gpt-2024-05-13"  # type: ignore[union-attr]
    assert models.find(MINE, "gpt-2024-08-06").name == "mine/gpt"  # type: ignore[union-attr]
    assert models.find(MINE, "gpt-20240806").name == "mine/gpt"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        "gp",
        "gpt-",
        "gpt-mini",
        "gpt:free",
        "GPT",
        " gpt",
        "gpt-0806",
        "gpt-2024-13-99",
        "gpt-2024",
        "x/gpt",
        "gpt/",
        "",
    ],
)
def test_a_name_that_only_resembles_a_model_finds_nothing(name: str) -> None:
    assert table(("mine/gpt", "mine", 1), ("gpt", "mine", 1)).find(MINE, name) is None


@pytest.mark.parametrize("name", ['gpt","mine', 'gpt"', "gpt\n", '"', "[", "\x00", "ø", '{"as_of"', "as_of"])
def test_a_name_cannot_break_out_of_its_line(name: str) -> None:
    assert table(("mine/gpt", "mine", 1)).find(MINE, name) is None
    assert find("openai/" + name) is None


def test_a_fine_tuned_model_has_the_price_of_its_listed_base() -> None:
    facts = find("openai/ft:gpt-4o-2024-08-06:acme::abc123")
    assert facts is not None
    assert facts.name == "ft:gpt-4o-2024-08-06"
    assert find("openai/ft:gpt-made-up:acme::abc123") is None


def test_an_azure_deployment_is_priced_by_its_base_model() -> None:
    for base_model in ("gpt-4o", "azure/gpt-4o"):
        facts = find("azure/our-name", base_model)
        assert facts is not None
        assert facts.name == "azure/gpt-4o"
    assert find("azure/our-name") is None


def test_a_model_of_another_maker_behind_an_openai_address_is_unknown() -> None:
    assert find("openai/claude-sonnet-4-5") is None
    assert find("openai_like/gpt-4o") is None
    assert find("hosted_vllm/gpt-4o") is None


# --- Unknown is not free ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["ollama/llama3", "openai/omni-moderation-latest", "openai/gpt-4o-mini-tts"])
def test_a_source_without_a_price_leaves_it_unknown(model: str) -> None:
    facts = find(model)
    assert facts is not None
    assert facts.price is None


def test_no_listed_price_is_free_and_every_rate_is_above_zero() -> None:
    for row in ROWS:
        assert row[5] is None or (row[5] and all(type(rate) is int and rate > 0 for rate in row[5].values())), row


def test_a_priced_text_model_charges_both_ways() -> None:
    for key, _, mode, _, _, rates, *_ in ROWS:
        if rates and mode in {"chat", "completion", "responses"}:
            assert rates.keys() >= {"input", "output"}, key


def test_every_row_can_be_found_by_its_key() -> None:
    nobody = Provider(name="nobody", title="Nobody")
    models = load_models()
    for row in ROWS:
        facts = models.find(nobody, "", base_model=row[0])
        assert facts is not None
        assert facts.name == row[0]


def test_the_table_says_where_it_comes_from() -> None:
    provenance = load_models().provenance()
    assert len(provenance.as_of) == len("2026-11-23")
    notice = (Path(__file__).parents[2] / "NOTICE").read_text()
    assert f"As of {provenance.as_of}" in notice
    for source in provenance.sources:
        assert f"{source.name} {source.version}" in notice
        assert source.license == "MIT"
        assert len(bytes.fromhex(source.sha256)) == 32


# --- The law of cost --------------------------------------------------------------------------------------------------

rates = st.integers(min_value=0, max_value=10**15)
optional_rates = st.none() | rates
# A second's rate is a multiple of a thousand, so that a millisecond's is whole.
second_rates = st.integers(min_value=0, max_value=10**12).map(lambda rate: rate * 1000)
counts = st.integers(min_value=0, max_value=10**7)

prices = st.builds(
    Price,
    input=rates,
    output=rates,
    cache_read=optional_rates,
    cache_creation=optional_rates,
    reasoning=optional_rates,
    audio_input=optional_rates,
    audio_output=optional_rates,
    image=rates,
    second_in=second_rates,
    second_out=second_rates,
    character_in=rates,
    character_out=rates,
    request=st.integers(min_value=0, max_value=10**12),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Consumption as providers state it: the parts are within the whole."""
    read, written, heard, plain_in = draw(counts), draw(counts), draw(counts), draw(counts)
    thought, spoken, plain_out = draw(counts), draw(counts), draw(counts)
    return Usage(
        input=plain_in + read + written + heard,
        output=plain_out + thought + spoken,
        cache_read=read,
        cache_creation=written,
        reasoning=thought,
        audio_input=heard,
        audio_output=spoken,
        images=draw(st.integers(0, 100)),
        milliseconds=draw(counts),
        characters=draw(counts),
    )


def exact(price: Price, usage: Usage) -> Fraction:
    """The cost by hand: each token once, at its own rate or else the plain one."""

    def own(rate: int | None, plain: int) -> int:
        return plain if rate is None else rate

    plain_in = usage.input - usage.cache_read - usage.cache_creation - usage.audio_input
    plain_out = usage.output - usage.reasoning - usage.audio_output
    millionths = (
        plain_in * price.input
        + usage.cache_read * own(price.cache_read, price.input)
        + usage.cache_creation * own(price.cache_creation, price.input)
        + usage.audio_input * own(price.audio_input, price.input)
        + plain_out * price.output
        + usage.reasoning * own(price.reasoning, price.output)
        + usage.audio_output * own(price.audio_output, price.output)
        + usage.images * price.image
        + Fraction(usage.milliseconds, 1000) * (price.second_in + price.second_out)
        + usage.characters * (price.character_in + price.character_out)
    )
    return Fraction(millionths, 10**6) + price.request


@given(price=prices, usage=usages())
def test_cost_is_exact_rounded_up_by_less_than_a_nanodollar(price: Price, usage: Usage) -> None:
    assert 0 <= price.cost(usage) - exact(price, usage) < 1


@given(price=prices)
def test_no_usage_costs_the_fee_of_the_request_and_nothing_else(price: Price) -> None:
    assert price.cost(NOTHING) == price.request


@given(price=prices, less=usages(), more=usages())
def test_using_more_never_costs_less(price: Price, less: Usage, more: Usage) -> None:
    fields = Usage.__struct_fields__
    both = Usage(**{name: getattr(less, name) + getattr(more, name) for name in fields})
    assert price.cost(both) >= price.cost(less) >= 0


@given(price=prices, usage=st.builds(Usage, **dict.fromkeys(Usage.__struct_fields__, counts)))
def test_cost_is_never_negative_even_if_the_parts_exceed_the_whole(price: Price, usage: Usage) -> None:
    assert price.cost(usage) >= price.request >= 0


@settings(max_examples=50)
@given(usage=usages(), row=st.sampled_from([row for row in ROWS if row[5]]))
def test_the_law_holds_for_listed_prices(usage: Usage, row: list[object]) -> None:
    facts = load_models().find(MINE, "", base_model=str(row[0]))
    assert facts is not None
    assert facts.price is not None
    assert -Fraction(1, 10**6) < facts.price.cost(usage) - exact(facts.price, usage) < 1


# --- Weight -----------------------------------------------------------------------------------------------------------

WEIGH = """
import resource, sys, time, tracemalloc
from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
tracemalloc.start()
started = time.perf_counter()
models = load_models()
loaded = time.perf_counter()
held, _ = tracemalloc.get_traced_memory()
tracemalloc.stop()
provider = load_providers().find("openai")
parsed = time.perf_counter()
for _ in range(1000):
    models.find(provider, "gpt-4o")
looked_up = time.perf_counter()
print(loaded - started, held, parsed - loaded, (looked_up - parsed) / 1000)
"""


def test_the_table_is_light() -> None:
    run = subprocess.run([sys.executable, "-c", WEIGH], capture_output=True, text=True, check=True)
    load, held, providers, look_up = map(float, run.stdout.split())
    print(
        f"models: load {load * 1e3:.1f} ms, {held / 2**20:.2f} MiB held, look-up {look_up * 1e6:.0f} µs; "
        f"providers: load {providers * 1e3:.1f} ms"
    )
    assert held < 15 * 2**20
    assert load < 1  # measured in milliseconds; this bound is only against parsing the whole table
