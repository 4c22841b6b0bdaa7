"""Wrong and hostile configurations: each gives exactly one clear line, and none of them a value."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import load_providers
from ostiary.config.load import load
from ostiary.config.problem import Problem, Severity
from ostiary.control.compile import compile_snapshot

GOOD_KEY = "sk-5e2f9c71b08d4a63a1f7"
CANARY = "canary7Kq"


def problems_of(
    directory: Path, text: str, environ: dict[str, str] | None = None, *, dev: bool = False
) -> list[Problem]:
    path = directory / "c.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    loaded = load(str(path), environ or {}, dev=dev)
    compiled = compile_snapshot(loaded, (), load_providers(), load_models(), revision=1, admin_digest=b"")
    return [*loaded.problems, *compiled.problems]


def one_model(**params: str) -> str:
    written = {"model": "openai/gpt-4o", "api_key": "k"} | params
    members = "".join(f"\n    {name}: {value}" for name, value in written.items())
    return f"model_list:\n- model_name: m\n  litellm_params:{members}\n"


WRONG = [
    # wrong types and bounds
    ("model_list: {}", "model_list: error: expected a list of mappings, found a mapping"),
    ("model_list: [x]", "model_list[0]: error: expected a mapping"),
    ("model_list: [{litellm_params: {model: openai/x}}]", "model_list[0].model_name: error: is missing"),
    ("model_list: [{model_name: 4, litellm_params: {model: openai/x, api_key: k}}]",
     "model_list[0].model_name: error: expected text, found a whole number"),
    ("model_list: [{model_name: m}]", "model_list[0].litellm_params: error: is missing"),
    ("model_list: [{model_name: m, litellm_params: {api_key: k}}]",
     "model_list[0].litellm_params.model: error: is missing"),
    ("model_list: [{model_name: m, litellm_params: []}]",
     "model_list[0].litellm_params: error: expected a mapping, found a list"),
    ("router_settings: 3", "router_settings: error: expected a mapping, found a whole number"),
    ("router_settings: {num_retries: many}",
     "router_settings.num_retries: error: expected a whole number, found text"),
    ("router_settings: {num_retries: -1}",
     "router_settings.num_retries: error: expected a whole number of at least 0"),
    ("router_settings: {num_retries: 1.5}",
     "router_settings.num_retries: error: expected a whole number, found a fraction"),
    ("router_settings: {timeout: .inf}", "router_settings.timeout: error: expected a number, found text"),
    ("router_settings: {disable_cooldowns: perhaps}",
     "router_settings.disable_cooldowns: error: expected true or false, found text"),
    ("router_settings: {fallbacks: [a]}",
     "router_settings.fallbacks: error: expected a list of {model name: [model names]}"),
    ("ostiary: {edge: {max_connections: 0}}",
     "ostiary.edge.max_connections: error: expected a whole number of at least 1"),
    ("ostiary: {upstream: {proxy: 'socks5://x'}}", "ostiary.upstream.proxy: error: expected http://host:port"),
    ("ostiary: {upstream: {proxy: 'http://u:p@x:1'}}",
     "ostiary.upstream.proxy: error: expected http://host:port, without user and password"),
    ("ostiary: {edge: {allowed_hosts: ['a b']}}", "ostiary.edge.allowed_hosts: error: expected host names"),
    ("general_settings: {litellm_key_header_name: 'x: y'}",
     "general_settings.litellm_key_header_name: error: expected the name of a header"),
    ("- a", "a configuration is a mapping of settings"),
    # the admin key
    ("general_settings: {master_key: sk-1234}", "is shorter than 16 characters and can be guessed"),
    ("general_settings: {master_key: ''}", "general_settings.master_key: error: is empty"),
    ("general_settings: {master_key: a-very-long-and-good-key-5e2f}", "must start with 'sk-'"),
    ("general_settings: {master_key: sk-1234567890123456}", "is an example or a pattern and can be guessed"),
    ("general_settings: {master_key: sk-aaaaaaaaaaaaaaaaaaaaaaaa}", "is an example or a pattern and can be guessed"),
    ("general_settings: {master_key: sk-my-custom-key-1}", "is an example or a pattern and can be guessed"),
    ("general_settings: {master_key: [a]}", "general_settings.master_key: error: expected text, found a list"),
    # code
    ("general_settings: {custom_auth: hooks.auth}", "general_settings.custom_auth: error: Names Python code"),
    ("general_settings: {custom_sso: hooks.sso}", "general_settings.custom_sso: error: Names Python code"),
    ("general_settings: {custom_key_generate: hooks.new}", "custom_key_generate: error: Names Python code"),
    ("general_settings: {key_management_system: custom}", "key_management_system: error: names Python code"),
    ("litellm_settings: {callbacks: hooks.instance}", "litellm_settings.callbacks: error: names Python code"),
    ("litellm_settings: {success_callback: [langfuse, a.b]}", "success_callback: error: names Python code"),
    ("guardrails: [{litellm_params: {guardrail: file.Guard, mode: pre_call}}]",
     "guardrails[0].litellm_params.guardrail: error: names Python code"),
    # what would open something if it were ignored
    ("general_settings: {allowed_ips: [192.0.2.1]}", "general_settings.allowed_ips: error: Not implemented"),
    ("general_settings: {enforced_params: [user]}", "general_settings.enforced_params: error: Not implemented"),
    ("general_settings: {enforce_user_param: true}", "general_settings.enforce_user_param: error: Not implemented"),
    ("general_settings: {enable_jwt_auth: true}", "general_settings.enable_jwt_auth: error: This way of signing in"),
    ("general_settings: {public_routes: [/x]}", "general_settings.public_routes: error: No route is made public"),
    ("general_settings: {completion_model: gpt-4o}", "completion_model: error: Requests would not be forced"),
    ("litellm_settings: {callbacks: [detect_prompt_injection]}", "callbacks: error: names a guard"),
    ("litellm_settings: {max_budget: 10}", "litellm_settings.max_budget: error: A budget of the whole gateway"),
    ("litellm_settings: {upperbound_key_generate_params: {max_budget: lots}}", "error: max_budget needs a number"),
    ("litellm_settings: {upperbound_key_generate_params: {duration: 1}}", "error: duration needs a duration"),
    ("litellm_settings: {upperbound_key_generate_params: {metadata: 1}}", "error: only max_budget, soft_budget,"),
    ("litellm_settings: {key_generation_settings: {a: 1}}", "error: Would not hold for new keys."),
    ("router_settings: {enable_tag_filtering: true}", "router_settings.enable_tag_filtering: error: Choosing"),
    ("router_settings: {provider_budget_config: {openai: {budget_limit: 1}}}", "error: Budgets of providers"),
    ("router_settings: {default_litellm_params: {api_key: k}}", "error: One credential for every provider"),
    ("guardrails: [{litellm_params: {guardrail: presidio, default_on: true}}]",
     "guardrails[0].litellm_params.default_on: error: A guard that is on by default would not run."),
    ("policy_attachments: [{policy: p, scope: '*'}]", "policy_attachments: error: attaches guards that would not run"),
    # unknown names
    ("general_setings: {}", "general_setings: warning: not a known setting (did you mean general_settings?)"),
    ("general_settings: {num_retries: 3}", "warning: not a known setting (did you mean router_settings.num_retries?)"),
    ("ostiary: {edge: {max_body_bm: 1}}", "warning: not a known setting (did you mean max_body_mb?)"),
    # deployments
    (one_model(api_key="''"), "model_list[0].litellm_params.api_key: error: is empty"),
    (one_model(api_key='"a\\nb"'), "api_key: error: holds a character that no header can carry"),
    (one_model(api_key="os.environ/ABSENT"),
     ":5: model_list[0].litellm_params.api_key: warning: environment variable ABSENT is not set; the deployment is"),
    (one_model(rust="os.environ/ABSENT", ssl_verify="'No'"), "certificates of providers are not verified"),
    (one_model(temprature="1"), "temprature: warning: not a known setting (did you mean temperature?)"),
    (one_model(model="no-such/x"), "model: warning: names a provider that is not offered; the deployment is left out"),
    (one_model(model="bedrock/x"), "aws_region_name: warning: is missing; the deployment is left out (give it, or set"),
    (one_model(model="grok/x"), "is not offered; the deployment is left out (did you mean groq?)"),
    (one_model(model="openai/"), "model: error: names a provider and no model"),
    (one_model(model="a-model-nobody-knows"), "model: warning: names no provider, and is no model of the price table"),
    (one_model(model="openai/*"), "model: error: holds not as many wildcards as model_name does"),
    (one_model(model="auto_router/complexity_router"), "warning: names a provider that is not offered"),
    (one_model(mock_response="hi"), "mock_response: warning: A canned answer is not offered"),
    (one_model(guardrails="[x]"), "guardrails: warning: Guards are not implemented and would not run; the deployment"),
    (one_model(max_budget="5"), "max_budget: warning: Budgets of deployments are not enforced"),
    (one_model(api_base="ftp://x/"), "api_base: error: expected a URL such as https://host/v1"),
    (one_model(api_base="https://u:p@x/"), "api_base: error: holds a user or password"),
    (one_model(api_base="https://x/v1?k=v"), "api_base: error: holds a query or fragment"),
    (one_model(api_base="'https://x/v1#f'"), "api_base: error: holds a query or fragment"),
    (one_model(api_base="https://x\\y/v1"), "api_base: error: expected a URL such as https://host/v1"),
    (one_model(api_base='"https://x/v1\\r\\nHost: y"'), "api_base: error: expected a URL such as https://host/v1"),
    (one_model(api_base="https://x/../v1"), "api_base: error: holds a path that could be read in two ways"),
    (one_model(api_base="https://x/%2e%2e/v1"), "api_base: error: holds a path that could be read in two ways"),
    (one_model(api_base="https://x:99999/"), "api_base: error: expected a URL such as https://host/v1"),
    (one_model(api_base="https://x/v1/chat/completions"), "api_base: error: names an endpoint"),
    (one_model(api_base="///x"), "api_base: error: expected a URL such as https://host/v1"),
    (one_model(extra_headers='{"x-a": "b\\r\\nx-c: d"}'), "extra_headers: error: holds a name or value that no header"),
    (one_model(extra_headers='{"x a": "b"}'), "extra_headers: error: holds a name or value that no header can carry"),
    (one_model(extra_headers="{Host: evil}"), "extra_headers: error: holds a header that is the gateway's own"),
    (one_model(extra_body="{model: other}"), "extra_body: error: may not hold model or stream"),
    (one_model(litellm_credential_name="nobody"), "litellm_credential_name: error: names no row of credential_list"),
    (one_model(input_cost_per_token="-1"), "input_cost_per_token: error: expected a number of at least 0"),
    (one_model(ssl_verify="false"), "ssl_verify: warning: certificates of providers are not verified"),
    # names
    ("model_list: [{model_name: 'a\tb', litellm_params: {model: openai/x, api_key: k}}]",
     "model_list[0].model_name: error: expected 1 to 256 printable characters"),
    (one_model() + "router_settings: {fallbacks: [{m: [m]}]}", "fallbacks: error: m → m goes in a circle"),
    (one_model() + "router_settings: {fallbacks: [{m: [other]}]}", "warning: other is no model and no deployment"),
    (one_model() + "router_settings: {fallbacks: [{other: [m]}]}", "fallbacks: warning: other is no model"),
    (one_model() + "router_settings: {model_group_alias: {a: b}}", "warning: a names b, which is no model"),
    (one_model() + "router_settings: {model_group_alias: {a: a}}", "error: a is an alias of itself"),
    (one_model() + "router_settings: {model_group_alias: {m: m}}", "error: m is an alias of itself"),
    (one_model() + "router_settings: {model_group_alias: {a: 3}}", "error: expected {alias: model name} or"),
    (one_model() + "router_settings: {routing_strategy: least-busy}", "simple-shuffle is used instead"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), WRONG)
def test_a_wrong_configuration_gives_one_clear_line(tmp_path: Path, text: str, line: str) -> None:
    problems = problems_of(tmp_path, text)
    assert len(problems) == 1, [str(problem) for problem in problems]
    assert line in str(problems[0])
    assert problems[0].line > 0
    assert "\n" not in str(problems[0])


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        ("{fallbacks: [{a: [b]}, {b: [c]}, {c: [a]}]}", "a → b → c → a"),
        ("{context_window_fallbacks: [{a: [b]}, {b: [a]}]}", "a → b → a"),
        ("{content_policy_fallbacks: [{a: [c, b]}, {b: [a]}]}", "a → b → a"),
        ("{model_group_alias: {z: a}, fallbacks: [{a: [b]}, {b: [z]}]}", "a → b → a"),
    ],
)
def test_a_circle_of_fallbacks_is_refused(tmp_path: Path, text: str, circle: str) -> None:
    models = "".join(
        f"- {{model_name: {name}, litellm_params: {{model: openai/x, api_key: k}}}}\n" for name in ("a", "b", "c")
    )
    problems = problems_of(tmp_path, f"model_list:\n{models}router_settings: {text}\n")
    assert [problem.message for problem in problems] == [f"{circle} goes in a circle"]
    assert problems[0].severity is Severity.ERROR


@pytest.mark.parametrize("value", ["false", "null", "[]", "{}", "''"])
def test_a_refused_setting_that_is_off_is_accepted(tmp_path: Path, value: str) -> None:
    assert not problems_of(tmp_path, f"general_settings: {{allowed_ips: {value}, enable_jwt_auth: {value}}}")


def test_weak_admin_keys_pass_in_development_but_not_empty_ones(tmp_path: Path) -> None:
    assert not problems_of(tmp_path, "general_settings: {master_key: sk-1234}", dev=True)
    assert problems_of(tmp_path, "general_settings: {master_key: ''}", dev=True)
    assert problems_of(tmp_path, "general_settings: {master_key: secret}", dev=True)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"LITELLM_MASTER_KEY": "sk-1234"}, "environment: LITELLM_MASTER_KEY: error: is shorter than 16 characters"),
        ({"OSTIARY_ADMIN_KEY": GOOD_KEY, "LITELLM_MASTER_KEY": "sk-1234"},
         "environment: OSTIARY_ADMIN_KEY: warning: LITELLM_MASTER_KEY differs and is not used"),
        ({"OSTIARY_REGION": "EU west"}, "environment: OSTIARY_REGION: error: expected 2 to 8 lower-case letters"),
        ({"PORT": "0"}, "environment: PORT: error: expected a number from 1 to 65535"),
        ({"PORT": "²"}, "environment: PORT: error: expected a number from 1 to 65535"),
    ],
)  # fmt: skip
def test_a_wrong_environment_gives_one_clear_line(environ: dict[str, str], line: str) -> None:
    problems = load(None, environ).problems
    assert len(problems) == 1
    assert line in str(problems[0])


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
        router_settings: {num_retries: x}
        general_settings:
          allowed_ips: [a]
          master_key: sk-1234
        ostiary: {drain_seconds: -1}
        """
    assert [problem.line for problem in problems_of(tmp_path, text)] == [1, 3, 4, 5]


def test_without_ignoring_a_deployment_that_cannot_work_is_an_error(tmp_path: Path) -> None:
    text = one_model(api_key="os.environ/ABSENT") + "router_settings: {ignore_invalid_deployments: false}\n"
    assert [problem.severity for problem in problems_of(tmp_path, text)] == [Severity.ERROR]


SPOTS = [
    "general_settings: {master_key: %s}",
    "general_settings: {database_url: 'postgres://u:%s@h/d', custom_auth: %s}",
    "ostiary: {upstream: {proxy: 'http://u:%s@h:1'}, metrics: {token: %s}}",
    "environment_variables: {K: %s}",
    "credential_list: [{credential_name: c, credential_values: {api_key: %s, api_base: 'https://x?%s'}}]",
    "litellm_settings: {cache_params: {password: %s}, callbacks: [%s.x], max_budget: %s}",
    "router_settings: {redis_password: %s, num_retries: %s, timeout: %s}",
    "guardrails: [{guardrail_name: %s, litellm_params: {guardrail: x, default_on: true, api_key: %s}}]",
    "nonsense: {a: [%s]}",
    one_model(api_key="%s"),
    one_model(api_base="https://u:%s@h/"),
    one_model(api_base="https://h/?key=%s"),
    one_model(extra_headers="{Authorization: Bearer %s}", api_key="null"),
    one_model(extra_headers='{x: "%s\\n"}'),
    one_model(timeout="%s", order="%s"),
    one_model(client_secret="%s", aws_secret_access_key="%s"),
    one_model(model="vertex_ai/m", vertex_credentials="{private_key: %s, client_email: '%s'}"),
    one_model(model="bedrock/m", aws_web_identity_token="/%s", aws_role_name="%s"),
    one_model(apikey="%s"),
    "general_settings: {master_key: *%s}",
    "general_settings: {master_key: !%s x}",
    "general_settings: {master_key: [%s}",
]


@pytest.mark.parametrize("spot", SPOTS)
def test_prv_a_secret_is_in_no_problem_report_or_repr(tmp_path: Path, spot: str) -> None:
    from ostiary.cli.check import render

    path = tmp_path / "c.yaml"
    path.write_text(spot.replace("%s", CANARY), encoding="utf-8")
    loaded = load(str(path), {"OTHER": CANARY})
    compiled = compile_snapshot(loaded, (), load_providers(), load_models(), revision=1, admin_digest=b"")
    shown = "\n".join(
        [*map(str, loaded.problems), *map(str, compiled.problems), render(loaded, compiled), repr(loaded),
         repr(loaded.models), repr(loaded.credentials), repr(loaded.general), repr(loaded.ostiary),
         repr(loaded.environment), repr(loaded.findings), repr(compiled)]
    )  # fmt: skip
    assert CANARY not in shown
