"""Capabilities, windows, sizes and dates of the model table, and rows that survive being written and read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.catalog.facts import CAPABILITIES, MODES, ModelFacts, Row, facts_of, line_of
from ostiary.catalog.models import Models, Provenance, load_models
from ostiary.core.price import Price

HEAD = msgspec.json.encode(Provenance(capabilities=CAPABILITIES)) + b"\n"


def known(name: str) -> ModelFacts:
    facts = load_models().row(name)
    assert facts is not None
    return facts


@pytest.mark.parametrize(
    ("model", "can"),
    [
        ("gpt-4o", {"supports_vision", "supports_function_calling", "supports_response_schema"}),
        ("gpt-5", {"supports_reasoning", "supports_vision", "supports_prompt_caching"}),
        ("claude-sonnet-4-5", {"supports_reasoning", "supports_computer_use", "supports_pdf_input"}),
        ("gemini/gemini-2.5-pro", {"supports_audio_input", "supports_video_input", "supports_web_search"}),
        ("gpt-realtime", {"supports_audio_input", "supports_audio_output"}),
    ],
)
def test_a_well_known_model_can_what_its_maker_says(model: str, can: set[str]) -> None:
    capabilities = known(model).capabilities
    assert can <= {name for name, there in capabilities.items() if there}


def test_what_a_source_does_not_say_is_neither_there_nor_not_there() -> None:
    assert "supports_reasoning" not in known("gpt-4o").capabilities
    assert {facts.capabilities.get("supports_vision") for facts in load_models()} == {True, False, None}


def test_a_window_is_more_than_a_prompt() -> None:
    facts = known("gpt-5")
    assert (facts.max_input_tokens, facts.max_output_tokens, facts.context_window) == (272_000, 128_000, 400_000)
    for row in load_models():
        assert row.context_window is None or row.context_window >= (row.max_input_tokens or 0), row.name


def test_an_embedding_has_a_size_and_a_model_a_last_day() -> None:
    assert known("text-embedding-3-large").vector_size == 3072
    assert known("cohere.embed-english-v3").mode == "embedding"
    dated = [row.ends for row in load_models() if row.ends]
    assert len(dated) > 500
    assert all(len(day) == len("2026-11-23") and day.startswith("20") for day in dated)


@pytest.mark.parametrize("owner", ["openai", "anthropic", "gemini", "bedrock", "bedrock_converse", "cohere_chat"])
def test_every_great_provider_has_rows_that_say_what_they_can(owner: str) -> None:
    rows = [row for row in load_models() if row.owner == owner and row.mode == "chat" and row.source == 0]
    telling = [row for row in rows if row.capabilities]
    assert len(telling) * 10 >= len(rows) * 7


rates = st.none() | st.integers(1, 10**12)
facts = st.builds(
    ModelFacts,
    price=st.none() | st.builds(Price, input=st.integers(0, 10**12), cache_read=rates, reasoning=rates),
    mode=st.sampled_from(MODES),
    max_input_tokens=st.none() | st.integers(1, 10**8),
    max_output_tokens=st.none() | st.integers(1, 10**8),
    name=st.text(max_size=20),
    owner=st.text(max_size=8),
    capabilities=st.dictionaries(st.sampled_from(CAPABILITIES), st.booleans()),
    context_window=st.none() | st.integers(1, 10**8),
    vector_size=st.none() | st.integers(1, 10**5),
    ends=st.none() | st.dates().map(str),
    source=st.integers(0, 1),
)


@given(facts=facts)
def test_a_line_says_what_its_facts_say(facts: ModelFacts) -> None:
    line = line_of(facts)
    assert line.count(b"\n") == 1
    assert facts_of(msgspec.json.decode(line, type=Row), CAPABILITIES) == facts


@given(rows=st.lists(facts, max_size=8, unique_by=lambda row: row.name))
def test_a_table_finds_all_its_rows_and_no_others(rows: list[ModelFacts]) -> None:
    table = Models(HEAD + b"".join(sorted(map(line_of, rows))))
    assert sorted(table, key=lambda row: row.name) == sorted(rows, key=lambda row: row.name)
    for row in rows:
        assert table.row(row.name) == row
        assert table.row(row.name + "\x00") in (None, *rows)


def test_what_an_own_row_says_wins_and_what_it_does_not_say_stays() -> None:
    shipped = ModelFacts(
        Price(input=5, output=7), "chat", 100, 50, "m", "acme",
        {"supports_vision": True, "supports_reasoning": True}, 200,
    )  # fmt: skip
    own = ModelFacts(None, "", None, 60, "m", "", {"supports_vision": False})
    new = ModelFacts(Price(input=1, output=1), "chat", None, None, "n", "acme")
    own_table = Models(HEAD + line_of(own) + line_of(new))
    table = Models(HEAD + line_of(shipped)).under(own_table)
    found = table.row("m")
    assert found is not None
    assert (found.price, found.max_input_tokens, found.max_output_tokens) == (shipped.price, 100, 60)
    assert found.capabilities == {"supports_vision": False, "supports_reasoning": True}
    assert (found.mode, found.owner, found.context_window) == ("chat", "acme", 200)
    assert table.row("n") == new
    assert table.row("o") is None
