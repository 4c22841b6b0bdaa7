"""Judgements on single values: Python hooks, guards that would not run. It must not quote the value it judges."""

from __future__ import annotations

import re

from ostiary.config.problem import Severity, Status
from ostiary.config.setting import Verdict

NO_CODE = "names Python code, and a configuration does not run code here"

# Callbacks of the compatible surface that inspect or stop requests: ignoring one would open something.
GUARD_CALLBACKS = frozenset(
    {
        "aporia_prompt_injection",
        "azure_content_safety",
        "banned_keywords",
        "blocked_user_check",
        "detect_prompt_injection",
        "dynamic_rate_limiter",
        "dynamic_rate_limiter_v3",
        "google_text_moderation",
        "hide_secrets",
        "lakera_prompt_injection",
        "llamaguard_moderations",
        "llmguard_moderations",
        "openai_moderations",
        "presidio",
    }
)


def is_on(value: object) -> bool:
    """Whether a setting asks for anything: null, false, zero and empty do not."""
    return bool(value) and value not in ("false", "False", "no", "off")


def callbacks(value: object) -> Verdict | None:
    """Names of integrations are inert; code and guards are refused."""
    names = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    for name in names:
        if not isinstance(name, str) or "." in name:
            return Verdict(Status.REFUSED, NO_CODE)
        if name in GUARD_CALLBACKS:
            return Verdict(Status.REFUSED, "names a guard that is not implemented and would not run")
    return None


def guard_type(value: object) -> Verdict | None:
    """A guard given as `file.Class` is code."""
    return Verdict(Status.REFUSED, NO_CODE) if isinstance(value, str) and "." in value else None


def policy_attachments(value: object) -> Verdict | None:
    """An attached policy is meant to hold."""
    return Verdict(Status.REFUSED, "attaches guards that would not run") if is_on(value) else None


def secret_manager(value: object) -> Verdict | None:
    """A secret manager of one's own is code; the others are not asked."""
    if value == "custom":
        return Verdict(Status.REFUSED, NO_CODE)
    return None


def routing_strategy(value: object) -> Verdict | None:
    """One strategy is implemented."""
    if value == "simple-shuffle":
        return None
    return Verdict(Status.INERT, "not implemented: simple-shuffle is used instead", Severity.WARNING)


def certificate_check(value: object) -> Verdict | None:
    """Turning the check off is possible, and said aloud."""
    if value is False or (isinstance(value, str) and value.lower() in ("false", "no", "off")):
        return Verdict(Status.USED, "certificates of providers are not verified", Severity.WARNING)
    return None


def fails_open(value: object) -> Verdict | None:
    """Nothing here fails open."""
    if is_on(value):
        return Verdict(Status.INERT, "never done here: what cannot be checked is refused", Severity.WARNING)
    return None


# What `upperbound_key_generate_params` may bound, and whether it is a length of time or a number.
BOUNDS = {
    "max_budget": False,
    "soft_budget": False,
    "tpm_limit": False,
    "rpm_limit": False,
    "max_parallel_requests": False,
    "duration": True,
    "budget_duration": True,
}
_DURATION = re.compile(r"[0-9]{1,9}(s|m|h|d|w|mo)")


def key_bounds(value: object) -> Verdict | None:
    """Bounds for new keys: one that would not be understood would not hold."""
    for name, most in value.items() if isinstance(value, dict) else ():
        if name not in BOUNDS:
            return Verdict(Status.REFUSED, f"only {', '.join(BOUNDS)} can be bounded")
        if BOUNDS[name]:
            fits = isinstance(most, str) and _DURATION.fullmatch(most) is not None
        else:
            fits = isinstance(most, int | float) and not isinstance(most, bool) and most >= 0
        if not fits:
            return Verdict(Status.REFUSED, f"{name} needs a {'duration such as 30d' if BOUNDS[name] else 'number'}")
    return None
