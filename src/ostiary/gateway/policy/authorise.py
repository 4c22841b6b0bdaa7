"""What a key may use: verdicts with reasons, about the name asked for and each target tried.

It must not decide by a price list or by what happens to be deployed: a name is allowed by the key's own patterns, by
an access group, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.operation import Endpoint
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.core.wildcard import matched

ALL_MODELS = "all-proxy-models"
NO_MODELS = "no-default-models"
# Words that name no model. Teams come later; a key cannot hold more than its team, so theirs grants nothing yet.
_NO_NAMES = frozenset({NO_MODELS, "all-team-models"})
_LLM_ROUTES = frozenset({"llm_api_routes", "openai_routes", "/*", "*"})
NAMES_SHOWN = 50
LONGEST_NAME = 512  # characters of a name that a pattern may match: it travels in headers and records


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


def may_use(snapshot: PolicySnapshot, key: VirtualKey, model: str) -> bool:
    """Whether the key's `models` admit a public model name."""
    if key.admin or not key.models:
        return True
    for allowed in key.models:
        if allowed in (model, ALL_MODELS):
            return allowed not in _NO_NAMES
        if "*" in allowed and matched(allowed, model) is not None:
            return True
        if model in snapshot.access_groups.get(allowed, ()):
            return True
    return False


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


def find_group(snapshot: PolicySnapshot, name: str) -> tuple[Deployment, ...]:
    """The deployments of a public name: by its exact name, a deployment's id, or the first pattern that matches."""
    found = snapshot.groups.get(name)
    if found is not None:
        return found
    single = snapshot.deployments.get(name)
    if single is not None:
        return (single,)
    pattern = pattern_of(snapshot, name)
    return next((found for wildcard, found in snapshot.patterns if wildcard == pattern), ())


def pattern_of(snapshot: PolicySnapshot, name: str) -> str | None:
    """The wildcard that serves a public name which nothing serves by its own: the first that matches."""
    if len(name) > LONGEST_NAME:
        return None
    return next((pattern for pattern, _ in snapshot.patterns if matched(pattern, name) is not None), None)


def listed(snapshot: PolicySnapshot, key: VirtualKey) -> Iterator[str]:
    """The public names the key may use, in the snapshot's order: groups, aliases, and patterns as they are written."""
    if key.models == (NO_MODELS,):
        return
    for name in snapshot.groups:
        if name not in snapshot.hidden and may_use(snapshot, key, name):
            yield name
    for alias, group in snapshot.aliases.items():
        if alias not in snapshot.hidden and (may_use(snapshot, key, alias) or may_use(snapshot, key, group)):
            yield alias
    for alias, target in key.aliases:
        if find_group(snapshot, target) and may_use(snapshot, key, target):
            yield alias
    for pattern, _ in snapshot.patterns:
        if may_use(snapshot, key, pattern):
            yield pattern
    for name in key.models:
        known = "*" in name or name in snapshot.groups or name in snapshot.aliases
        if not known and any(matched(pattern, name) is not None for pattern, _ in snapshot.patterns):
            yield name


def _shown(snapshot: PolicySnapshot, key: VirtualKey) -> str:
    names = list(listed(snapshot, key))
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return (", ".join(names[:NAMES_SHOWN]) or "no models") + more
