"""Which public names a key may use and sees listed, and the deployments behind a name. It must not know any request.

A name is allowed by the key's own patterns, by an access group, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostiary.core.key import VirtualKey
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.core.wildcard import matched

ALL_MODELS = "all-proxy-models"
NO_MODELS = "no-default-models"
# Words that name no model. Teams come later; a key cannot hold more than its team, so theirs grants nothing yet.
_NO_NAMES = frozenset({NO_MODELS, "all-team-models"})
LONGEST_NAME = 512  # characters of a name that a pattern may match: it travels in headers and records


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
