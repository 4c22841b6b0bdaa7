"""Profiles of model families: plausible for every chat model of the great providers, and right for the well known."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.resources import files

import pytest

from ostiary.catalog.facts import ModelFacts
from ostiary.catalog.models import load_models
from ostiary.catalog.profiles import load_profiles, parse_profiles
from ostiary.catalog.provider import Provider
from ostiary.catalog.providers import load_providers
from ostiary.core.profile import Profile, Thinks

ANYONE = Provider(name="anyone", title="Anyone", facts={})
GREAT = ("openai", "anthropic", "gemini", "bedrock", "vertex_ai")


def profile(name: str) -> Profile:
    return load_profiles().find(ANYONE, name, None)


def chat_models(provider_name: str) -> Iterator[tuple[str, ModelFacts]]:
    """Name at the provider, and facts: of the rows whose source says what models can."""
    provider = load_providers().find(provider_name)
    assert provider is not None
    owners = provider.price_names or (provider.name,)
    for facts in load_models():
        if facts.source == 0 and facts.mode in ("chat", "responses") and facts.owner in owners:
            prefix = next((f"{owner}/" for owner in owners if facts.name.startswith(f"{owner}/")), "")
            yield facts.name.removeprefix(prefix), facts


# --- Against the table ------------------------------------------------------------------------------------------------

# Models of which the table says one thing and the profile another, and why the profile is right.
NO_WORD = {  # they reason, and there is no word by which they are told how much
    "*amazon.nova-2-*": "`reasoningConfig` is a field that the Converse codec does not write",
    "gpt-5-chat*": "the model of the chat application: OpenAI's page names no reasoning",
    "gpt-5.[1-3]-chat-latest": "one word alone, which is the default",
    "gemma-4-*": "a family for one's own servers; Google's interface has no level for it",
    "xai/grok-4.*": "xAI refuses `reasoning_effort` for Grok 4 up to 4.20",
}
A_WORD = {  # the table is silent about whether they reason
    "*gpt-oss-safeguard*": "a variant of gpt-oss, which takes effort",
    "gpt-rosalind-*": "of the GPT-5 generation",
    "container": "a price, not a model",
    "deep-research-*": "agents on Gemini 3",
    "gemini-omni-*": "the table says it of one and not of the other",
    "gemini-exp-1206": "withdrawn, its name now leads to a model that thinks",
    "*moonshotai.kimi-k2.5": "the table says it of one region and not of another",
    "*minimax.minimax-m2.5": "the table says it of one region and not of another",
}


def explained(name: str, reasons: dict[str, str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in reasons)


@pytest.mark.parametrize("provider", GREAT)
def test_a_model_that_reasons_is_told_how_and_one_that_does_not_is_not(provider: str) -> None:
    models = list(chat_models(provider))
    assert len(models) > 20
    for name, facts in models:
        knob = profile(name).thinks is not Thinks.NEVER
        if facts.capabilities.get("supports_reasoning"):
            assert knob or explained(name, NO_WORD), name
        else:
            assert not knob or explained(name, A_WORD), name


def test_every_explanation_is_needed() -> None:
    models = [row for provider in GREAT for row in chat_models(provider)]
    for reasons, reasoning, knob in ((NO_WORD, True, False), (A_WORD, False, True)):
        for pattern in reasons:
            assert any(
                fnmatchcase(name, pattern)
                and (facts.capabilities.get("supports_reasoning") is True) == reasoning
                and (profile(name).thinks is not Thinks.NEVER) == knob
                for name, facts in models
            ), pattern


def test_every_family_decides_about_a_model_of_the_table() -> None:
    text = files("ostiary.catalog").joinpath("profiles.toml").read_text(encoding="utf-8")
    rows = [tuple(row["match"]) for row in tomllib.loads(text)["family"]]
    deciding = set()
    for facts in load_models():
        for name in (facts.name, facts.name.rpartition("/")[2]):
            deciding.add(next((row for row in rows if any(fnmatchcase(name.lower(), one) for one in row)), None))
    assert set(rows) <= deciding


# --- Of the makers' documentation -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        (("gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "gpt-35-turbo", "openai/gpt-4o", "gpt-5-chat-latest"),
         Profile(thinks=Thinks.NEVER)),
        (("o1", "o3-2025-04-16", "o4-mini", "gpt-5", "gpt-5.1", "gpt-6.1-sol", "openai/gpt-5", "openai/o3",
          "us.openai.gpt-5.6-sol", "gpt-5-codex"), Profile(thinks=Thinks.EFFORT, sampling=False)),
        (("gpt-4o-search-preview", "gpt-5-search-api"), Profile(thinks=Thinks.NEVER, sampling=False)),
        (("o1-mini", "o1-preview-2024-09-12"),
         Profile(thinks=Thinks.NEVER, sampling=False, schema=False, developer=False)),
        (("gpt-oss-120b", "openai.gpt-oss-20b-1:0", "openai/gpt-oss-20b"), Profile(thinks=Thinks.EFFORT)),
        (("claude-3-haiku-20240307", "claude-3-5-sonnet-latest", "anthropic.claude-v2:1", "claude-2.1",
          "anthropic/claude-3.5-haiku", "anthropic.claude-instant-v1"), Profile(thinks=Thinks.NEVER, schema=False)),
        (("claude-3-7-sonnet-20250219", "claude-sonnet-4-20250514", "claude-opus-4-0", "claude-sonnet-4@20250514",
          "us.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic/claude-opus-4", "anthropic/claude-3.7-sonnet"),
         Profile(thinks=Thinks.BUDGET, schema=False)),
        (("claude-sonnet-4-5", "claude-opus-4-1-20250805", "claude-haiku-4-5@20251001", "anthropic/claude-opus-4.5",
          "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"), Profile(thinks=Thinks.BUDGET)),
        (("us.anthropic.claude-opus-4-1-20250805-v1:0",), Profile(thinks=Thinks.BUDGET, schema=False)),
        (("claude-opus-4-6", "claude-sonnet-4-6@default", "anthropic/claude-sonnet-4.6",
          "anthropic.claude-opus-4-6-v1"), Profile(thinks=Thinks.ADAPTIVE)),
        (("claude-opus-4-7", "claude-opus-4-8", "claude-sonnet-5", "claude-opus-5-5", "claude-haiku-5-5",
          "claude-fable-5-1", "us.anthropic.claude-opus-5", "claude-nobody-knows-7"),
         Profile(thinks=Thinks.ADAPTIVE, sampling=False)),
        (("us.anthropic.claude-opus-4-7",), Profile(thinks=Thinks.ADAPTIVE, sampling=False, schema=False)),
        (("gemini-1.5-pro", "gemini-2.0-flash", "gemini-2.5-pro-preview-tts", "gemma-3-27b-it"),
         Profile(thinks=Thinks.NEVER)),
        (("gemini-2.5-flash", "gemini-2.5-pro", "google/gemini-2.5-flash-lite"), Profile(thinks=Thinks.BUDGET)),
        (("gemini-3-pro-preview", "gemini-3.5-flash", "gemini-flash-latest"), Profile(thinks=Thinks.EFFORT)),
        (("gemini-3.5-flash-lite", "gemini-3.6-flash", "gemini-3.8-flash"),
         Profile(thinks=Thinks.EFFORT, sampling=False)),
        (("amazon.nova-pro-v1:0", "us.amazon.nova-2-lite-v1:0", "amazon.titan-text-express-v1"),
         Profile(thinks=Thinks.NEVER, schema=False)),
        (("meta.llama3-1-8b-instruct-v1:0", "llama-3.3-70b-versatile", "meta-llama/llama-4-scout", "Llama-4-Maverick"),
         Profile(thinks=Thinks.NEVER)),
        (("mistral-large-2411", "codestral-latest", "ministral-8b-2512", "pixtral-large-latest", "open-mixtral-8x22b",
          "mistral.mistral-7b-instruct-v0:2", "mistral-large-3"), Profile(thinks=Thinks.NEVER)),
        (("magistral-medium-latest", "mistral-small-latest", "mistral-medium-3-5", "mistral-large-4"),
         Profile(thinks=Thinks.EFFORT)),
        (("command-r-plus-08-2024", "command-a-03-2025", "cohere.command-r-v1:0"), Profile(thinks=Thinks.NEVER)),
        (("command-a-reasoning-08-2025", "command-a-plus-05-2026"), Profile(thinks=Thinks.BUDGET)),
        (("deepseek-chat", "deepseek-ai/deepseek-coder", "qwen2.5-72b-instruct", "qwen3-vl-32b-instruct"),
         Profile(thinks=Thinks.NEVER)),
        (("deepseek-reasoner", "deepseek-v4-pro", "qwen3-max", "qwen3-vl-32b-thinking"),
         Profile(thinks=Thinks.EFFORT)),
        (("grok-3", "grok-4", "grok-4-0709", "grok-4-1-fast-reasoning", "grok-4.20", "grok-4.20-non-reasoning",
          "grok-code-fast-1", "xai/grok-4"), Profile(thinks=Thinks.NEVER)),
        (("grok-3-mini", "grok-4.3", "grok-4.7", "grok-4.20-multi-agent-0309"), Profile(thinks=Thinks.EFFORT)),
        (("some-model-of-tomorrow",), Profile()),
    ],
)  # fmt: skip
def test_a_family_accepts_what_its_maker_says(names: tuple[str, ...], facts: Profile) -> None:
    assert {name: profile(name) for name in names} == dict.fromkeys(names, facts)


def test_names_are_compared_in_lower_case_and_the_first_row_counts() -> None:
    families = parse_profiles(
        '[[family]]\nmatch = ["big-*"]\nfacts = { sampling = false }\n[[family]]\nmatch = ["*"]\nfacts = {}\n'
    )
    assert families.find(ANYONE, "BIG-one", 7) == Profile(sampling=False, max_output=7)
    assert families.find(ANYONE, "one", None) == Profile()


def test_the_facts_of_a_provider_stand_above_those_of_a_family() -> None:
    server = Provider(name="mine", title="Mine", usage_in_stream=False, facts={"schema": False, "sampling": True})
    found = load_profiles().find(server, "gpt-5", 100)
    assert found == Profile(
        max_output=100, thinks=Thinks.EFFORT, sampling=True, schema=False, stream_usage=False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ('[[family]]\nmatch = "gpt"\nfacts = {}\n', 1),
        ('[[family]]\nmatch = []\nfacts = { thinks = "often" }\n', 1),
        ("[[family]]\nmatch = []\nfacts = {}\n[[family]]\nmatch = []\nfacts = { sings = true }\n", 2),
    ],
)
def test_a_row_that_is_none_is_named(text: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"family {number}: "):
        parse_profiles(text)
