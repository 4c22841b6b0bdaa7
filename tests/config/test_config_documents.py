"""Reading files: places, bounds, includes, references to the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.config.document import read
from ostiary.config.load import load
from ostiary.config.node import plain
from ostiary.config.parse import UnreadableError, parse
from ostiary.config.problem import Severity
from ostiary.config.shapes import Loaded
from ostiary.config.watch import signature


def written(directory: Path, text: str, name: str = "config.yaml") -> str:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(text: str) -> str:
    with pytest.raises(UnreadableError) as caught:
        parse(text, "c.yaml")
    return str(caught.value.problem)


def test_values_are_what_a_reader_sees() -> None:
    node, problems = parse(
        "a: 1\nb: 1.5\nc: true\nd: null\ne: 2024-10-21\nf: 010\ng: 1:30\nh: 0x10\ni: 1_000\nj: .inf\non: x\n", "c.yaml"
    )
    assert not problems
    assert plain(node) == {
        "a": 1, "b": 1.5, "c": True, "d": None, "e": "2024-10-21", "f": "010", "g": "1:30", "h": 16, "i": 1000,
        "j": ".inf", "on": "x",
    }  # fmt: skip


def test_every_member_has_the_line_of_its_key() -> None:
    node, _ = parse("a:\n  b:\n\n    - c: 1\n", "c.yaml")
    b = node.members["a"].members["b"]
    assert (b.place.line, b.items[0].place.line, b.items[0].members["c"].place.line) == (2, 4, 4)


def test_anchors_and_merges_work_and_own_members_win() -> None:
    node, _ = parse("base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\n", "c.yaml")
    assert plain(node.members["mine"]) == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\n", "c.yaml:2: error: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "c.yaml:1: error: not valid YAML: mapping values are not allowed here"),
        ("a: !!python/object/apply:os.system [x]\n", "c.yaml:1: error: refused: a YAML tag that makes objects"),
        ("a: !!binary aGk=\n", "c.yaml:1: error: refused: a YAML tag that makes objects"),
        ("[" * 200, "c.yaml:1: error: refused: nested more than 40 levels deep"),
        ("a: &x [*x]\n", "c.yaml:1: error: refused: nested more than 40 levels deep"),
        ("a: 1\n---\nb: 2\n", "c.yaml:2: error: not valid YAML: but found another document"),
        ('a: "\\ud800"\n', "c.yaml:1: error: refused: text with half a surrogate pair"),
        ("a: x\x07y\n", "c.yaml:1: error: not valid YAML: a character that text may not hold"),
        ("? [a]\n: 1\n", "c.yaml:1: error: refused: a key that is not text"),
        ("a:\n  <<: 3\n", "c.yaml:2: error: refused: '<<' merges mappings only"),
        ('a: "\\UFFFFFFFF"\n', "c.yaml:1: error: not valid YAML: malformed text"),
    ],
)
def test_what_is_no_configuration_is_one_line(text: str, line: str) -> None:
    if "stream end" in line:
        assert refusal(text).startswith("c.yaml:2: error: not valid YAML: ")
    else:
        assert refusal(text) == line


def test_an_alias_bomb_is_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "more than 100000 values, aliases expanded" in refusal("\n".join(rows))
    assert "more than 1000 aliases" in refusal("a: &a 1\nb: [" + "*a, " * 1001 + "]\n")


def test_an_alias_that_is_really_a_password_is_not_quoted() -> None:
    for alias in ("hunter2canary", "hunter2canary" * 20):
        assert "hunter2" not in refusal(f"password: *{alias}\n")


def test_a_setting_written_twice_names_both_lines() -> None:
    _, problems = parse("a: 1\nb: 2\na: 3\n", "c.yaml")
    assert [str(problem) for problem in problems] == ["c.yaml:3: a: error: written twice, first on line 1 (keep one)"]


def test_an_equals_sign_of_published_examples_is_tolerated_with_a_warning() -> None:
    node, problems = parse('router_settings:\n  content_policy_fallbacks=[{"a": ["b"]}]\n', "c.yaml")
    assert plain(node) == {"router_settings": {"content_policy_fallbacks": [{"a": ["b"]}]}}
    assert [(problem.severity, problem.line) for problem in problems] == [(Severity.WARNING, 2)]


def test_includes_are_merged_with_their_own_places(tmp_path: Path) -> None:
    main = written(tmp_path, "include: [more/models.yaml]\nmodel_list: [{model_name: a}]\nostiary: {demo: true}\n")
    more = written(tmp_path, "model_list:\n- model_name: b\nostiary: {drain_seconds: 3}\n", "more/models.yaml")
    document = read(main, {})
    assert not document.problems
    assert plain(document.root) == {
        "model_list": [{"model_name": "a"}, {"model_name": "b"}],
        "ostiary": {"demo": True, "drain_seconds": 3},
    }
    assert document.root.members["model_list"].items[1].members["model_name"].place.file == more
    assert document.files == (main, more)


@pytest.mark.parametrize(
    ("include", "reason"),
    [
        ("../outside.yaml", "lies outside the directory of the configuration"),
        ("link.yaml", "lies outside the directory of the configuration"),
        ("/etc/passwd", "expected a relative file name"),
        ("config.yaml", "includes may not go in a circle"),
        ("circle.yaml", "includes may not go in a circle"),
        ("absent.yaml", "cannot be read: No such file or directory"),
        ("fifo", "is not a regular file"),
        ("latin.yaml", "is not UTF-8 text (line 2)"),
        ("twice.yaml", "written twice, first in "),
        ('"a\\0b"', "expected a relative file name"),
        ("{}", "expected a list of relative file names"),
        ("3", "expected a list of relative file names"),
    ],
)
def test_an_include_that_cannot_be_is_one_line(tmp_path: Path, include: str, reason: str) -> None:
    written(tmp_path, "general_settings: {}\n", "outside.yaml")
    inside = tmp_path / "config"
    written(inside, "include: [config.yaml]\n", "circle.yaml")
    written(inside, "ostiary: {demo: true}\n", "twice.yaml")
    (inside / "latin.yaml").write_bytes(b"a: 1\nb: \xff\n")
    (inside / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    os.mkfifo(inside / "fifo")
    main = written(inside, f"ostiary: {{demo: false}}\ninclude:\n- {include}\n")
    problems = load(main, {}).problems
    assert len(problems) == 1
    assert problems[0].severity is Severity.ERROR
    assert reason in problems[0].message


@pytest.mark.parametrize("name", ["absent.yaml", "", "nul\0.yaml", "."])
def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    loaded = load(str(tmp_path / name) if name else "", {})
    assert [problem.severity for problem in loaded.problems] == [Severity.ERROR]
    assert "cannot be read" in loaded.problems[0].message


def test_a_file_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, "a: " + "x" * 2**20), {})
    assert [problem.message for problem in loaded.problems] == ["config.yaml is larger than 1024 KiB"]


def test_references_are_resolved_at_any_depth_and_not_twice(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "environment_variables: {LOCAL: os.environ/OUTER, NUMBER: 7}\n"
        "x:\n- {y: os.environ/LOCAL, z: 'Bearer os.environ/OUTER!', n: os.environ/NUMBER, m: os.environ/SNEAKY}\n",
    )
    document = read(path, {"OUTER": "out", "SNEAKY": "os.environ/OUTER"})
    assert plain(document.root.members["x"]) == [{"y": "out", "z": "Bearer out!", "n": "7", "m": "os.environ/OUTER"}]
    assert "LOCAL" not in os.environ


def test_a_missing_variable_is_said_at_its_line_and_an_empty_one_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path, "general_settings:\n  master_key: os.environ/ABSENT\n  database_url: os.environ/EMPTY\n")
    assert [str(problem) for problem in load(path, {"EMPTY": ""}).problems] == [
        f"{path}:2: general_settings.master_key: error: environment variable ABSENT is not set",
        f"{path}:3: general_settings.database_url: error: environment variable EMPTY is not set",
    ]


def test_the_signature_changes_with_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 1\n")
    before = signature([path, str(tmp_path / "absent")])
    assert signature([path, str(tmp_path / "absent")]) == before
    written(tmp_path, "a: 22\n")
    assert signature([path, str(tmp_path / "absent")]) != before
    assert signature(["\0"]) == (("\0", 0, 0, 0),)


BLOCKS = st.sampled_from(
    ["model_list", "router_settings", "litellm_settings", "general_settings", "ostiary", "credential_list",
     "environment_variables", "guardrails", "include", "model_name", "litellm_params", "model", "api_base", "api_key",
     "extra_headers", "edge", "upstream", "proxy", "fallbacks", "model_group_alias", "retry_policy", "master_key",
     "os.environ/X", "openai/gpt-4o", "*", "demo", "<<", "http://x/"]
)  # fmt: skip
LEAVES = st.one_of(BLOCKS, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
TREES = st.recursive(
    LEAVES,
    lambda deeper: st.one_of(st.lists(deeper, max_size=4), st.dictionaries(BLOCKS, deeper, max_size=5)),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(max_size=200), st.binary(max_size=60)))
def test_any_bytes_give_a_configuration_or_problems(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    assert isinstance(load(str(path), {}), Loaded)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_any_tree_gives_a_snapshot_or_problems_of_one_line(tmp_path: Path, tree: object) -> None:
    import json

    from ostiary.catalog.models import load_models
    from ostiary.catalog.providers import load_providers
    from ostiary.cli.check import render
    from ostiary.control.compile import compile_snapshot

    path = written(tmp_path, json.dumps(tree, ensure_ascii=True))
    loaded = load(path, {"X": "x"})
    compiled = compile_snapshot(loaded, (), load_providers(), load_models(), revision=1, admin_digest=b"")
    for problem in (*loaded.problems, *compiled.problems):
        assert "\n" not in str(problem)
    assert render(loaded, compiled)
