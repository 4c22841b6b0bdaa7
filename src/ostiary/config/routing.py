"""Retries, fallbacks and aliases as written, in typed form. It must not judge names: groups are known later."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary.config.models import block
from ostiary.config.problem import error
from ostiary.config.shapes import Alias
from ostiary.config.survey import Survey
from ostiary.core.fault import Kind
from ostiary.core.snapshot import RoutingSettings

ANY_GROUP = "*"

RETRY_KINDS: Mapping[str, Kind] = {
    "AuthenticationErrorRetries": Kind.UPSTREAM_AUTH,
    "TimeoutErrorRetries": Kind.TIMEOUT,
    "RateLimitErrorRetries": Kind.UPSTREAM_RATE_LIMIT,
    "InternalServerErrorRetries": Kind.UPSTREAM_ERROR,
}


def routing_settings(
    router: Mapping[str, object], litellm: Mapping[str, object], own: Mapping[str, object], survey: Survey
) -> RoutingSettings:
    """The routing settings of the two blocks that share names, `router` winning, and of our own block."""
    plain = RoutingSettings()
    both = {**litellm, **router}
    general = _fallbacks("fallbacks", router, litellm, survey)
    everyone = general.pop(ANY_GROUP, ())
    stated = both.get("default_fallbacks")
    base = _number(both, "retry_after", 0)
    return RoutingSettings(
        num_retries=int(_number(both, "num_retries", plain.num_retries)),
        retry_base_seconds=max(plain.retry_base_seconds, base),
        retry_cap_seconds=max(plain.retry_cap_seconds, base),
        fallbacks=general,
        context_window_fallbacks=_fallbacks("context_window_fallbacks", router, litellm, survey),
        content_policy_fallbacks=_fallbacks("content_policy_fallbacks", router, litellm, survey),
        default_fallbacks=stated if isinstance(stated, tuple) else everyone,
        max_fallbacks=int(_number(both, "max_fallbacks", plain.max_fallbacks)),
        max_attempts=int(_number(own, "max_attempts", plain.max_attempts)),
        exchange_seconds=_number(own, "exchange_seconds", plain.exchange_seconds),
        allowed_fails=int(_number(both, "allowed_fails", plain.allowed_fails)),
        cooldown_seconds=_number(both, "cooldown_time", plain.cooldown_seconds),
        cooldowns=router.get("disable_cooldowns") is not True,
        retry_policy=_retry_policy(block(router.get("retry_policy"))),
    )


def _number(values: Mapping[str, object], name: str, default: float) -> float:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) else default


def _retry_policy(written: Mapping[str, object]) -> dict[str, int]:
    return {
        RETRY_KINDS[name].value: value
        for name, value in written.items()
        if name in RETRY_KINDS and isinstance(value, int)
    }


def _fallbacks(
    name: str, router: Mapping[str, object], litellm: Mapping[str, object], survey: Survey
) -> dict[str, tuple[str, ...]]:
    """`[{group: [names]}, …]` as one mapping; several rows of one group are joined in order."""
    label = f"router_settings.{name}" if name in router else f"litellm_settings.{name}"
    rows = router.get(name, litellm.get(name))
    found: dict[str, tuple[str, ...]] = {}
    for row in rows if isinstance(rows, list) else []:
        for group, names in row.items() if isinstance(row, dict) else [("", None)]:
            targets = [names] if isinstance(names, str) else names
            if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
                message = "expected a list of {model name: [model names]}"
                survey.problems.append(error(survey.places[label], label, message))
                return {}
            found[group] = (*found.get(group, ()), *targets)
    return found


def aliases(router: Mapping[str, object], survey: Survey) -> dict[str, Alias]:
    """`model_group_alias`, by alias."""
    label = "router_settings.model_group_alias"
    found: dict[str, Alias] = {}
    for name, written in block(router.get("model_group_alias")).items():
        row = written if isinstance(written, dict) else {"model": written}
        group, hidden = row.get("model"), row.get("hidden", False)
        if isinstance(group, str) and group and isinstance(hidden, bool):
            found[name] = Alias(group, hidden, survey.places[label])
        else:
            message = "expected {alias: model name} or {alias: {model: name, hidden: true or false}}"
            survey.problems.append(error(survey.places[label], label, message))
    return found
