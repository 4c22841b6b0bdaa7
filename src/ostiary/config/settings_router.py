"""The known settings of `router_settings` and the names it shares with `litellm_settings`. It must not read any."""

from __future__ import annotations

from ostiary.config.rules import routing_strategy
from ostiary.config.setting import Setting, Shape, below, inert, refused, used
from ostiary.config.settings_models import SIGN_IN

# Written in either block; `router_settings` wins.
SHARED: tuple[Setting, ...] = (
    used("num_retries", Shape.WHOLE, "Retries of one request before its fallbacks.", "2", least=0),
    used("fallbacks", Shape.LIST, "Where a failed request goes next: `{group: [groups or deployment ids]}`."),
    used("context_window_fallbacks", Shape.LIST, "The same for a request too long for the model."),
    used("content_policy_fallbacks", Shape.LIST, "The same for a request the provider's policy refused."),
    used("default_fallbacks", Shape.NAMES, "Fallbacks of groups that have none."),
    used("allowed_fails", Shape.WHOLE, "Failures within a minute before a deployment rests.", "3", least=0),
)

_TAGS = "Choosing deployments by tag is not implemented and would not hold."
_FINAL = "A request refused for what it says is not sent again unchanged."
_REDIS = "Health and limits live in this process."

_ROUTER: tuple[Setting, ...] = (
    *SHARED,
    used(
        "routing_strategy", Shape.TEXT, "How a deployment is chosen: `simple-shuffle`.", "simple-shuffle",
        rule=routing_strategy,
    ),
    used("model_group_alias", Shape.MAP, "Further names: `{alias: group}` or `{alias: {model, hidden}}`."),
    used("retry_policy", Shape.SECTION, "Retries by what went wrong."),
    used("retry_policy.AuthenticationErrorRetries", Shape.WHOLE, "After a refused credential.", least=0),
    used("retry_policy.TimeoutErrorRetries", Shape.WHOLE, "After a timeout.", least=0),
    used("retry_policy.RateLimitErrorRetries", Shape.WHOLE, "After a provider's rate limit.", least=0),
    inert("retry_policy.ContentPolicyViolationErrorRetries", Shape.WHOLE, _FINAL, loud=True),
    used("retry_policy.InternalServerErrorRetries", Shape.WHOLE, "After a provider's own failure.", least=0),
    inert("retry_policy.BadRequestErrorRetries", Shape.WHOLE, _FINAL, loud=True),
    used("retry_after", Shape.NUMBER, "Least seconds before a retry; a provider's `Retry-After` counts more.", "0.25",
         least=0),
    used("timeout", Shape.NUMBER, "Seconds to the first byte, where a deployment has no `timeout`.", "600",
         least=0.001),
    used("stream_timeout", Shape.NUMBER, "The same for streams.", least=0.001),
    used("max_fallbacks", Shape.WHOLE, "Groups tried after the first.", "5", least=0),
    used("cooldown_time", Shape.NUMBER, "Seconds a failing deployment rests.", "5", least=0),
    used("disable_cooldowns", Shape.FLAG, "Never let a deployment rest.", "false"),
    used("default_max_parallel_requests", Shape.WHOLE, "Calls at once, where a deployment states none.", least=1),
    used("default_litellm_params", Shape.SECTION, "`litellm_params` of deployments that do not state them."),
    refused("default_litellm_params.api_key", "One credential for every provider would leave toward all of them."),
    *(
        refused(f"default_litellm_params.{setting.path}", "One identity would be used toward every provider.")
        for setting in SIGN_IN
        if setting.path not in ("aws_region_name", "vertex_project", "vertex_location")
    ),
    refused("default_litellm_params.api_base", "One address for every provider would receive all their credentials."),
    refused("default_litellm_params.base_url", "One address for every provider would receive all their credentials."),
    refused("default_litellm_params.litellm_credential_name", "One credential would leave toward every provider."),
    refused("default_litellm_params.extra_headers", "Headers often carry a credential; write them per deployment."),
    refused("default_litellm_params.guardrails", "Guards are not implemented and would not run."),
    refused("default_litellm_params.mock_response", "A canned answer is not offered."),
    refused("default_litellm_params.max_budget", "Budgets of deployments are not enforced."),
    used("ignore_invalid_deployments", Shape.FLAG, "Leave out a deployment that cannot work, with a warning.", "true"),
    refused("enable_tag_filtering", _TAGS, Shape.FLAG),
    inert("tag_filtering_match_any", Shape.FLAG, "Part of tag filtering, which is refused."),
    refused("provider_budget_config", "Budgets of providers are not enforced; set `max_budget` on keys."),
    inert("routing_strategy_args", Shape.MAP, "Tunes strategies that are not implemented."),
    inert("model_group_retry_policy", Shape.MAP, "Retries are set for all groups alike.", loud=True),
    inert("allowed_fails_policy", Shape.MAP, "One threshold serves all failures.", loud=True),
    inert("enable_pre_call_checks", Shape.FLAG, "Requests are not filtered by context window or region.", loud=True),
    inert("optional_pre_call_checks", Shape.LIST, "Limits of deployments always hold; affinity is not implemented."),
    inert("cache_responses", Shape.FLAG, "Answers are not cached."),
    inert("cache_kwargs", Shape.MAP, "Answers are not cached."),
    inert("caching_groups", Shape.LIST, "Answers are not cached."),
    inert("redis_host", Shape.TEXT, _REDIS),
    inert("redis_port", Shape.ANY, _REDIS),
    inert("redis_password", Shape.SECRET, _REDIS),
    inert("redis_db", Shape.ANY, _REDIS),
    inert("redis_url", Shape.SECRET, _REDIS),
    inert("default_priority", Shape.WHOLE, "Requests are not queued by priority."),
    inert("deployment_affinity_ttl_seconds", Shape.NUMBER, "Affinity is not implemented."),
    inert("model_group_affinity_config", Shape.MAP, "Affinity is not implemented."),
    inert("enable_health_check_routing", Shape.FLAG, "Health is learnt from traffic."),
    inert("health_check_staleness_threshold", Shape.NUMBER, "Health is learnt from traffic."),
    inert("set_verbose", Shape.FLAG, "Logs never hold content."),
    inert("debug_level", Shape.TEXT, "Logs never hold content."),
)  # fmt: skip

ROUTER_SETTINGS: tuple[Setting, ...] = (
    used("router_settings", Shape.SECTION, "Retries, fallbacks, cooldown."),
    *below("router_settings", *_ROUTER),
)
