"""What callers may know of the models in force: their own, and never more. It must not change anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeVar

import msgspec

from ostiary.catalog.models import Models
from ostiary.catalog.providers import load_providers
from ostiary.control.access.documents import read
from ostiary.control.access.modelfields import Deprecations, GroupInfo, ModelInfo, ModelPage
from ostiary.control.access.modelviews import Shown, deployment_view, group_view
from ostiary.control.access.permissions import Caller
from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.grants import find_group, listed, may_use
from ostiary.core.key import VirtualKey
from ostiary.core.price import PriceState
from ostiary.core.snapshot import GIVEN_BY_OPERATOR, Deployment, PolicySnapshot
from ostiary.core.wildcard import filled
from ostiary.store.models import ModelRepository
from ostiary.store.rows import ModelRow

T = TypeVar("T")


class ModelReader:
    """The deployments in force and what is known of their models, under the answers of the compatible surface.

    Args:
        models: where stored ones rest.
        snapshot: the policy in force.
        catalogue: the model table.
        clock: for what has come to its last day.
    """

    def __init__(
        self,
        models: ModelRepository,
        snapshot: Callable[[], PolicySnapshot],
        catalogue: Callable[[], Models],
        clock: Clock,
    ) -> None:
        self._models = models
        self._snapshot = snapshot
        self._catalogue = catalogue
        self._clock = clock

    async def info(self, query: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """Every deployment that the caller may use, or the one asked for."""
        asked = read(query, ModelInfo, strict=False)
        wanted = asked.litellm_model_id or asked.model_id
        found = [each for each in self._visible(caller) if wanted in {None, each.id}]
        if wanted is not None and not found:
            field = "litellm_model_id" if asked.litellm_model_id else "model_id"
            raise Fault(Kind.NOT_FOUND, "the model does not exist", param=field)
        return {"data": await self._views(_page(found, asked.page, asked.size), caller)}

    async def page(self, query: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """One page of the deployments that the caller may use."""
        asked = read(query, ModelPage, strict=False)
        rows = await self._rows()
        found = [each for each in self._visible(caller) if _fits(each, asked)]
        if asked.sortBy is not None:
            by = asked.sortBy
            found.sort(key=lambda each: _rank(each, rows.get(each.id), by), reverse=asked.sortOrder == "desc")
        return {
            "data": await self._views(_page(found, asked.page, asked.size), caller),
            "total_count": len(found),
            "current_page": asked.page,
            "total_pages": -(-len(found) // asked.size),
            "size": asked.size,
        }

    async def groups(self, query: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """What each public model name that the caller may use offers; of a name that is not his, nothing."""
        asked = read(query, GroupInfo, strict=False)
        snapshot, key = self._snapshot(), caller.key
        names = [asked.model_group] if asked.model_group else list(dict.fromkeys(_names(snapshot, key)))
        groups = ((name, _behind(snapshot, key, name)) for name in names if _allowed(snapshot, key, name))
        found = _page([(name, group) for name, group in groups if group], asked.page, asked.size)
        table = self._catalogue()
        return {"data": [group_view(name, [_named(table, each, name) for each in group]) for name, group in found]}

    async def deprecations(self, query: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """The deployments whose models have a last day: past, near, and further away."""
        within = read(query, Deprecations, strict=False).warn_within_days
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        table = self._catalogue()
        kinds: dict[str, list[dict[str, object]]] = {"deprecated": [], "imminent": [], "upcoming": []}
        for deployment in self._visible(caller):
            facts = _shown(table, deployment).facts
            if facts is None or facts.ends is None:
                continue
            days = (date.fromisoformat(facts.ends) - now.date()).days
            kind = "deprecated" if days <= 0 else "imminent" if days <= within else "upcoming"
            kinds[kind].append(
                {
                    "model_name": deployment.model_name,
                    "litellm_model": f"{deployment.provider}/{deployment.upstream_model}",
                    "deprecation_date": facts.ends,
                    "days_until_deprecation": days,
                    "status": kind,
                    "litellm_provider": deployment.provider,
                }
            )
        for rows in kinds.values():
            rows.sort(key=lambda row: str(row["deprecation_date"]))
        return {**kinds, "warn_within_days": within, "checked_at": now.isoformat(timespec="seconds")}

    def _visible(self, caller: Caller) -> Iterator[Deployment]:
        """The deployments that the caller may use, in the snapshot's order; the operator's other targets are none."""
        snapshot, key = self._snapshot(), caller.key
        if key is None:
            yield from (each for each in snapshot.deployments.values() if each.mode != GIVEN_BY_OPERATOR)
            return
        seen = {each.id: each for name in listed(snapshot, key) for each in _behind(snapshot, key, name)}
        yield from seen.values()

    async def _views(self, deployments: Iterable[Deployment], caller: Caller) -> list[dict[str, object]]:
        rows, table = await self._rows(), self._catalogue()
        return [
            deployment_view(_shown(table, each, rows.get(each.id)), whole=caller.key is None) for each in deployments
        ]

    async def _rows(self) -> dict[str, ModelRow]:
        return {row.id: row for row in await self._models.all()}


def _names(snapshot: PolicySnapshot, key: VirtualKey | None) -> Iterator[str]:
    if key is not None:
        yield from listed(snapshot, key)
        return
    yield from snapshot.groups
    yield from (name for name in snapshot.aliases if name not in snapshot.hidden)
    yield from (name for name, _ in snapshot.patterns)


def _allowed(snapshot: PolicySnapshot, key: VirtualKey | None, name: str) -> bool:
    """Whether the caller may use a name; `listed` has asked that of the names it gives."""
    if key is None:
        return True
    name = dict(key.aliases).get(name, name)
    return may_use(snapshot, key, name) or may_use(snapshot, key, snapshot.aliases.get(name, name))


def _behind(snapshot: PolicySnapshot, key: VirtualKey | None, name: str) -> tuple[Deployment, ...]:
    """The deployments of a public name, through the key's aliases and the snapshot's; patterns by their own."""
    name = dict(key.aliases).get(name, name) if key else name
    pattern = next((group for pattern, group in snapshot.patterns if pattern == name), ())
    found = pattern or find_group(snapshot, snapshot.aliases.get(name, name))
    return tuple(each for each in found if each.mode != GIVEN_BY_OPERATOR)


def _shown(table: Models, deployment: Deployment, row: ModelRow | None = None) -> Shown:
    provider = load_providers().find(deployment.provider)
    base = next((msgspec.json.decode(text) for name, text in deployment.info if name == "base_model"), None)
    base = base if isinstance(base, str) and base else None
    if provider is None or ("*" in deployment.upstream_model and not base):
        return Shown(deployment, None, row)
    return Shown(deployment, table.find(provider, deployment.upstream_model, base), row)


def _named(table: Models, deployment: Deployment, name: str) -> Shown:
    """A deployment as it serves `name`: where a wildcard leads to it, with what is known of the model meant."""
    upstream = filled(deployment.upstream_model, deployment.model_name, name)
    if upstream == deployment.upstream_model or "*" in name:
        return _shown(table, deployment)
    shown = _shown(table, msgspec.structs.replace(deployment, upstream_model=upstream))
    if shown.facts is None:
        return shown
    listed_price = deployment.price_state is PriceState.UNKNOWN and shown.facts.price is not None
    known = msgspec.structs.replace(
        shown.deployment,
        price=shown.facts.price if listed_price else deployment.price,
        mode=shown.facts.mode if deployment.mode == "chat" else deployment.mode,
        max_input_tokens=deployment.max_input_tokens or shown.facts.max_input_tokens,
        max_output_tokens=deployment.max_output_tokens or shown.facts.max_output_tokens,
    )
    return msgspec.structs.replace(shown, deployment=known)


def _fits(deployment: Deployment, asked: ModelPage) -> bool:
    return (
        (asked.model is None or deployment.model_name == asked.model)
        and (asked.modelId is None or deployment.id == asked.modelId)
        and (asked.search is None or asked.search.lower() in deployment.model_name.lower())
        and (asked.access_group is None or asked.access_group in deployment.access_groups)
        and (not asked.wildcard_only or "*" in deployment.model_name)
    )


def _rank(deployment: Deployment, row: ModelRow | None, by: str) -> tuple[object, ...]:
    """The place of a deployment in an order; ties by name and id."""
    tie = deployment.model_name, deployment.id
    if by == "costs":
        price = deployment.price
        return (Decimal(price.input + price.output) if price else Decimal(-1), *tie)
    if by == "status":
        return (row is not None, *tie)
    if by in ("created_at", "updated_at"):
        return ((row.created_at if by == "created_at" else row.updated_at) if row else 0, *tie)
    return tie


def _page(items: Sequence[T], page: int, size: int | None) -> Sequence[T]:
    return items if size is None else items[(page - 1) * size : page * size]
