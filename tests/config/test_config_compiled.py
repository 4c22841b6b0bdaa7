"""What a configuration becomes: the snapshot, field by field."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.config.load import load
from ostiary.config.problem import Severity
from ostiary.config.shapes import Loaded
from ostiary.control.address import azure_address, base_address, bypasses, fill
from ostiary.control.compile import Compiled, StoredModel, compile_snapshot, demo_deployment
from ostiary.core.fault import Kind
from ostiary.core.price import Price, PriceState
from ostiary.core.profile import Profile, Thinks
from ostiary.core.secret import Secret
from ostiary.core.snapshot import AuthStyle, Deployment, Timeouts, UrlStyle

ADMIN = "sk-5e2f9c71b08d4a63a1f7"

REAL = """\
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_key: os.environ/OPENAI_API_KEY
      organization: [org-1, org-2]
      weight: 2
      temperature: 0.2
      extra_body: {store: false, custom: {a: [1]}}
      extra_headers: {X-Team: "7"}
      timeout: 30
      stream_timeout: 5
      max_retries: 1
      max_parallel_requests: 3
      rpm: 60
      tpm: 1000
  - model_name: gpt-4o
    litellm_params:
      model: azure/my-deployment
      litellm_credential_name: azure-eu
      order: 2
      input_cost_per_token: 0.000001
      output_cost_per_token: "2e-6"
    model_info: {id: azure-1, base_model: gpt-4o, access_groups: [beta, all], owner: me, max_tokens: 99}
  - model_name: local
    litellm_params: {model: openai/llama, api_base: "http://10.0.0.7:8000/v1/"}
    model_info: {mode: completion, input_cost_per_token: 0, output_cost_per_token: 0}
  - model_name: groq/*
    litellm_params: {model: groq/*, api_key: k, ssl_verify: false}
  - model_name: "groq/llama-*"
    litellm_params: {model: groq/meta-llama-*, api_key: k}
  - model_name: embedder
    litellm_params: {model: text-embedding-3-small, api_key: k}
  - model_name: cf
    litellm_params: {model: "cloudflare/@cf/meta/llama", api_key: k, account_id: acc-1}
credential_list:
  - credential_name: azure-eu
    credential_values: {api_base: "https://eu.openai.azure.com/", api_key: os.environ/AZURE, api_version: 2024-10-21}
litellm_settings:
  num_retries: 9
  request_timeout: 120
  context_window_fallbacks: [{gpt-4o: [local]}]
router_settings:
  num_retries: 4
  retry_after: 2
  fallbacks: [{gpt-4o: [local, azure-1]}, {"*": [local]}]
  content_policy_fallbacks: [{groq/llama-3: [local]}]
  model_group_alias: {best: gpt-4o, secret: {model: best, hidden: true}}
  retry_policy: {AuthenticationErrorRetries: 0, TimeoutErrorRetries: 1, RateLimitErrorRetries: 2,
    ContentPolicyViolationErrorRetries: 0, InternalServerErrorRetries: 3, BadRequestErrorRetries: 0}
  allowed_fails: 2
  cooldown_time: 30
  disable_cooldowns: true
  max_fallbacks: 1
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: postgresql://u:p@h/d
  max_request_size_mb: 1
  max_response_size_mb: 2
  litellm_key_header_name: X-Litellm-Key
ostiary:
  edge: {header_seconds: 3, allowed_hosts: gw.example.com}
  upstream: {connect_seconds: 1, total_seconds: 900, proxy: "http://proxy:3128", ca_file: /ca.pem}
  routing: {max_attempts: 3, exchange_seconds: 60}
  metrics: {enabled: true, token: t}
  ledger: {segment_mb: 8, flush_seconds: 0.5}
  drain_seconds: 7
  ping_seconds: 9
  default_output_estimate: 77
"""


def loaded_from(directory: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    path = directory / "config.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    loaded = load(str(path), environ or {})
    assert loaded.ok, [str(problem) for problem in loaded.problems]
    return loaded


def compiled_from(loaded: Loaded, stored: list[StoredModel] | None = None, *, demo: bool = False) -> Compiled:
    return compile_snapshot(
        loaded, stored or [], load_providers(), load_models(), revision=7, admin_digest=b"d", demo=demo
    )


def only(directory: Path, params: str, environ: Mapping[str, str] | None = None) -> Deployment:
    text = f"model_list: [{{model_name: m, litellm_params: {params}}}]"
    compiled = compiled_from(loaded_from(directory, text, environ))
    assert compiled.ok, [str(problem) for problem in compiled.problems]
    (deployment,) = compiled.snapshot.deployments.values()
    return deployment


@pytest.fixture
def real(tmp_path: Path) -> Loaded:
    return loaded_from(tmp_path, REAL, {"OPENAI_API_KEY": "sk-o", "AZURE": "az", "LITELLM_MASTER_KEY": ADMIN})


def test_a_deployment_has_everything_its_row_says(real: Loaded) -> None:
    first, second, azure = compiled_from(real).snapshot.groups["gpt-4o"]
    assert first == Deployment(
        id=first.id,
        model_name="gpt-4o",
        profile=Profile(thinks=Thinks.NEVER, max_output=16384, cache_marks=False),
        dialects=("openai_chat", "openai_responses"),
        provider="openai",
        upstream_model="gpt-4o",
        scheme="https",
        host="api.openai.com",
        port=443,
        base_path="/v1",
        credential=Secret("sk-o"),
        headers=(("x-team", "7"), ("openai-organization", "org-1")),
        forward_headers=first.forward_headers,
        defaults=(("store", b"false"), ("custom", b'{"a":[1]}'), ("temperature", b"0.2")),
        proxy="http://proxy:3128",
        ca_file="/ca.pem",
        weight=2,
        rpm=60,
        tpm=1000,
        max_parallel=3,
        max_retries=1,
        timeouts=Timeouts(connect=1, first_byte=30, idle=30, total=900),
        stream_timeout=5,
        price=first.price,
        price_state=PriceState.LISTED,
        max_output_tokens=first.max_output_tokens,
        max_input_tokens=128000,
    )
    assert msgspec.structs.replace(first, id=second.id, headers=second.headers) == second
    assert second.headers[-1] == ("openai-organization", "org-2")
    assert first.id != second.id
    assert azure.weight == 0  # others of the group state a weight, this one does not


def test_azure_takes_the_address_of_its_credential(real: Loaded) -> None:
    azure = compiled_from(real).snapshot.deployments["azure-1"]
    assert (azure.scheme, azure.host, azure.port, azure.base_path) == ("https", "eu.openai.azure.com", 443, "")
    assert (azure.url_style, azure.api_version) == (UrlStyle.AZURE, "2024-10-21")
    assert (azure.auth, azure.auth_header, azure.credential) == (AuthStyle.HEADER, "api-key", Secret("az"))
    assert (azure.upstream_model, azure.order, azure.max_output_tokens) == ("my-deployment", 2, 99)
    assert azure.price == Price(input=10**9, output=2 * 10**9)
    assert azure.price_state is PriceState.DECLARED
    assert dict(azure.info)["owner"] == b'"me"'
    assert azure.timeouts.first_byte == 120


def test_a_local_server_needs_no_key_and_may_be_free(real: Loaded) -> None:
    (local,) = compiled_from(real).snapshot.groups["local"]
    assert (local.scheme, local.host, local.port, local.base_path) == ("http", "10.0.0.7", 8000, "/v1")
    assert (local.auth, local.credential, local.mode) == (AuthStyle.NONE, None, "completion")
    assert (local.price, local.price_state) == (Price(), PriceState.FREE)


def test_wildcards_are_patterns_the_longest_literal_part_first(real: Loaded) -> None:
    patterns = compiled_from(real).snapshot.patterns
    assert [name for name, _ in patterns] == ["groq/llama-*", "groq/*"]
    assert [row[0].upstream_model for _, row in patterns] == ["meta-llama-*", "*"]
    assert [row[0].verify for _, row in patterns] == [True, False]
    assert all(row[0].price_state is PriceState.UNKNOWN for _, row in patterns)


def test_a_bare_name_is_the_makers_and_placeholders_are_filled(real: Loaded) -> None:
    groups = compiled_from(real).snapshot.groups
    embedder, cf = groups["embedder"][0], groups["cf"][0]
    assert (embedder.provider, embedder.mode) == ("openai", "embedding")
    assert (cf.upstream_model, cf.base_path) == ("@cf/meta/llama", "/client/v4/accounts/acc-1/ai/v1")


def test_names_groups_and_routing(real: Loaded) -> None:
    compiled = compiled_from(real)
    snapshot = compiled.snapshot
    assert not compiled.problems
    assert snapshot.aliases == {"best": "gpt-4o", "secret": "gpt-4o"}
    assert snapshot.hidden == {"secret"}
    assert snapshot.access_groups == {"beta": {"gpt-4o"}, "all": {"gpt-4o"}}
    routing = snapshot.routing
    assert (routing.num_retries, routing.retry_base_seconds, routing.max_fallbacks) == (4, 2, 1)
    assert routing.fallbacks == {"gpt-4o": ("local", "azure-1")}
    assert routing.default_fallbacks == ("local",)
    assert routing.context_window_fallbacks == {"gpt-4o": ("local",)}
    assert routing.content_policy_fallbacks == {"groq/llama-3": ("local",)}
    assert (routing.allowed_fails, routing.cooldown_seconds, routing.cooldowns) == (2, 30, False)
    assert (routing.max_attempts, routing.exchange_seconds) == (3, 60)
    assert routing.retry_policy == {
        Kind.UPSTREAM_AUTH: 0,
        Kind.TIMEOUT: 1,
        Kind.UPSTREAM_RATE_LIMIT: 2,
        Kind.UPSTREAM_ERROR: 3,
    }


def test_general_settings_limits_and_our_own_block(real: Loaded) -> None:
    snapshot = compiled_from(real).snapshot
    assert (snapshot.revision, snapshot.admin_digest, snapshot.key_header) == (7, b"d", "x-litellm-key")
    assert (snapshot.limits.max_body, snapshot.limits.max_answer) == (2**20, 2**21)
    assert (snapshot.limits.ping_seconds, snapshot.limits.default_output_estimate) == (9, 77)
    assert (real.general.admin_key, real.general.database_url) == (Secret(ADMIN), Secret("postgresql://u:p@h/d"))
    assert (real.ostiary.edge.header_seconds, real.ostiary.edge.allowed_hosts) == (3, ("gw.example.com",))
    assert (real.ostiary.metrics.enabled, real.ostiary.metrics.token) == (True, Secret("t"))
    assert (real.ostiary.ledger.segment_mb, real.ostiary.ledger.flush_seconds) == (8, 0.5)
    assert (real.ostiary.drain_seconds, real.ostiary.demo) == (7, False)


def test_equal_arguments_give_equal_snapshots_and_ids_survive_a_new_key(tmp_path: Path, real: Loaded) -> None:
    assert compiled_from(real) == compiled_from(real)
    ids = [only(tmp_path, f"{{model: groq/x, api_key: {key}, temperature: {t}}}").id for key, t in (("a", 0), ("b", 1))]
    assert ids[0] == ids[1]


def test_twin_deployments_get_ids_of_their_own(tmp_path: Path) -> None:
    row = "{model_name: m, litellm_params: {model: groq/x, api_key: k}}"
    snapshot = compiled_from(loaded_from(tmp_path, f"model_list: [{row}, {row}, {row}]")).snapshot
    first, second, third = snapshot.deployments
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert len(snapshot.groups["m"]) == 3


def test_rpm_weighs_where_no_weight_is_stated_and_fractions_keep_their_share(tmp_path: Path) -> None:
    def weights(*rows: str) -> list[int]:
        models = ", ".join(f"{{model_name: m, litellm_params: {{model: groq/x, api_key: k, {row}}}}}" for row in rows)
        return [
            row.weight for row in compiled_from(loaded_from(tmp_path, f"model_list: [{models}]")).snapshot.groups["m"]
        ]

    assert weights("rpm: 60", "rpm: 30") == [60, 30]
    assert weights("weight: 0.7", "weight: 0.3, rpm: 9") == [700, 300]
    assert weights("tpm: 5", "tpm: 6") == [5, 6]
    assert weights("order: 1", "order: 2") == [1, 1]


def test_the_demo_model_is_there_when_nothing_is_configured_or_when_asked(tmp_path: Path) -> None:
    nothing = load(None, {})
    assert nothing.ok
    assert compiled_from(nothing).snapshot.groups == {"demo": (demo_deployment(),)}
    one = loaded_from(tmp_path, "model_list: [{model_name: m, litellm_params: {model: groq/x, api_key: k}}]")
    assert set(compiled_from(one).snapshot.groups) == {"m"}
    assert set(compiled_from(one, demo=True).snapshot.groups) == {"m", "demo"}
    none_works = loaded_from(tmp_path, "model_list: [{model_name: m, litellm_params: {model: groq/x}}]")
    assert not compiled_from(none_works).snapshot.groups


# --- credentials and where they may go --------------------------------------------------------------------------------


def test_aig_06_a_key_of_the_environment_goes_to_the_providers_own_address_only(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "sk-o", "AZURE_API_KEY": "az"}
    assert only(tmp_path, "{model: openai/x}", environ).credential == Secret("sk-o")
    assert only(tmp_path, "{model: openai/x, api_base: 'http://evil.example/v1'}", environ).credential is None
    azure = only(tmp_path, "{model: azure/x, api_base: 'https://mine.openai.azure.com'}", environ)
    assert azure.credential == Secret("az")


def test_aig_06_a_stored_model_takes_no_key_of_the_environment_elsewhere(tmp_path: Path) -> None:
    loaded = load(None, {"OPENAI_API_KEY": "sk-o", "AZURE_API_KEY": "az"})

    def stored(**params: object) -> Compiled:
        return compiled_from(loaded, [StoredModel("id-1", "m", {"model": "openai/x"} | params, {})])

    assert stored().snapshot.deployments["id-1"].credential == Secret("sk-o")
    assert stored(api_base="https://evil.example").snapshot.deployments["id-1"].credential is None
    azure = stored(model="azure/x", api_base="https://evil.example")
    assert not azure.snapshot.deployments
    assert azure.ok


def test_aig_06_a_credential_does_not_leave_the_address_it_is_stored_with(tmp_path: Path) -> None:
    text = """\
        credential_list:
        - {credential_name: bound, credential_values: {api_key: k, api_base: "https://a.example/v1"}}
        - {credential_name: free, credential_values: {api_key: k}}
        model_list:
        - model_name: m
          litellm_params: {model: openai/x, litellm_credential_name: bound, api_base: "https://b.example/v1"}
        """
    loaded = loaded_from(tmp_path, text)
    compiled = compiled_from(loaded)
    assert [problem.message for problem in compiled.problems] == ["is not the address that its credential belongs to"]
    assert not compiled.ok
    rows = [
        StoredModel("1", "m", {"model": "openai/x", "litellm_credential_name": name, "api_base": base}, {})
        for name, base in (
            ("free", "https://b.example"),
            ("bound", "https://b.example"),
            ("bound", "https://a.example/v1"),
        )
    ]
    snapshots = [compiled_from(msgspec.structs.replace(loaded, models=()), [row]).snapshot for row in rows]
    assert [list(snapshot.deployments) for snapshot in snapshots] == [[], [], ["1"]]


def test_aig_07_references_in_stored_models_are_literal_text() -> None:
    row = StoredModel("id-1", "m", {"model": "openai/x", "api_key": "os.environ/SECRET"}, {})
    deployment = compiled_from(load(None, {"SECRET": "s"}), [row]).snapshot.deployments["id-1"]
    assert deployment.credential == Secret("os.environ/SECRET")


@pytest.mark.parametrize(
    "row",
    [
        StoredModel("1", "m", {"model": "openai/x", "api_key": 3.5j}, {}),
        StoredModel("1", "m", {"model": "openai/x", "extra_headers": {"a": "b\r\nc: d"}, "api_key": "k"}, {}),
        StoredModel("1", "m", {"model": "openai/x", "api_base": "file:///etc/passwd", "api_key": "k"}, {}),
        StoredModel("1", "m", {"model": ["openai/x"]}, {}),
        StoredModel("1", "m", {}, {}),
        StoredModel("1", "\ud800", {"model": "openai/x", "api_key": "k"}, {}),
        StoredModel("1", "m", {"model": "openai/x", "api_key": "k", "extra_body": {"a": Secret("s")}}, {}),
        StoredModel("1", "m", {"model": "openai/x", "api_key": "k", "guardrails": ["x"]}, {}),
        StoredModel("1", "m", {"model": "openai/x", "api_key": "k"}, {"team_id": "t"}),
    ],
)
def test_a_stored_model_that_cannot_be_is_left_out_and_nothing_else(row: StoredModel) -> None:
    good = StoredModel("2", "good", {"model": "openai/x", "api_key": Secret("k")}, {"id": "other"})
    compiled = compiled_from(load(None, {}), [row, good])
    assert list(compiled.snapshot.deployments) == ["2"]
    assert compiled.snapshot.deployments["2"].source == "db"
    assert [problem.severity for problem in compiled.problems] == [Severity.WARNING]
    assert compiled.problems[0].message.endswith("; the deployment is left out")


def test_a_stored_model_does_not_take_the_id_of_a_configured_one(tmp_path: Path) -> None:
    text = "model_list: [{model_name: m, litellm_params: {model: groq/x, api_key: k}, model_info: {id: one}}]"
    compiled = compiled_from(
        loaded_from(tmp_path, text), [StoredModel("one", "m", {"model": "groq/y", "api_key": "k"}, {})]
    )
    assert [row.upstream_model for row in compiled.snapshot.groups["m"]] == ["x"]
    assert compiled.ok


def test_a_credential_written_as_a_header_becomes_one(tmp_path: Path) -> None:
    deployment = only(tmp_path, "{model: openai/x, extra_headers: {Authorization: Bearer canary, x-a: b}}")
    assert (deployment.auth, deployment.auth_header) == (AuthStyle.HEADER, "authorization")
    assert deployment.credential == Secret("Bearer canary")
    assert deployment.headers == (("x-a", "b"),)
    assert "canary" not in repr(deployment)


def test_an_entra_token_travels_as_bearer(tmp_path: Path) -> None:
    deployment = only(tmp_path, "{model: azure/x, api_base: 'https://r.openai.azure.com', azure_ad_token: t}")
    assert (deployment.auth, deployment.auth_header, deployment.credential) == (
        AuthStyle.BEARER,
        "authorization",
        Secret("t"),
    )


def test_the_environments_proxy_is_used_only_when_asked(tmp_path: Path) -> None:
    environ = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,.groq.com"}
    text = "model_list: [{model_name: m, litellm_params: {model: %s/x, api_key: k}}]\nostiary: {upstream: {%s}}"
    proxies = [
        compiled_from(loaded_from(tmp_path, text % row, environ)).snapshot.groups["m"][0].proxy
        for row in (
            ("openai", "use_environment_proxy: false"),
            ("openai", "use_environment_proxy: true"),
            ("groq", "use_environment_proxy: true"),
        )
    ]
    assert proxies == [None, "http://proxy:3128", None]


def test_a_deployment_of_another_environment_is_left_out(tmp_path: Path) -> None:
    text = """\
        model_list:
        - {model_name: m, litellm_params: {model: groq/x, api_key: k}, model_info: {supported_environments: [prod]}}
        """
    for environ, there in (
        ({"LITELLM_ENVIRONMENT": "prod"}, True),
        ({"LITELLM_ENVIRONMENT": "dev"}, False),
        ({}, False),
    ):
        assert bool(compiled_from(loaded_from(tmp_path, text, environ)).snapshot.groups) is there


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version", "base", "api_version", "model", "versioned"),
    [
        ("https://r.openai.azure.com/", "", "", "", "", True),
        ("https://r.openai.azure.com/openai", "2024-10-21", "", "2024-10-21", "", True),
        ("https://r.openai.azure.com/openai/deployments/d", "", "", "", "d", True),
        ("https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-06-01", "",
         "", "2024-06-01", "d", True),
        ("https://gw.example/azure/openai/deployments/d?api-version=2024-06-01", "2024-10-21",
         "/azure", "2024-10-21", "d", True),
        ("https://r.openai.azure.com/openai/v1/", "", "/openai/v1", "", "", False),
        ("https://r.openai.azure.com", "preview", "/openai/v1", "", "", False),
    ],
)  # fmt: skip
def test_azure_addresses(text: str, version: str, base: str, api_version: str, model: str, versioned: bool) -> None:
    address, is_versioned = azure_address(text, version)
    assert (address.base_path, address.api_version, address.model, is_versioned) == (
        base,
        api_version,
        model,
        versioned,
    )


def test_addresses_are_taken_apart_exactly() -> None:
    address = base_address("HTTPS://Api.Example.COM:8443/v1/x/")
    assert (address.scheme, address.host, address.port, address.base_path) == (
        "https",
        "api.example.com",
        8443,
        "/v1/x",
    )
    assert base_address("http://[::1]:80").host == "::1"


@pytest.mark.parametrize(
    "text",
    ["", "api.example.com", "//x", "https://", "https:///x", "https://x y/", "https://x\u3002y/", "https://ex\u00e4mple/",
     "https://x/a b", "https://x/\n", "https://x@y/", "https://x:0/", "https://x:y/", "https://a..b/", "https://-x/",
     "https://x/a//b", "https://x/%zz", "https://x/%2e%2e", "https://x/..", "https://x/.", "javascript:x",
     "https://x/" + "a" * 3000],
)  # fmt: skip
def test_net_16_an_address_that_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(expected|holds) "):
        base_address(text)


def test_placeholders_take_names_only() -> None:
    assert fill("https://{account_id}.example.com", {"account_id": "a-1"}) == "https://a-1.example.com"
    for value in ("evil.example/", "a/b", "", None, "a@b"):
        with pytest.raises(ValueError, match="needs account_id"):
            fill("https://{account_id}.example.com", {"account_id": value})


def test_no_proxy_names_hosts_and_domains() -> None:
    assert bypasses("*", "x")
    assert bypasses("a.example, .b.example", "y.b.example")
    assert bypasses("b.example", "y.b.example")
    assert not bypasses("b.example", "evilb.example")
    assert not bypasses("", "x")
