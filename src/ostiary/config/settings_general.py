"""The known settings of `general_settings` and of the blocks that are not offered. It must not read any."""

from __future__ import annotations

from ostiary.config.rules import fails_open, guard_type, policy_attachments, secret_manager
from ostiary.config.setting import Setting, Shape, below, inert, refused, used

_CODE = "Names Python code, and a configuration does not run code here."
_SIGN_IN = "This way of signing in is not implemented; callers use virtual keys."
_NOT_HELD = "Not implemented, and ignoring it would let through what it stops."
_FORCED = "Requests would not be forced to this model."
_NO_HEALTH = "Health is learnt from traffic."
_NO_ALERTS = "Alerts are not sent."
_NO_MCP = "MCP is not offered."
_NO_UI = "There is no user interface yet."
_VAULT = "Secrets come from the environment; no secret manager is asked."
_LEDGER = "The ledger always runs."

_GENERAL: tuple[Setting, ...] = (
    # core
    used("master_key", Shape.SECRET, "The admin key: `sk-` and at least 16 characters that nobody guesses.",
         "`OSTIARY_ADMIN_KEY`, else `LITELLM_MASTER_KEY`, else made at the first start"),
    used("database_url", Shape.SECRET, "Where the state lives.", "`DATABASE_URL`, else SQLite in the data directory"),
    inert("database_connection_pool_limit", Shape.WHOLE, "The pool is sized by us."),
    inert("database_connection_timeout", Shape.NUMBER, "The pool is sized by us."),
    inert("store_model_in_db", Shape.FLAG, "Always so: `/model/new` stores models."),
    inert("supported_db_objects", Shape.LIST, "What is stored is fixed."),
    refused("completion_model", _FORCED),
    refused("embedding_model", _FORCED),
    refused("image_generation_model", _FORCED),
    refused("moderation_model", _FORCED),
    inert("infer_model_from_keys", Shape.FLAG, "Models are configured by name."),
    inert("litellm_license", Shape.SECRET, "No licence is needed."),
    inert("encryption_algorithm", Shape.TEXT, "Encryption at rest is not a choice."),
    # who may call
    refused("custom_auth", _CODE),
    refused("custom_auth_settings", _CODE),
    refused("custom_auth_run_common_checks", _CODE),
    refused("custom_key_generate", _CODE),
    refused("custom_key_update", _CODE),
    refused("custom_sso", _CODE),
    refused("custom_ui_sso_sign_in_handler", _CODE),
    used("litellm_key_header_name", Shape.TEXT, "A further header that may carry the virtual key."),
    refused("enable_jwt_auth", _SIGN_IN),
    refused("litellm_jwtauth", _SIGN_IN),
    refused("enable_oauth2_auth", _SIGN_IN),
    refused("enable_oauth2_proxy_auth", _SIGN_IN),
    refused("oauth2_config_mappings", _SIGN_IN),
    refused("enforce_rbac", _NOT_HELD),
    refused("role_permissions", _NOT_HELD),
    refused("allowed_routes", "Not implemented for the whole gateway; set `allowed_routes` on keys."),
    refused("public_routes", "No route is made public by a setting."),
    refused("admin_only_routes", _NOT_HELD),
    refused("allowed_ips", "Not implemented, and ignoring it would let every address in."),
    inert("use_x_forwarded_for", Shape.FLAG, "The address of the connection is used."),
    inert("allow_client_side_credentials", Shape.FLAG, "A request never chooses where it goes.", loud=True),
    inert("user_header_mappings", Shape.ANY, "Users are not taken from headers."),
    inert("user_header_name", Shape.TEXT, "Users are not taken from headers."),
    # what may be asked
    refused("enforce_user_param", _NOT_HELD),
    refused("enforced_params", _NOT_HELD),
    refused("reject_clientside_metadata_tags", _NOT_HELD),
    refused("service_account_settings", _NOT_HELD),
    inert("default_team_disabled", Shape.FLAG, "Only the admin makes keys."),
    inert("ui_access_mode", Shape.TEXT, _NO_UI),
    used("max_request_size_mb", Shape.NUMBER, "Largest request body, in MiB.", "32", least=0.001),
    used("max_response_size_mb", Shape.NUMBER, "Largest answer held in memory, in MiB; streams are not limited.", "64",
         least=0.001),
    refused("global_max_parallel_requests", "Not enforced; see `ostiary.edge.max_connections` and limits on keys."),
    refused("max_parallel_requests", "Not enforced; see `ostiary.edge.max_connections` and limits on keys."),
    inert("token_rate_limit_type", Shape.TEXT, "Tokens in and out count together.", loud=True),
    inert("disable_responses_id_security", Shape.FLAG, "The Responses API is not offered."),
    # ledger and retention
    inert("disable_spend_logs", Shape.FLAG, _LEDGER, loud=True),
    inert("disable_error_logs", Shape.FLAG, _LEDGER, loud=True),
    inert("disable_spend_updates", Shape.FLAG, _LEDGER, loud=True),
    inert("store_prompts_in_spend_logs", Shape.FLAG, "Never done: the ledger holds no prompt or answer text."),
    used("maximum_spend_logs_retention_period", Shape.TEXT,
         "Records of requests older than this (`12h`, `30d`, `2w`, `6mo`) are deleted, their sums stay; unset: none."),
    used("maximum_spend_logs_retention_interval", Shape.TEXT, "How often records are looked through for that.", "1d"),
    inert("maximum_spend_logs_cleanup_cron", Shape.TEXT, "See `maximum_spend_logs_retention_interval`.", loud=True),
    inert("proxy_batch_write_at", Shape.NUMBER, "See `ostiary.ledger.flush_seconds`."),
    inert("use_redis_transaction_buffer", Shape.FLAG, "A local journal keeps records safe."),
    inert("disable_adding_master_key_hash_to_db", Shape.FLAG, "Always so: the admin key is not stored."),
    inert("disable_master_key_return", Shape.FLAG, "Always so: the admin key is never returned."),
    # health and alerts
    *(
        inert(name, Shape.ANY, _NO_HEALTH)
        for name in (
            "background_health_checks", "health_check_interval", "health_check_concurrency", "health_check_details",
            "use_shared_health_check",
        )
    ),
    inert("alerting", Shape.NAMES, _NO_ALERTS, loud=True),
    *(
        inert(name, Shape.ANY, _NO_ALERTS)
        for name in (
            "alerting_threshold", "alert_types", "alert_to_webhook_url", "alerting_args", "alert_type_config",
            "spend_report_frequency",
        )
    ),
    # secrets
    inert("key_management_system", Shape.TEXT, _VAULT, rule=secret_manager, loud=True),
    inert("key_management_settings", Shape.MAP, _VAULT),
    # when something is down
    inert("allow_requests_on_db_unavailable", Shape.FLAG, "What cannot be checked is refused.", rule=fails_open),
    inert("user_api_key_cache_ttl", Shape.NUMBER, "A change to a key takes effect within a second."),
    inert("proxy_budget_rescheduler_min_time", Shape.NUMBER, "Budget windows turn on time."),
    inert("proxy_budget_rescheduler_max_time", Shape.NUMBER, "Budget windows turn on time."),
    inert("fail_closed_budget_enforcement", Shape.FLAG, "Always so here."),
    inert("fail_closed_rate_limit_enforcement", Shape.FLAG, "Always so here."),
    # pass-through and headers
    used("pass_through_endpoints", Shape.LIST, "Paths that lead to targets: rows of `path`, `target`, `headers`, "
         "`include_subpath`, `methods`, `default_query_params`, `cost_per_request`. A key is always asked for."),
    inert("forward_client_headers_to_llm_api", Shape.FLAG, "Which client headers travel on is fixed per provider."),
    inert("forward_llm_provider_auth_headers", Shape.FLAG, "A client's credential for a provider never travels on."),
    inert("forward_openai_org_id", Shape.FLAG, "Which client headers travel on is fixed per provider."),
    inert("always_include_stream_usage", Shape.FLAG, "Usage is measured in any case; clients get it when they ask."),
    *(
        inert(name, Shape.ANY, _NO_MCP)
        for name in (
            "mcp_internal_ip_ranges", "mcp_trusted_proxy_ranges", "user_mcp_management_mode", "mcp_required_fields",
            "require_end_user_mcp_access_defined", "mcp_client_side_auth_header_name", "enable_mcp_registry",
        )
    ),
    inert("block_robots", Shape.FLAG, _NO_UI),
    inert("control_plane_url", Shape.TEXT, _NO_UI),
    inert("auto_redirect_ui_login_to_sso", Shape.FLAG, _NO_UI),
    inert("enable_public_model_hub", Shape.FLAG, _NO_UI),
)  # fmt: skip

GENERAL_SETTINGS: tuple[Setting, ...] = (
    used("general_settings", Shape.SECTION, "Who administers, and what the gateway as a whole allows."),
    *below("general_settings", *_GENERAL),
)

BLOCK_SETTINGS: tuple[Setting, ...] = (
    used("include", Shape.NAMES, "Further files, relative to this one; mappings are merged, lists joined."),
    used("guardrails", Shape.ROWS, "Guards are not implemented: one that is on by default is refused."),
    inert("guardrails[].guardrail_name", Shape.TEXT, "This guard does not run.", loud=True),
    used("guardrails[].litellm_params", Shape.SECTION, "Read only to find out what must be refused."),
    refused("guardrails[].litellm_params.default_on", "A guard that is on by default would not run.", Shape.FLAG),
    inert("guardrails[].litellm_params.guardrail", Shape.TEXT, "This guard does not run.", rule=guard_type),
    inert("guardrails[].litellm_params.mode", Shape.ANY, "This guard does not run."),
    inert("guardrails[].litellm_params.api_key", Shape.SECRET, "This guard does not run."),
    inert("guardrails[].litellm_params.*", Shape.ANY, "This guard does not run."),
    inert("guardrails[].guardrail_info", Shape.MAP, "A note for people."),
    inert("policies", Shape.MAP, "Nothing is attached to them: attachments are refused."),
    inert("policy_attachments", Shape.LIST, "Attaches nothing.", rule=policy_attachments),
    inert("mcp_servers", Shape.MAP, "MCP is not offered; no command is started.", loud=True),
    inert("mcp_tools", Shape.LIST, "MCP is not offered.", loud=True),
    inert("vector_store_registry", Shape.LIST, "Vector stores are not offered.", loud=True),
    inert("prompts", Shape.LIST, "Prompt templates are not offered.", loud=True),
    inert("search_tools", Shape.LIST, "Search tools are not offered.", loud=True),
    inert("callback_settings", Shape.MAP, "There are no callbacks."),
    inert("assistant_settings", Shape.MAP, "Assistants are not offered.", loud=True),
    inert("files_settings", Shape.ANY, "Files go to the provider that the request names."),
    inert("finetune_settings", Shape.ANY, "Fine-tuning is not offered.", loud=True),
    inert("agents", Shape.ANY, "Agents are not offered.", loud=True),
    inert("agent_list", Shape.ANY, "Agents are not offered.", loud=True),
)
