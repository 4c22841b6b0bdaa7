"""What an answer costs, asked beforehand or afterwards. It must not count tokens: it is told them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ostiary.control.access.documents import Name, read, wrong
from ostiary.control.access.keyfields import dollars
from ostiary.core.fault import Fault, Kind
from ostiary.core.snapshot import Deployment
from ostiary.wire.dialects.openai_chat.usage import read_usage


class Serving(Protocol):
    """Which deployments would serve a model."""

    def __call__(self, model: str) -> Sequence[Deployment]:
        """Those of a public model name, in the snapshot in force, with their prices; none for an unknown one."""
        ...


class Calculate(msgspec.Struct, kw_only=True):
    """`POST /spend/calculate`: a model and a usage, or the answer that has them."""

    model: Name | None = None
    usage: dict[str, Any] | None = None
    completion_response: dict[str, Any] | None = None


class CostService:
    """`/spend/calculate`.

    Args:
        serving: where prices are found.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def calculate(self, document: Mapping[str, object]) -> dict[str, object]:
        """Dollars at the price of the first deployment of the model that has one."""
        asked = read(document, Calculate)
        answer = asked.completion_response or {}
        model = asked.model or answer.get("model")
        stated = asked.usage if asked.usage is not None else answer.get("usage")
        if not isinstance(model, str) or not model:
            raise wrong("model", "is required")
        if not isinstance(stated, dict):
            raise wrong("usage", "is required: the tokens of a prompt are not counted here")
        usage = read_usage(msgspec.json.encode({"usage": stated}))
        if usage is None:
            raise wrong("usage", "states no tokens, or numbers that cannot be meant")
        deployments = self._serving(model)
        if not deployments:
            raise Fault(Kind.UNKNOWN_MODEL, "there is no such model", param="model")
        for deployment in deployments:
            if deployment.price is not None:
                return {"cost": dollars(deployment.price.cost(usage))}
        raise Fault(Kind.UNKNOWN_PRICE, "the price of this model is unknown", param="model")
