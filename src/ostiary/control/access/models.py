"""The service of models added over the API: nothing is stored that does not compile. It must not show a credential."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ostiary.catalog.models import Models, load_models
from ostiary.control.access.documents import read, wrong
from ostiary.control.access.modelfields import (
    MASK,
    ChangedModel,
    DeleteModel,
    NewModel,
    origin_of,
    refuse_places_of_the_machine,
)
from ostiary.control.access.modelinfo import ModelReader
from ostiary.control.access.modelviews import row_view
from ostiary.control.access.permissions import Caller
from ostiary.control.access.ports import Compiler
from ostiary.control.compile import StoredModel
from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.ids import time_ordered_id
from ostiary.core.snapshot import PolicySnapshot
from ostiary.store.models import ModelRepository
from ostiary.store.rows import MILLISECONDS, ModelRow
from ostiary.vault.document import guarded, has_secret, is_credential, masked

LONGEST_ID = 256


class ModelService:
    """Deployments of `/model/new`, under the requests and answers of the compatible surface.

    Args:
        models: where they rest.
        compiler: says whether they can be served, and puts them into force.
        snapshot: the policy in force.
        clock: for the dates of rows.
        catalogue: the model table.

    Attributes:
        shown: what callers may know of the models in force.
    """

    def __init__(
        self,
        models: ModelRepository,
        compiler: Compiler,
        snapshot: Callable[[], PolicySnapshot],
        clock: Clock,
        catalogue: Callable[[], Models] = load_models,
    ) -> None:
        self.shown = ModelReader(models, snapshot, catalogue, clock)
        self._models = models
        self._compiler = compiler
        self._snapshot = snapshot
        self._clock = clock
        self._turn = asyncio.Lock()  # compile, commit and swap are one step

    async def stored(self) -> list[StoredModel]:
        """Every stored model, for the first compilation at the start."""
        return _compilable(await self._models.all())

    async def add(self, document: Mapping[str, object], caller: Caller) -> dict[str, object]:
        """A new deployment, served from the answer on."""
        asked = read(document, NewModel)
        params, info = _without_nulls(asked.litellm_params), dict(asked.model_info or {})
        now = self._now()
        model_id = info.pop("id", None) or time_ordered_id(now, int.from_bytes(os.urandom(10), "big"))
        if not isinstance(model_id, str) or not 0 < len(model_id) <= LONGEST_ID:
            raise wrong("model_info.id", f"expected text of at most {LONGEST_ID} characters")
        _check(params)
        row = ModelRow(
            id=model_id,
            model_name=asked.model_name,
            origin=origin_of(params),
            litellm_params=guarded(params),
            model_info=info,
            created_at=now,
            created_by=caller.id,
            updated_at=now,
            updated_by=caller.id,
        )
        async with self._turn:
            rows = await self._models.all()
            if row.id in self._snapshot().deployments or any(other.id == row.id for other in rows):
                raise wrong("model_info.id", "is in use already", status=409)
            swap = self._compiler(_compilable([*rows, row]))
            await self._models.add(row)
            swap()
        return row_view(row)

    async def update(
        self, document: Mapping[str, object], caller: Caller, model_id: str | None = None
    ) -> dict[str, object]:
        """Change what the document names of a stored deployment."""
        asked = read(document, ChangedModel)
        given = dict(asked.model_info or {})
        named = given.pop("id", None)
        model_id = model_id or named
        if not isinstance(model_id, str):
            raise wrong("model_info.id", "is required")
        async with self._turn:
            rows = await self._models.all()
            before = next((row for row in rows if row.id == model_id), None)
            if before is None:
                raise self._not_stored(model_id)
            params = _merged(before, asked.litellm_params or {})
            row = msgspec.structs.replace(
                before,
                model_name=asked.model_name or before.model_name,
                origin=origin_of(params),
                litellm_params=guarded(params),
                model_info=_without_nulls({**before.model_info, **given}),
                updated_at=self._now(),
                updated_by=caller.id,
            )
            swap = self._compiler(_compilable([row if other.id == row.id else other for other in rows]))
            row = await self._models.change(row, revision=before.revision)
            swap()
        return row_view(row)

    async def delete(self, document: Mapping[str, object]) -> dict[str, object]:
        """Take a stored deployment away."""
        model_id = read(document, DeleteModel).id
        async with self._turn:
            rows = await self._models.all()
            rest = [row for row in rows if row.id != model_id]
            if len(rest) == len(rows):
                raise self._not_stored(model_id)
            swap = self._compiler(_compilable(rest))
            await self._models.remove(model_id)
            swap()
        return {"message": f"Model: {model_id} deleted successfully"}

    def _not_stored(self, model_id: str) -> Fault:
        if model_id in self._snapshot().deployments:
            return wrong("id", "this model comes from the configuration file; change it there")
        return Fault(Kind.NOT_FOUND, "the model does not exist", param="id")

    def _now(self) -> int:
        return int(self._clock.now() * MILLISECONDS)


def _merged(before: ModelRow, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters after a change. A mask stands for the credential that is stored.

    A credential does not follow a changed address: whoever may edit a model could send it to himself.
    """
    shown = masked(before.litellm_params)
    kept = {name: value for name, value in given.items() if name not in shown or value != shown[name]}
    params = _without_nulls({**before.litellm_params, **kept})
    _check(params)
    stale = [name for name, value in before.litellm_params.items() if params.get(name) is value and has_secret(value)]
    if stale and origin_of(params) != before.origin:
        raise wrong(f"litellm_params.{stale[0]}", "must be given again, because the model's address changes")
    return params


def _check(params: Mapping[str, Any]) -> None:
    if not isinstance(params.get("model"), str) or not params["model"]:
        raise wrong("litellm_params.model", "is required")
    for name, value in params.items():
        if is_credential(name) and (value == MASK or (isinstance(value, Mapping) and MASK in value.values())):
            raise wrong(f"litellm_params.{name}", "is a mask, not a credential")
    refuse_places_of_the_machine(params)


def _without_nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


def _compilable(rows: Sequence[ModelRow]) -> list[StoredModel]:
    return [
        StoredModel(id=row.id, model_name=row.model_name, litellm_params=row.litellm_params, model_info=row.model_info)
        for row in rows
    ]
