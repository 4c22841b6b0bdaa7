"""Whether responses may be kept, as the configuration says it: only where all of it is understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.config.load import load
from ostiary.config.problem import Severity
from ostiary.control.compile import compile_snapshot
from ostiary.core.snapshot import KeepSettings


def kept(tmp_path: Path, text: str) -> tuple[KeepSettings | None, list[str]]:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    loaded = load(str(file), {})
    snapshot = compile_snapshot(loaded, (), load_providers(), load_models(), revision=1, admin_digest=b"").snapshot
    assert snapshot.keep == loaded.ostiary.keep
    return snapshot.keep, [one.setting for one in loaded.problems if one.severity is Severity.ERROR]


@pytest.mark.parametrize(
    "text",
    ["", "ostiary: {}", "ostiary: {responses: {}}", "ostiary: {responses: {keep: null}}", "ostiary: {demo: true}"],
)
def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path, text: str) -> None:
    assert kept(tmp_path, text) == (None, [])


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        ("", KeepSettings(86_400.0, 1_048_576)),
        ("most_bytes: 5000", KeepSettings(86_400.0, 5000)),
        ("seconds: 60, most_bytes: null", KeepSettings(60.0, 1_048_576)),
        ("seconds: 2592000, most_bytes: 4194304", KeepSettings(2_592_000.0, 4_194_304)),
        ("seconds: 1.5, most_bytes: 1024", KeepSettings(1.5, 1024)),
    ],
)
def test_how_long_and_how_much_is_read(tmp_path: Path, block: str, wanted: KeepSettings) -> None:
    assert kept(tmp_path, f"ostiary: {{responses: {{keep: {{{block}}}}}}}") == (wanted, [])


@pytest.mark.parametrize(
    ("block", "setting"),
    [
        ("seconds: 2592001", "ostiary.responses.keep.seconds"),
        ("seconds: 0", "ostiary.responses.keep.seconds"),
        ("seconds: soon", "ostiary.responses.keep.seconds"),
        ("most_bytes: 17.5", "ostiary.responses.keep.most_bytes"),
        ("seconds: 60, most_bytes: 4194305", "ostiary.responses.keep.most_bytes"),
    ],
)
def test_what_is_not_understood_or_too_much_keeps_nothing_and_is_an_error(
    tmp_path: Path, block: str, setting: str
) -> None:
    assert kept(tmp_path, f"ostiary: {{responses: {{keep: {{{block}}}}}}}") == (None, [setting])


def test_true_is_not_an_answer_to_how_long(tmp_path: Path) -> None:
    assert kept(tmp_path, "ostiary: {responses: {keep: true}}") == (None, ["ostiary.responses.keep"])
