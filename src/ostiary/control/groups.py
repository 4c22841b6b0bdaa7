"""Names of models: groups, patterns, aliases, fallbacks. It must not let a failed request walk in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ostiary.config.node import shown
from ostiary.config.problem import Place, Problem, error, warning
from ostiary.config.shapes import Loaded
from ostiary.control.deployments import Built
from ostiary.core.snapshot import Deployment, RoutingSettings
from ostiary.core.wildcard import matched

_ALIAS = "router_settings.model_group_alias"
_KINDS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


class Names(msgspec.Struct, frozen=True):
    """What public names there are."""

    groups: Mapping[str, tuple[Deployment, ...]]
    patterns: tuple[tuple[str, tuple[Deployment, ...]], ...]
    deployments: Mapping[str, Deployment]
    aliases: Mapping[str, str] = {}

    def knows(self, name: str) -> bool:
        """Whether a request for `name` finds deployments."""
        named = name in self.groups or name in self.aliases
        return named or any(matched(pattern, name) is not None for pattern, _ in self.patterns)


def grouped(built: Iterable[Built]) -> Names:
    """Deployments by public name, in the order written; wildcard names apart, the longest literal part first."""
    rows: dict[str, list[Built]] = {}
    for row in built:
        rows.setdefault(row.deployment.model_name, []).append(row)
    weighed = {name: _weighed(members) for name, members in rows.items()}
    patterns = sorted((name for name in weighed if "*" in name), key=lambda name: name.count("*") - len(name))
    return Names(
        groups={name: members for name, members in weighed.items() if "*" not in name},
        patterns=tuple((name, weighed[name]) for name in patterns),
        deployments={deployment.id: deployment for members in weighed.values() for deployment in members},
    )


def _weighed(rows: list[Built]) -> tuple[Deployment, ...]:
    """Weights as whole numbers: `weight` where any of the group states one, else rpm, else tpm, else even."""
    for stated in (
        [row.weight for row in rows],
        [row.deployment.rpm for row in rows],
        [row.deployment.tpm for row in rows],
    ):
        if any(stated):
            scale = 1 if all(weight is None or weight == int(weight) for weight in stated) else 1000
            return tuple(
                msgspec.structs.replace(row.deployment, weight=round((weight or 0) * scale))
                for row, weight in zip(rows, stated, strict=True)
            )
    return tuple(row.deployment for row in rows)


def with_aliases(names: Names, loaded: Loaded) -> tuple[Names, frozenset[str], list[Problem]]:
    """The names with the further ones of `model_group_alias`, followed to their group, and those not to be listed."""
    problems: list[Problem] = []
    aliases: dict[str, str] = {}
    for name, alias in loaded.aliases.items():
        group, seen = alias.group, {name}
        while group in loaded.aliases and group not in seen and group not in names.groups:
            seen.add(group)
            group = loaded.aliases[group].group
        if group in seen:
            problems.append(error(alias.place, _ALIAS, f"{shown(name)} is an alias of itself"))
        elif name in names.groups or "*" in name:
            problems.append(error(alias.place, _ALIAS, f"{shown(name)} cannot be an alias: it is a model name"))
        elif not names.knows(group):
            problems.append(warning(alias.place, _ALIAS, f"{shown(name)} names {shown(group)}, which is no model"))
        else:
            aliases[name] = group
    hidden = frozenset(name for name in aliases if loaded.aliases[name].hidden)
    return msgspec.structs.replace(names, aliases=aliases), hidden, problems


def checked_routing(names: Names, loaded: Loaded) -> tuple[RoutingSettings, list[Problem]]:
    """The routing settings without fallbacks to or from names that do not exist. Circles are errors."""
    problems: list[Problem] = []
    kinds: dict[str, Mapping[str, tuple[str, ...]]] = {}
    for kind in _KINDS:
        written: Mapping[str, tuple[str, ...]] = getattr(loaded.routing, kind)
        label, place = _where(kind, loaded)
        kept: dict[str, tuple[str, ...]] = {}
        for group, targets in written.items():
            if names.knows(group):
                kept[group] = _known(targets, names, label, place, problems)
            else:
                problems.append(warning(place, label, f"{shown(group)} is no model"))
        circle = _circle(kept, names.aliases)
        if circle:
            problems.append(error(place, label, f"{' → '.join(shown(name) for name in circle)} goes in a circle"))
        kinds[kind] = kept
    label, place = _where("default_fallbacks", loaded)
    default = _known(loaded.routing.default_fallbacks, names, label, place, problems)
    return msgspec.structs.replace(loaded.routing, default_fallbacks=default, **kinds), problems


def _where(kind: str, loaded: Loaded) -> tuple[str, Place]:
    for label in (f"router_settings.{kind}", f"litellm_settings.{kind}", "router_settings.fallbacks"):
        if label in loaded.places:
            return label, loaded.places[label]
    return f"litellm_settings.{kind}", loaded.places.get("litellm_settings.fallbacks", Place())


def _known(
    targets: tuple[str, ...], names: Names, label: str, place: Place, problems: list[Problem]
) -> tuple[str, ...]:
    known = tuple(target for target in targets if names.knows(target) or target in names.deployments)
    problems.extend(
        warning(place, label, f"{shown(target)} is no model and no deployment")
        for target in targets
        if target not in known
    )
    return known


def _circle(fallbacks: Mapping[str, tuple[str, ...]], aliases: Mapping[str, str]) -> list[str]:
    """A way from a group back to itself, aliases followed; empty when there is none."""
    edges: dict[str, list[str]] = {}
    for group, names in fallbacks.items():
        edges.setdefault(aliases.get(group, group), []).extend(aliases.get(name, name) for name in names)
    done: set[str] = set()
    for start, targets in edges.items():
        path, pending = [start], [iter(targets)]
        while pending:
            following = next(pending[-1], None)
            if following is None:
                done.add(path.pop())
                pending.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following in edges and following not in done:
                path.append(following)
                pending.append(iter(edges[following]))
    return []
