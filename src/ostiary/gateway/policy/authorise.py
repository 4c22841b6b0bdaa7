"""What a key may use: verdicts with reasons, about the name asked for and each target tried.

It must not decide by a price list or by what happens to be deployed: a name is allowed by the key's own patterns, by
an access group, or not at all.
"""

from __future__ import annotations

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.grants import find_group, listed, may_use, pattern_of
from ostiary.core.key import VirtualKey
from ostiary.core.operation import Endpoint
from ostiary.core.snapshot import Deployment, PolicySnapshot

__all__ = ["find_group", "listed", "may_route", "may_use", "names_route", "pattern_of", "resolve", "usable"]

_LLM_ROUTES = frozenset({"llm_api_routes", "openai_routes", "/*", "*"})
NAMES_SHOWN = 50


def usable(key: VirtualKey, now: float) -> None:
    """Refuse a key that is blocked or past its time.

    Raises:
        Fault: BLOCKED_KEY or EXPIRED_KEY.
    """
    if key.blocked:
        raise Fault(Kind.BLOCKED_KEY, "the virtual key is blocked", origin=Origin.POLICY)
    if key.expires is not None and now >= key.expires:
        raise Fault(Kind.EXPIRED_KEY, "the virtual key has expired", origin=Origin.POLICY)


def may_route(key: VirtualKey, endpoint: Endpoint, full: str = "") -> None:
    """Refuse a route that the key's `allowed_routes` does not name.

    Args:
        full: of a native pass-through, the path as asked; it counts in place of the endpoint's.

    Raises:
        Fault: ROUTE_DENIED.
    """
    if not key.allowed_routes or key.admin:
        return
    paths = (full,) if full else (endpoint.path, *(prefix + endpoint.path for prefix in endpoint.prefixes))
    if not _LLM_ROUTES.isdisjoint(key.allowed_routes) or any(names_route(key, path) for path in paths):
        return
    raise Fault(Kind.ROUTE_DENIED, "the virtual key may not use this route", origin=Origin.POLICY)


def names_route(key: VirtualKey, path: str) -> bool:
    """Whether the key's `allowed_routes` name this path: whole, or up to a `*` at the end."""
    return any(
        allowed == path or (allowed.endswith("*") and len(allowed) > 2 and path.startswith(allowed[:-1]))
        for allowed in key.allowed_routes
    )


def resolve(snapshot: PolicySnapshot, key: VirtualKey, model: str) -> tuple[str, tuple[Deployment, ...]]:
    """The public name asked for, through the key's and the snapshot's aliases, and the deployments that serve it.

    What an alias of the key leads to must be allowed; of an alias of the snapshot, either name. A deployment asked
    for by its id is a part of its group: the group's limits and fallbacks hold.

    Raises:
        Fault: UNKNOWN_MODEL naming what the key may use; MODEL_DENIED where the model exists and is not his.
    """
    name = model
    for alias, target in key.aliases:
        if alias == model:
            name = target
    group = snapshot.aliases.get(name, name)
    deployments = snapshot.groups.get(group, ())
    if not deployments:
        deployments = find_group(snapshot, group)
        if group in snapshot.deployments:
            group = deployments[0].model_name
    if deployments and (may_use(snapshot, key, name) or (name != group and may_use(snapshot, key, group))):
        return group, deployments
    if deployments:
        raise Fault(
            Kind.MODEL_DENIED,
            f"key not allowed to access model. This key can access: {_shown(snapshot, key)}",
            origin=Origin.POLICY,
            param="model",
        )
    raise Fault(
        Kind.UNKNOWN_MODEL, f"there is no such model. This key can access: {_shown(snapshot, key)}", param="model"
    )


def _shown(snapshot: PolicySnapshot, key: VirtualKey) -> str:
    names = list(listed(snapshot, key))
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return (", ".join(names[:NAMES_SHOWN]) or "no models") + more
