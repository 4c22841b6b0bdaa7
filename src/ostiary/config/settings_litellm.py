"""The known settings of `litellm_settings`. It must not read any."""

from __future__ import annotations

from ostiary.config.rules import callbacks, certificate_check, key_bounds
from ostiary.config.setting import Setting, Shape, below, inert, refused, used
from ostiary.config.settings_router import SHARED

_LOGGERS = "Answers and prompts are not sent to logging services."
_NO_CONTENT = "Always so here: no prompt or answer text is kept."
_NO_CACHE = "Answers are not cached."
_NO_USERS = "There are no internal users yet, so nothing escapes it."
_NO_MCP = "MCP is not offered."
_NEW_KEYS = "Would not hold for new keys."
_METRICS = "The metrics have fixed names and labels."

_LITELLM: tuple[Setting, ...] = (
    *SHARED,
    used("request_timeout", Shape.NUMBER, "Seconds to the first byte, where the router states no `timeout`.", "600",
         least=0.001),
    used("cooldown_time", Shape.NUMBER, "Seconds a failing deployment rests.", "5", least=0),
    used("max_fallbacks", Shape.WHOLE, "Groups tried after the first.", "5", least=0),
    used("ssl_verify", Shape.FLAG_OR_TEXT, "Verify certificates of providers; or the path of a CA file.", "true",
         rule=certificate_check),
    inert("ssl_certificate", Shape.TEXT, "Client certificates are not sent.", loud=True),
    used(
        "drop_params", Shape.FLAG,
        "Knobs that a provider has no word for are left out and reported; `false` refuses the request instead.", "true",
    ),
    inert("modify_params", Shape.FLAG, "Requests are passed on as they are."),
    inert("force_ipv4", Shape.FLAG, "Both address families are used."),
    inert("enable_json_schema_validation", Shape.FLAG, "Answers are passed on as they are.", loud=True),
    inert("route_all_chat_openai_to_responses", Shape.FLAG, "Requests keep their dialect."),
    inert("use_chat_completions_url_for_anthropic_messages", Shape.FLAG, "Requests keep their dialect."),
    refused("network_mock", "Canned answers are not offered; the built-in `demo` model needs no provider."),
    inert("json_logs", Shape.FLAG, "Logs are structured."),
    inert("set_verbose", Shape.FLAG, "Logs never hold content."),
    # logging services; code and guards among them are refused
    inert("callbacks", Shape.NAMES, _LOGGERS, rule=callbacks, loud=True),
    inert("success_callback", Shape.NAMES, _LOGGERS, rule=callbacks, loud=True),
    inert("failure_callback", Shape.NAMES, _LOGGERS, rule=callbacks, loud=True),
    inert("service_callback", Shape.NAMES, _LOGGERS, rule=callbacks),
    inert("service_callbacks", Shape.NAMES, _LOGGERS, rule=callbacks),
    inert("audit_log_callbacks", Shape.NAMES, _LOGGERS, rule=callbacks, loud=True),
    refused("post_call_rules", "Names Python code, and a configuration does not run code here."),
    refused("pre_call_rules", "Names Python code, and a configuration does not run code here."),
    inert("s3_callback_params", Shape.MAP, _LOGGERS),
    inert("langfuse_default_tags", Shape.LIST, _LOGGERS),
    inert("callback_settings", Shape.MAP, _LOGGERS),
    # privacy
    inert("turn_off_message_logging", Shape.FLAG, _NO_CONTENT),
    inert("redact_user_api_key_info", Shape.FLAG, "Keys are never logged."),
    inert("redact_messages_in_exceptions", Shape.FLAG, _NO_CONTENT),
    inert("global_disable_no_log_param", Shape.FLAG, "No client can turn the ledger off."),
    inert("log_raw_request_response", Shape.FLAG, "Never done here."),
    inert("store_audit_logs", Shape.FLAG, "There is no audit log yet.", loud=True),
    inert("disable_end_user_cost_tracking", Shape.FLAG, "The ledger is the same for all.", loud=True),
    inert("disable_end_user_cost_tracking_prometheus_only", Shape.FLAG, "End users are not a label."),
    inert("disable_add_user_agent_to_request_tags", Shape.FLAG, "User agents are not kept."),
    inert("disable_add_prefix_to_prompt", Shape.FLAG, "Prompts are passed on as they are."),
    inert("allow_dynamic_callback_disabling", Shape.FLAG, "There are no callbacks."),
    # cache
    inert("cache", Shape.FLAG, _NO_CACHE),
    inert("cache_params", Shape.MAP, _NO_CACHE),
    inert("enable_redis_auth_cache", Shape.FLAG, "Keys are held in this process."),
    inert("enable_caching_on_provider_specific_optional_params", Shape.FLAG, _NO_CACHE),
    # keys and users
    used("default_key_generate_params", Shape.MAP, "Fields of new keys that a call leaves out."),
    used("upperbound_key_generate_params", Shape.MAP,
         "The most that a call may ask for; a new key gets this much where it asks for nothing.", rule=key_bounds),
    refused("key_generation_settings", _NEW_KEYS),
    inert("default_internal_user_params", Shape.MAP, _NO_USERS),
    inert("default_team_params", Shape.MAP, "There are no teams yet, so nothing escapes it."),
    inert("max_internal_user_budget", Shape.NUMBER, _NO_USERS),
    inert("internal_user_budget_duration", Shape.TEXT, _NO_USERS),
    inert("max_ui_session_budget", Shape.NUMBER, "There is no user interface yet."),
    inert("enable_key_alias_format_validation", Shape.FLAG, "Aliases are labels only."),
    # budgets
    refused("max_budget", "A budget of the whole gateway is not enforced; set `max_budget` on keys."),
    inert("budget_duration", Shape.TEXT, "Part of `max_budget`, which is refused."),
    refused("max_end_user_budget", "Budgets of end users are not enforced; set `max_budget` on keys."),
    refused("max_end_user_budget_id", "Budgets of end users are not enforced; set `max_budget` on keys."),
    refused("tag_budget_config", "Budgets of tags are not enforced; set `max_budget` on keys."),
    refused("priority_reservation", "Shares of a limit are not enforced."),
    inert("timezone", Shape.TEXT, "Budget windows run in UTC.", loud=True),
    inert("cost_discount_config", Shape.MAP, "Costs are recorded at list or declared price.", loud=True),
    inert("cost_margin_config", Shape.MAP, "Costs are recorded at list or declared price.", loud=True),
    inert("extra_spend_tag_headers", Shape.LIST, "Headers are not kept."),
    # metrics
    inert("prometheus_metrics_config", Shape.LIST, _METRICS),
    inert("custom_prometheus_metadata_labels", Shape.LIST, _METRICS),
    inert("custom_prometheus_tags", Shape.LIST, _METRICS),
    inert("require_auth_for_metrics_endpoint", Shape.FLAG, "Always so here: metrics are closed by default."),
    inert("enable_end_user_cost_tracking_prometheus_only", Shape.FLAG, "End users are not a label."),
    inert("prometheus_initialize_budget_metrics", Shape.FLAG, _METRICS),
    inert("prometheus_emit_stream_label", Shape.FLAG, _METRICS),
    # guards, headers, MCP
    inert("skip_system_message_in_guardrail", Shape.FLAG, "There are no guards."),
    inert("mcp_aliases", Shape.MAP, _NO_MCP),
    inert("model_group_settings", Shape.MAP, "Which client headers travel on is fixed per provider."),
    inert("add_user_information_to_llm_headers", Shape.FLAG, "Nothing about callers is sent to providers."),
    refused("blocked_user_list", "Blocked users would not be blocked; block their keys."),
    refused("banned_keywords_list", "Banned words would not be banned."),
    refused("llm_guard_mode", "Guards are not implemented and would not run."),
    refused("guardrails", "Guards are not implemented and would not run."),
)  # fmt: skip

LITELLM_SETTINGS: tuple[Setting, ...] = (
    used("litellm_settings", Shape.SECTION, "Behaviour; where a name is also in `router_settings`, that one wins."),
    *below("litellm_settings", *_LITELLM),
)
