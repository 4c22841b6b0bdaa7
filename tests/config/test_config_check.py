"""The report of `ostiary check`, and the registry it is made from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostiary.cli.check import check
from ostiary.config.load import load
from ostiary.config.problem import Status
from ostiary.config.reference import configuration_markdown
from ostiary.config.setting import Shape
from ostiary.config.settings import by_path, nearest

ROOT = Path(__file__).parents[2]

CONFIG = """\
model_list:
- model_name: chat
  litellm_params:
    model: groq/llama-3.3-70b-versatile
    api_key: os.environ/CHECK_KEY
    temprature: 1
- model_name: old
  litellm_params:
    model: no-such/claude
- model_name: local
  litellm_params:
    model: hosted_vllm/*
    api_base: http://127.0.0.1:8000/v1
    input_cost_per_token: 0
  model_info:
    id: only-one
litellm_settings:
  num_retries: 1
  callbacks: [langfuse]
router_settings:
  num_retries: 2
  fallbacks: [{chat: [chatt]}]
general_settings:
  master_key: sk-1234
  allowed_ips: [192.0.2.1]
  enable_jwt_auth: false
colour: red
"""

REPORT = """\
Settings
  c.yaml:2 model_list[0].model_name: used
  c.yaml:4 model_list[0].litellm_params.model: used
  c.yaml:5 model_list[0].litellm_params.api_key: used
  c.yaml:6 model_list[0].litellm_params.temprature: unknown — not a known setting (did you mean temperature?)
  c.yaml:7 model_list[1].model_name: used
  c.yaml:9 model_list[1].litellm_params.model: refused — names a provider that is not offered; the deployment is left \
out
  c.yaml:10 model_list[2].model_name: used
  c.yaml:12 model_list[2].litellm_params.model: refused — holds not as many wildcards as model_name does
  c.yaml:13 model_list[2].litellm_params.api_base: used
  c.yaml:14 model_list[2].litellm_params.input_cost_per_token: used
  c.yaml:16 model_list[2].model_info.id: used
  c.yaml:18 litellm_settings.num_retries: inert — router_settings has it too, and wins
  c.yaml:19 litellm_settings.callbacks: inert — Answers and prompts are not sent to logging services
  c.yaml:21 router_settings.num_retries: used
  c.yaml:22 router_settings.fallbacks: used — chatt is no model and no deployment
  c.yaml:24 general_settings.master_key: refused — is shorter than 16 characters and can be guessed (make one with: \
openssl rand -hex 24, and put sk- before it)
  c.yaml:25 general_settings.allowed_ips: refused — Not implemented, and ignoring it would let every address in
  c.yaml:26 general_settings.enable_jwt_auth: inert — off, as it must be
  c.yaml:27 colour: unknown — not a known setting

Deployments
  chat → groq/llama-3.3-70b-versatile at https://api.groq.com/openai/v1, with a credential, price listed

3 errors, 5 warnings: the configuration cannot be put in force.
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHECK_KEY", "canary-in-the-environment")
    monkeypatch.delenv("LITELLM_MASTER_KEY", raising=False)
    monkeypatch.delenv("OSTIARY_ADMIN_KEY", raising=False)
    return tmp_path


def test_the_report_names_every_setting_and_no_value(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "c.yaml").write_text(CONFIG, encoding="utf-8")
    assert check("c.yaml") == 1
    assert capsys.readouterr().out == REPORT


def test_a_good_configuration_ends_well(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "c.yaml").write_text("general_settings: {master_key: sk-1234}\n", encoding="utf-8")
    assert check("c.yaml", dev=True) == 0
    assert capsys.readouterr().out == (
        "Settings\n"
        "  c.yaml:1 general_settings.master_key: used\n"
        "\n"
        "Deployments\n"
        "  demo → demo/demo in this process, without a credential, price free\n"
        "\n"
        "0 errors, 0 warnings: the configuration can be put in force.\n"
    )


def test_a_missing_file_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("absent.yaml") == 1
    assert "absent.yaml: error: absent.yaml cannot be read: No such file or directory\n" in capsys.readouterr().out


def test_every_setting_has_a_meaning_and_a_block() -> None:
    rows = by_path()
    for path, setting in rows.items():
        assert setting.meaning.endswith("."), path
        block = path.rpartition(".")[0]
        if block:
            parent = rows[block.removesuffix("[]")]
            assert parent.shape in (Shape.SECTION, Shape.ROWS), path


def test_refused_settings_say_why_and_hold_no_default() -> None:
    refused = [setting for setting in by_path().values() if setting.status is Status.REFUSED]
    assert len(refused) > 40
    assert all(not setting.default for setting in refused)


def test_every_used_setting_of_our_own_block_changes_what_is_loaded(tmp_path: Path) -> None:
    values = {Shape.NUMBER: "7.5", Shape.WHOLE: "2048", Shape.FLAG: "true", Shape.SECRET: "t", Shape.NAMES: "[h]"}
    texts = {"ostiary.upstream.proxy": "'http://p:1'", "ostiary.upstream.ca_file": "/ca.pem"}
    plain = load(None, {})
    special = {"ostiary.edge.max_connections_per_ip": "7", "ostiary.upstream.use_environment_proxy": "true"}
    texts["ostiary.catalog_file"] = "rows.json"
    (tmp_path / "rows.json").write_text("{}", encoding="utf-8")
    for path, setting in by_path().items():
        if not path.startswith("ostiary.") or setting.shape is Shape.SECTION:
            continue
        value = special.get(path) or texts.get(path) or values[setting.shape]
        text = value
        for name in reversed(path.split(".")):
            text = f"{{{name}: {text}}}"
        file = tmp_path / "c.yaml"
        file.write_text(text, encoding="utf-8")
        loaded = load(str(file), {})
        assert loaded.ok, path
        before, after = ((of.ostiary, of.limits, of.routing, of.catalog) for of in (plain, loaded))
        assert before != after, path


def test_defaults_of_our_own_block_are_the_documented_ones() -> None:
    loaded, rows = load(None, {}), by_path()
    for block in ("edge", "upstream", "ledger"):
        struct = getattr(loaded.ostiary, block)
        for field in struct.__struct_fields__:
            written = rows[f"ostiary.{block}.{field}"].default
            value = getattr(struct, field)
            if isinstance(value, bool):
                assert written == str(value).lower(), field
            elif isinstance(value, int | float):
                assert float(written) == value, field
            else:
                assert written == "", field


def test_near_names_are_found_in_the_block_and_in_its_neighbours() -> None:
    assert nearest("router_settings", "num_retry") == "num_retries"
    assert nearest("", "master_key") == "general_settings.master_key"
    assert nearest("router_settings.default_litellm_params", "temprature") == "temperature"
    assert nearest("general_settings", "zzzzzz") == ""


def test_the_reference_page_is_the_registrys() -> None:
    page = ROOT / "docs" / "reference" / "configuration.md"
    assert page.read_text(encoding="utf-8") == configuration_markdown(), "write configuration_markdown() to it"


def test_loading_does_not_touch_the_environment(here: Path) -> None:
    before = dict(os.environ)
    (here / "c.yaml").write_text("environment_variables: {CHECK_KEY: other, NEW: x}\n", encoding="utf-8")
    loaded = load("c.yaml", os.environ)
    assert dict(os.environ) == before
    assert loaded.environment.get("CHECK_KEY") == "other"
    assert repr(loaded.environment).endswith("2 declared)")
