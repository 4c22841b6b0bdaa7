"""What is known to be wrong and not mended yet, as `gaps.toml` lists it. It must not excuse anything else."""

from __future__ import annotations

import re
import tomllib

from golden_corpus import HERE

GAPS = [
    (re.compile(gap["where"]), gap["what"]) for gap in tomllib.loads((HERE / "gaps.toml").read_text()).get("gap", ())
]


def judge(place: str, problems: list[str]) -> None:
    """Fail where there are problems, or where there are none at a place that is listed."""
    reasons = [what for where, what in GAPS if where.fullmatch(place)]
    if reasons:
        assert problems, f"{place} is right now: take it out of gaps.toml ({reasons[0]})"
    else:
        assert problems == []
