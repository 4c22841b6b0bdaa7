"""How long records are kept, as the configuration says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary.config.load import load
from ostiary.config.problem import Severity
from ostiary.config.shapes import GeneralSettings

DAY = 86_400.0


def general(tmp_path: Path, text: str) -> tuple[GeneralSettings, list[str]]:
    file = tmp_path / "config.yaml"
    file.write_text(f"general_settings:\n{text}\n")
    loaded = load(str(file), {})
    return loaded.general, [one.setting for one in loaded.problems if one.severity is Severity.ERROR]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 30 * DAY), ("12h", DAY / 2), ("2w", 14 * DAY), ("6mo", 180 * DAY), ("90s", 90.0)]
)
def test_records_are_kept_for_as_long_as_the_setting_says(tmp_path: Path, text: str, seconds: float) -> None:
    settings, problems = general(tmp_path, f"  maximum_spend_logs_retention_period: {text}")
    assert (settings.keep_seconds, settings.purge_seconds, problems) == (seconds, DAY, [])


def test_records_are_kept_for_ever_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    settings, problems = general(tmp_path, "  maximum_spend_logs_retention_interval: 6h")
    assert (settings.keep_seconds, settings.purge_seconds, problems) == (None, DAY / 4, [])


@pytest.mark.parametrize("text", ["30", "0d", "-1d", "soon", "1y", '"30d 1h"'])
def test_a_duration_that_cannot_be_read_is_refused_and_deletes_nothing(tmp_path: Path, text: str) -> None:
    settings, problems = general(tmp_path, f"  maximum_spend_logs_retention_period: {text}")
    assert settings.keep_seconds is None
    assert problems == ["general_settings.maximum_spend_logs_retention_period"]
