"""How deployments and groups are shown, named as the compatible surface names it. It must not show a credential."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from ostiary.catalog.declared import FIELDS
from ostiary.catalog.difference import dollars
from ostiary.catalog.facts import CAPABILITIES, ModelFacts
from ostiary.control.access.accepted import accepted_fields
from ostiary.control.access.documents import iso
from ostiary.control.access.modelfields import MASK
from ostiary.core.price import Price
from ostiary.core.snapshot import Deployment
from ostiary.store.rows import ModelRow
from ostiary.vault.document import masked

# Always there, null where unknown; the other prices only where there are any.
_USUAL_PRICES = tuple(FIELDS)[:4]
_OF_GROUP = (
    "supports_parallel_function_calling",
    "supports_vision",
    "supports_web_search",
    "supports_url_context",
    "supports_reasoning",
    "supports_function_calling",
    "supports_response_schema",
    "supports_prompt_caching",
    "supports_pdf_input",
    "supports_audio_input",
    "supports_audio_output",
)


class Shown(msgspec.Struct, frozen=True):
    """A deployment, and what else is known of it: its row in the model table, and the stored one it comes from."""

    deployment: Deployment
    facts: ModelFacts | None = None
    row: ModelRow | None = None

    @property
    def capabilities(self) -> Mapping[str, bool]:
        """What the operator says that the model can, over what the table says."""
        stated = {name: text == b"true" for name, text in self.deployment.info if text in (b"true", b"false")}
        own = {name: value for name, value in stated.items() if name in CAPABILITIES}
        return {**(self.facts.capabilities if self.facts else {}), **own}


def row_view(row: ModelRow) -> dict[str, object]:
    """A stored model as the API shows it, credentials masked."""
    return {
        "model_id": row.id,
        "model_name": row.model_name,
        "litellm_params": masked(row.litellm_params),
        "model_info": {**row.model_info, "id": row.id, "db_model": True},
        "created_at": iso(row.created_at),
        "created_by": row.created_by,
        "updated_at": iso(row.updated_at),
        "updated_by": row.updated_by,
    }


def deployment_view(shown: Shown, *, whole: bool) -> dict[str, object]:
    """A deployment in force.

    Args:
        whole: with where it is and who made it, for those who administer it; a key sees which model it is.
    """
    deployment, row = shown.deployment, shown.row
    view = {} if row is None or not whole else row_view(row)
    params = view.get("litellm_params") or _params(deployment)
    if not whole:
        params = {"model": f"{deployment.provider}/{deployment.upstream_model}"}
    return {"model_name": deployment.model_name, **view, "litellm_params": params, "model_info": _info(shown)}


def _params(deployment: Deployment) -> dict[str, object]:
    """As it was compiled, for what comes from the configuration."""
    here = deployment.scheme == "demo"
    return {
        "model": f"{deployment.provider}/{deployment.upstream_model}",
        "api_base": None if here else f"{deployment.scheme}://{_authority(deployment)}{deployment.base_path}",
        "api_key": MASK if deployment.credential else None,
        "rpm": deployment.rpm,
        "tpm": deployment.tpm,
        "max_parallel_requests": deployment.max_parallel,
        "weight": deployment.weight,
        "order": deployment.order,
    }


def _authority(deployment: Deployment) -> str:
    host = f"[{deployment.host}]" if ":" in deployment.host else deployment.host
    return f"{host}:{deployment.port}"


def _info(shown: Shown) -> dict[str, object]:
    deployment, facts, row = shown.deployment, shown.facts, shown.row
    capabilities = shown.capabilities
    info: dict[str, object] = {name: capabilities.get(name) for name in CAPABILITIES}
    info.update(
        key=facts.name if facts else None,
        max_context_tokens=facts.context_window if facts else None,
        output_vector_size=facts.vector_size if facts else None,
        deprecation_date=facts.ends if facts else None,
    )
    info.update((name, msgspec.Raw(text)) for name, text in deployment.info)
    info.update(
        mode=deployment.mode,
        max_input_tokens=deployment.max_input_tokens,
        max_output_tokens=deployment.max_output_tokens,
        max_tokens=deployment.max_output_tokens,
        access_groups=list(deployment.access_groups),
        price_state=deployment.price_state,
        litellm_provider=deployment.provider,
        supported_openai_params=accepted_fields(deployment, capabilities),
        **price_view(deployment.price),
    )
    if row is not None:
        info.update(row.model_info)
    info.update(id=deployment.id, db_model=row is not None)
    return info


def group_view(name: str, members: Sequence[Shown]) -> dict[str, object]:
    """What a public model name offers: the widest limits and the highest prices of its deployments, and what all can.

    A request goes to any of them, so that one which cannot is enough.
    """
    deployments = [member.deployment for member in members]
    fields = [accepted_fields(member.deployment, member.capabilities) for member in members]
    known = [set(each) for each in fields if each is not None]
    prices = [price_view(deployment.price) for deployment in deployments]
    return {
        "model_group": name,
        "providers": sorted({deployment.provider for deployment in deployments}),
        "mode": deployments[0].mode,
        "max_input_tokens": _most(deployment.max_input_tokens for deployment in deployments),
        "max_output_tokens": _most(deployment.max_output_tokens for deployment in deployments),
        "rpm": _sum(deployment.rpm for deployment in deployments),
        "tpm": _sum(deployment.tpm for deployment in deployments),
        **{field: _most(price.get(field) for price in prices) for field in dict.fromkeys(f for p in prices for f in p)},
        **{name: all(member.capabilities.get(name) is True for member in members) for name in _OF_GROUP},
        "supported_openai_params": sorted(set.intersection(*known)) if len(known) == len(fields) else None,
    }


def price_view(price: Price | None) -> dict[str, Decimal | None]:
    """Dollars per unit, under the names of the compatible price table."""
    usual: dict[str, Decimal | None] = dict.fromkeys(_USUAL_PRICES)
    if price is not None:  # what is free is zero, not unknown
        usual.update(input_cost_per_token=Decimal(0), output_cost_per_token=Decimal(0))
    return {**usual, **dollars(price)}


def _most(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
