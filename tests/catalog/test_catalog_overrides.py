"""An operator's own rows: what they change, and what is said of rows that cannot be taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.catalog.facts import MODES
from ostiary.catalog.models import load_models
from ostiary.catalog.overrides import LONGEST_KEY, Overrides, read_overrides
from ostiary.catalog.providers import load_providers
from ostiary.config.load import load
from ostiary.control.compile import Compiled, compile_snapshot
from ostiary.core.price import PriceState
from ostiary.core.snapshot import Deployment

MODEL = """
model_list:
- model_name: m
  litellm_params: {model: openai/gpt-4o, api_key: sk-x}
- model_name: own
  litellm_params: {model: openai/our-model, api_key: sk-x}
ostiary: {catalog_file: rows.json}
"""


def compiled(directory: Path, rows: object) -> Compiled:
    (directory / "rows.json").write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
    (directory / "c.yaml").write_text(MODEL, encoding="utf-8")
    loaded = load(str(directory / "c.yaml"), {})
    assert loaded.ok, loaded.problems
    assert loaded.files == (str(directory / "c.yaml"), str(directory / "rows.json"))  # watched, as the others
    return compile_snapshot(loaded, (), load_providers(), load_models(), revision=1, admin_digest=b"")


def deployment(made: Compiled, name: str) -> Deployment:
    (found,) = made.snapshot.groups[name]
    return found


def overrides(rows: object) -> Overrides:
    return read_overrides(json.dumps(rows).encode(), load_models())


def test_an_own_row_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    before = deployment(compiled(tmp_path, {"gpt-4.1": {"max_tokens": 1}}), "m")
    made = compiled(
        tmp_path, {"gpt-4o": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06,
                              "max_output_tokens": 4096}}
    )  # fmt: skip
    after = deployment(made, "m")
    assert made.problems == ()
    assert before.price is not None
    assert before.max_output_tokens == 16_384
    assert after.price is not None
    assert (after.price.input, after.price.output) == (10**9, 2 * 10**9)
    assert (after.max_output_tokens, after.max_input_tokens) == (4096, before.max_input_tokens)
    assert after.mode == "chat"


def test_an_own_row_makes_a_model_known(tmp_path: Path) -> None:
    assert deployment(compiled(tmp_path, {"gpt-4o": {}}), "own").price_state is PriceState.UNKNOWN
    row = {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 9000, "input_cost_per_token": 3e-06,
           "output_cost_per_token": 6e-06, "supports_vision": True}  # fmt: skip
    own = deployment(compiled(tmp_path, {"openai/our-model": row}), "own")
    assert own.price_state is PriceState.LISTED
    assert own.max_input_tokens == 9000


def test_a_broken_file_stops_the_load_and_says_which_row(tmp_path: Path) -> None:
    made = compiled(tmp_path, {"gpt-4o": {"input_cost_per_token": "2.5 dollars"}, "gpt-4.1": {"mode": 7}})
    assert not made.ok
    texts = [str(problem) for problem in made.problems]
    assert all(f"{tmp_path}/c.yaml:7: ostiary.catalog_file: error: " in text for text in texts)
    assert "gpt-4o.input_cost_per_token: expected dollars per unit, from 0 to 1000" in texts[0]
    assert "gpt-4.1.mode: expected text" in texts[1]
    assert "2.5 dollars" not in "".join(texts)
    assert "is no JSON object" in str(compiled(tmp_path, "{").problems[0])
    assert "is no JSON object" in str(compiled(tmp_path, "[1]").problems[0])
    assert "'a' is no JSON object" in str(compiled(tmp_path, '{"a": 1}').problems[0])


def test_a_file_that_is_not_there_stops_the_load(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(MODEL, encoding="utf-8")
    (problem,) = load(str(tmp_path / "c.yaml"), {}).problems
    assert str(problem).endswith("ostiary.catalog_file: error: cannot be read: No such file or directory")
    (tmp_path / "rows.json").mkdir()
    (problem,) = load(str(tmp_path / "c.yaml"), {}).problems
    assert "is not a regular file" in str(problem) or "Is a directory" in str(problem)


@pytest.mark.parametrize(
    ("entry", "member"),
    [
        ({"input_cost_per_token": -1}, "input_cost_per_token"),
        ({"input_cost_per_token": 1001}, "input_cost_per_token"),
        ({"input_cost_per_token": True}, "input_cost_per_token"),
        ({"input_cost_per_token": [1]}, "input_cost_per_token"),
        ({"cache_read_input_token_cost": "a"}, "cache_read_input_token_cost"),
        ({"search_context_cost_per_query": {"search_context_size_low": "a"}},
         "search_context_cost_per_query.search_context_size_low"),
        ({"max_input_tokens": "128k"}, "max_input_tokens"),
        ({"max_output_tokens": -5}, "max_output_tokens"),
        ({"output_vector_size": {}}, "output_vector_size"),
        ({"supports_vision": "yes"}, "supports_vision"),
        ({"deprecation_date": "soon"}, "deprecation_date"),
        ({"deprecation_date": "2026-02-30"}, "deprecation_date"),
        ({"litellm_provider": 5}, "litellm_provider"),
        ({"tiered_pricing": 5}, "tiered_pricing"),
        ({"tiered_pricing": [{"range": 5}]}, "tiered_pricing.0.range"),
        ({"tiered_pricing": [{"input_cost_per_token": "a"}]}, "tiered_pricing.0.input_cost_per_token"),
    ],
)  # fmt: skip
def test_a_member_that_does_not_fit_is_named(entry: dict[str, Any], member: str) -> None:
    assert [name for name, _ in overrides({"gpt-4o": entry}).refused] == [f"gpt-4o.{member}"]


def test_a_name_too_long_for_a_model_is_refused() -> None:
    ((name, reason),) = overrides({"x" * (LONGEST_KEY + 1): {}}).refused
    assert len(name) == 80
    assert reason == f"expected a name of at most {LONGEST_KEY} characters"


@pytest.mark.parametrize(
    ("key", "entry", "reason"),
    [
        ("nobody-knows", {"max_tokens": 1}, "holds no such model"),
        ("nobody-knows", {"mode": "chat"}, "holds no such model"),
        ("veo-x", {"mode": "video_generation", "litellm_provider": "gemini"}, "no such mode"),
        ("gpt-4o", {"input_cost_per_token": 2.5, "output_cost_per_token": 10}, "cannot be meant"),
        ("gpt-4o", {"input_cost_per_token": 2.5e-06}, "not all of them"),
    ],
)
def test_what_is_left_out_is_said(key: str, entry: dict[str, Any], reason: str) -> None:
    found = overrides({key: entry})
    assert found.refused == ()
    ((name, text),) = found.remarks
    assert (name, reason in text) == (key, True)
    if found.models is not None:
        row = found.models.row(key)
        assert row is not None
        assert row.price is None


def test_remarks_are_summed_up(tmp_path: Path) -> None:
    made = compiled(tmp_path, {f"veo-{number}": {"mode": "video_generation"} for number in range(9)})
    (problem,) = made.problems
    assert "warning: veo-0, veo-1, veo-2 and 6 more: the gateway has no such mode" in str(problem)
    assert made.ok


def test_zero_is_no_price() -> None:
    found = overrides({"gpt-4o": {"input_cost_per_token": 0, "output_cost_per_token": 0.0}})
    assert (found.refused, found.remarks) == ((), ())
    assert found.models is not None
    row = found.models.row("gpt-4o")
    assert row is not None
    assert row.price is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
members = st.sampled_from(
    ["mode", "litellm_provider", "input_cost_per_token", "output_cost_per_token", "tiered_pricing", "max_input_tokens",
     "search_context_cost_per_query", "supports_vision", "deprecation_date", "output_vector_size"]
)  # fmt: skip
entries = st.dictionaries(members, json_values | st.sampled_from(MODES), max_size=6)


@settings(max_examples=200)
@given(rows=st.dictionaries(st.sampled_from(["gpt-4o", "x", "whisper-1"]), entries | json_values, max_size=3))
def test_whatever_a_file_holds_gives_rows_and_problems(rows: dict[str, Any]) -> None:
    found = read_overrides(json.dumps(rows).encode(), load_models())
    for row in found.models or ():
        assert row.name in rows


@given(raw=st.binary(max_size=60))
def test_whatever_the_bytes_they_give_rows_and_problems(raw: bytes) -> None:
    assert isinstance(read_overrides(raw, load_models()), Overrides)
