"""Rows of `pass_through_endpoints`: what becomes of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.config.load import load
from ostiary.config.problem import Severity
from ostiary.control.compile import Compiled, compile_snapshot
from ostiary.core.price import PriceState
from ostiary.core.snapshot import AuthStyle

ROW: dict[str, Any] = {"path": "/tools", "target": "https://tools.example/api/"}
MODELS = [
    {"model_name": "c", "litellm_params": {"model": "anthropic/claude-x", "api_key": "k", "use_in_pass_through": True}},
    {"model_name": "d", "litellm_params": {"model": "anthropic/claude-y", "api_key": "k"}},
]


def compiled(directory: Path, *rows: object, environ: Mapping[str, str] | None = None) -> Compiled:
    path = directory / "config.yaml"
    path.write_text(json.dumps({"model_list": MODELS, "general_settings": {"pass_through_endpoints": list(rows)}}))
    loaded = load(str(path), environ or {})
    return compile_snapshot(loaded, [], load_providers(), load_models(), revision=1, admin_digest=b"d")


def test_a_row_is_a_path_a_target_and_a_price(tmp_path: Path) -> None:
    row = {
        **ROW, "headers": {"X-Api-Key": "secret", "x-other": "1"}, "include_subpath": True, "methods": ["POST"],
        "default_query_params": {"v": 1}, "cost_per_request": 0.000005,
    }  # fmt: skip
    (given,) = compiled(tmp_path, row).snapshot.pass_throughs
    made = given.deployment
    assert (given.path, given.subpaths, given.methods, given.query) == ("/tools", True, ("POST",), (("v", "1"),))
    assert (made.scheme, made.host, made.port, made.base_path) == ("https", "tools.example", 443, "/api")
    assert (made.auth, made.auth_header, made.headers) == (AuthStyle.HEADER, "x-api-key", (("x-other", "1"),))
    assert made.credential is not None
    assert "secret" not in repr(made)
    assert made.price_state is PriceState.DECLARED
    assert made.price is not None
    assert made.price.request == 5_000


def test_a_target_is_in_no_group_and_has_a_way_out(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, ROW).snapshot
    (given,) = snapshot.pass_throughs
    assert snapshot.deployments[given.deployment.id] is given.deployment
    assert set(snapshot.groups) == {"c", "d"}


def test_the_longer_path_goes_first(tmp_path: Path) -> None:
    found = compiled(tmp_path, ROW, {**ROW, "path": "/tools/deep"}).snapshot.pass_throughs
    assert [each.path for each in found] == ["/tools/deep", "/tools"]


def test_only_models_that_say_so_are_open_below_their_providers_name(tmp_path: Path) -> None:
    native = compiled(tmp_path).snapshot.native
    assert {provider: [row.model_name for row in rows] for provider, rows in native.items()} == {"anthropic": ["c"]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"target": "https://t.example"}, "path"),
        ({**ROW, "path": "tools"}, "path"),
        ({**ROW, "path": "/tools/../key"}, "path"),
        ({**ROW, "path": "/key/generate"}, "answers itself"),
        ({**ROW, "path": "/v1/chat/completions"}, "answers itself"),
        ({"path": "/tools"}, "target"),
        ({**ROW, "target": "ftp://t.example"}, "URL"),
        ({**ROW, "target": "https://u:p@t.example"}, "user or password"),
        ({**ROW, "methods": ["TRACE"]}, "methods"),
        ({**ROW, "headers": {"host": "x"}}, "headers"),
        ({**ROW, "headers": {"x": "a\r\nb: c"}}, "headers"),
        ({**ROW, "guardrails": ["g"]}, "guardrails"),
        ({**ROW, "auht": True}, "auht"),
        ({**ROW, "cost_per_request": -1}, "price"),
        ("text", "row"),
    ],
)
def test_a_row_that_cannot_be_one_is_an_error(tmp_path: Path, row: object, words: str) -> None:
    made = compiled(tmp_path, row)
    errors = [problem for problem in made.problems if problem.severity is Severity.ERROR]
    assert len(errors) == 1
    assert words in errors[0].message
    assert not made.snapshot.pass_throughs


def test_a_path_is_given_once(tmp_path: Path) -> None:
    made = compiled(tmp_path, ROW, ROW)
    assert len(made.snapshot.pass_throughs) == 1
    assert [problem.severity for problem in made.problems] == [Severity.ERROR]


@pytest.mark.parametrize("member", [{"auth": False}, {"forward_headers": True}])
def test_what_would_open_it_wider_is_remarked_and_not_done(tmp_path: Path, member: dict[str, bool]) -> None:
    made = compiled(tmp_path, {**ROW, **member})
    assert [problem.severity for problem in made.problems] == [Severity.WARNING]
    assert len(made.snapshot.pass_throughs) == 1
