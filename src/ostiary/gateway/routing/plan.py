"""The plan of a request: the order of deployments, and what follows a failure. Pure: chance is an argument.

Order: the lowest `order` tier first; in a tier, a weighted shuffle (each deployment comes first with a probability of
its weight over the sum).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.snapshot import Deployment, PolicySnapshot, RoutingSettings
from ostiary.core.wildcard import filled
from ostiary.gateway.policy.authorise import pattern_of
from ostiary.gateway.routing.health import Health


def order(
    deployments: tuple[Deployment, ...], health: Health, now: float, draw: Callable[[], float]
) -> list[Deployment]:
    """The available deployments, in the order to try them.

    Args:
        draw: a number in [0, 1).
    """
    if len(deployments) == 1:
        return list(deployments) if health.available(deployments[0], now) else []
    tiers: dict[int, list[Deployment]] = {}
    for deployment in deployments:
        if health.available(deployment, now):
            tiers.setdefault(deployment.order, []).append(deployment)
    ordered: list[Deployment] = []
    for tier in sorted(tiers):
        ordered += _shuffled(tiers[tier], draw)
    return ordered


def _shuffled(deployments: list[Deployment], draw: Callable[[], float]) -> list[Deployment]:
    left = list(deployments)
    shuffled: list[Deployment] = []
    while len(left) > 1:
        point = draw() * sum(deployment.weight for deployment in left)
        chosen = len(left) - 1
        for index, deployment in enumerate(left):
            point -= deployment.weight
            if point < 0:
                chosen = index
                break
        shuffled.append(left.pop(chosen))
    return shuffled + left


def upstream_name(deployment: Deployment, model: str) -> str:
    """The provider's name of the model: its stars filled with what the wildcards of the public name stand for."""
    return filled(deployment.upstream_model, deployment.model_name, model)


def fallbacks_for(snapshot: PolicySnapshot, group: str, fault: Fault) -> tuple[str, ...]:
    """The groups to try after `group` has failed with `fault`, in order, at most `max_fallbacks`.

    A name that only a wildcard serves has the wildcard's lists, where it has none of its own. A client's own error has
    none, except for a request too long for the model and one its content policy refused, which have lists of their own.
    """
    settings = snapshot.routing
    if fault.kind is Kind.CONTEXT_WINDOW:
        names = _named(settings.context_window_fallbacks, snapshot, group)
    elif fault.kind is Kind.CONTENT_POLICY:
        names = _named(settings.content_policy_fallbacks, snapshot, group)
    elif fault.retry is Retry.NEVER:
        names = ()
    else:
        listed = _named(settings.fallbacks, snapshot, group)
        names = listed or settings.fallbacks.get("*", ()) or settings.default_fallbacks
    return tuple(name for name in names if name != group)[: settings.max_fallbacks]


def _named(lists: Mapping[str, tuple[str, ...]], snapshot: PolicySnapshot, group: str) -> tuple[str, ...]:
    """The list of a group, else that of the wildcard which serves it."""
    found = lists.get(group)
    if found is None and group not in snapshot.groups:
        pattern = pattern_of(snapshot, group)
        found = lists.get(pattern) if pattern is not None else None
    return found or ()


def retries_for(settings: RoutingSettings, deployment: Deployment, fault: Fault, asked: int | None) -> int:
    """How many retries in the group this fault allows. The caller's number can only lower the operator's."""
    allowed = settings.retry_policy.get(fault.kind.value)
    if allowed is None:
        allowed = deployment.max_retries if deployment.max_retries is not None else settings.num_retries
    return allowed if asked is None else min(allowed, asked)


def backoff(settings: RoutingSettings, retry: int, fault: Fault, draw: float) -> float:
    """Seconds to wait before retry number `retry` (from 1) of the same deployment: the provider's word, else jitter."""
    wait = min(settings.retry_base_seconds * (1 << (retry - 1)), settings.retry_cap_seconds) * (0.5 + draw / 2)
    return max(wait, fault.retry_after or 0.0)
