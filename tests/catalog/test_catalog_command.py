"""`ostiary catalog`: what another table would change, and what is known of one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostiary.catalog.facts import CAPABILITIES, ModelFacts, line_of
from ostiary.catalog.models import Models, Provenance, load_models
from ostiary.cli.main import main
from ostiary.core.price import Price

TABLE = Path(__file__).parents[2] / "src" / "ostiary" / "catalog" / "data" / "models.jsonl"
HEAD = msgspec.json.encode(Provenance("2026-01-01", (), CAPABILITIES)) + b"\n"


def shipped(*rows: ModelFacts) -> Models:
    return Models(HEAD + b"".join(sorted(map(line_of, rows))))


OURS = (
    ModelFacts(Price(input=10**9, output=2 * 10**9), "chat", 100, 50, "kept", "acme", {"supports_vision": True}, 150),
    ModelFacts(Price(input=10**9, output=2 * 10**9), "chat", 100, 50, "gone", "acme"),
    ModelFacts(Price(input=10**9, output=10**9), "chat", 9, None, "other-source", "acme", source=1),
)
PUBLISHED: dict[str, Any] = {
    "sample_spec": {"mode": "one of …"},
    "kept": {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 1.5e-06, "max_input_tokens": 100,
             "output_cost_per_token": 2e-06, "supports_vision": False, "max_output_tokens": 60},
    "new": {"litellm_provider": "acme", "mode": "chat"},
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostiary.cli.catalog.load_models", lambda: shipped(*OURS))


@pytest.fixture
def published(tmp_path: Path) -> str:
    (tmp_path / "prices.json").write_text(json.dumps(PUBLISHED), encoding="utf-8")
    return str(tmp_path / "prices.json")


@pytest.mark.usefixtures("small")
def test_a_published_table_is_compared_with_what_came_from_it(
    published: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["catalog", "diff", published]) == 1
    assert capsys.readouterr().out == (
        "+ new\n"
        "- gone\n"
        "~ kept\n"
        "    max_output_tokens: 50 -> 60\n"
        "    input_cost_per_token: 1 dollars per million -> 1.5 dollars per million (+50 %)\n"
        "    supports_vision: yes -> no\n"
        "1 added, 1 removed, 1 changed\n"
    )


@pytest.mark.usefixtures("small")
def test_as_json_amounts_are_exact_numbers(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "diff", published, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["added"], answer["removed"]) == (["new"], ["gone"])
    assert answer["changed"][1] == {
        "model": "kept", "field": "input_cost_per_token", "before": 1e-06, "after": 1.5e-06,
    }  # fmt: skip


@pytest.mark.usefixtures("small")
def test_a_table_of_ours_is_compared_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "models.jsonl"
    file.write_bytes(HEAD + b"".join(sorted(map(line_of, OURS))))
    assert main(["catalog", "diff", str(file)]) == 0
    assert capsys.readouterr().out == "0 added, 0 removed, 0 changed\n"
    file.write_bytes(HEAD + line_of(msgspec.structs.replace(OURS[0], context_window=None)))
    assert main(["catalog", "diff", str(file)]) == 1
    assert capsys.readouterr().out == (
        "- gone\n- other-source\n~ kept\n    max_context_tokens: 150 -> unknown\n0 added, 2 removed, 1 changed\n"
    )


def test_the_shipped_table_is_the_same_as_itself_and_is_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    before = TABLE.stat()
    assert main(["catalog", "diff", str(TABLE), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"added": [], "removed": [], "changed": []}
    assert TABLE.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[]", b"\xff\x00", b"{}", b'{"a": 1}', b'{"as_of":"2026-01-01"}\n[1]\n', b'{"as_of"\n',
     b'{"as_of":"2026-01-01"}\n["no end"', b'{"a":{"mode":"chat","litellm_provider":"b","input_cost_per_token":"c"}}',
     b'{"a":{"mode":"chat","litellm_provider":"b","tiered_pricing":5}}', b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_table_is_unreadable(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f"
    if content is not None:
        file.write_bytes(content)
    assert main(["catalog", "diff", str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("ostiary: the table ")


def test_a_name_in_a_file_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f"
    file.write_text(json.dumps({"\x1b[2J": {"mode": "chat", "litellm_provider": "b"}}), encoding="utf-8")
    assert main(["catalog", "diff", str(file)]) == 1
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "+ ?[2J" in told


@pytest.mark.parametrize("model", ["openai/gpt-5", "gpt-5"])
def test_show_says_what_is_known(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "show", model]) == 0
    told = capsys.readouterr().out
    assert "max_context_tokens: 400000\n" in told
    assert "input_cost_per_token: 1.25 dollars per million\n" in told
    assert "supports_reasoning: yes\n" in told
    assert ("accepts: thinks effort" in told) == model.startswith("openai/")
    source = load_models().provenance().sources[0]
    assert f"source: {source.name} {source.version}" in told


def test_show_as_json_and_of_a_model_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "show", "text-embedding-3-large", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["output_vector_size"], answer["input_cost_per_token"]) == (3072, 1.3e-07)
    assert main(["catalog", "show", "nobody/knows"]) == 1
    assert capsys.readouterr().err == "ostiary: the table holds no such model\n"
