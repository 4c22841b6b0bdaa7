"""The fields of models in requests and answers, named as the compatible surface names them. It must not decide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ostiary.control.access.documents import Name, iso, wrong
from ostiary.core.price import Price
from ostiary.core.snapshot import Deployment
from ostiary.store.rows import ModelRow
from ostiary.vault.document import masked

PRICE_UNITS = Decimal(10) ** 15  # nanodollars per million units to dollars per unit
MASK = "****"
_JWT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2,4}")
_ADDRESSES = ("api_base", "base_url", "aws_bedrock_runtime_endpoint")
_PORTS = {"http": 80, "https": 443}

Required = Annotated[str, Meta(min_length=1, max_length=256)]


class NewModel(msgspec.Struct, kw_only=True):
    """`POST /model/new`."""

    model_name: Required
    litellm_params: dict[str, Any]
    model_info: dict[str, Any] | None = None


class ChangedModel(msgspec.Struct, kw_only=True):
    """`POST /model/update` and `PATCH /model/{id}/update`: what is named is changed, null takes it away."""

    model_name: Required | None = None
    litellm_params: dict[str, Any] | None = None
    model_info: dict[str, Any] | None = None


class DeleteModel(msgspec.Struct, kw_only=True):
    """`POST /model/delete`."""

    id: Name


class ModelInfo(msgspec.Struct, kw_only=True):
    """`GET /model/info`."""

    litellm_model_id: str | None = None


class GroupInfo(msgspec.Struct, kw_only=True):
    """`GET /model_group/info`."""

    model_group: str | None = None


def origin_of(params: dict[str, Any]) -> str:
    """Where the credentials of these parameters may go: `scheme://host:port`, or the provider that names the host.

    Raises:
        Fault: INVALID_REQUEST for an address that is none, or that carries a credential itself.
    """
    field = next((name for name in _ADDRESSES if params.get(name)), "api_base")
    address = params.get(field)
    if not address:
        provider = params.get("custom_llm_provider") or str(params["model"]).partition("/")[0]
        return f"provider:{provider}"
    field = f"litellm_params.{field}"
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
        port = parts.port if parts else None
    except ValueError:
        parts, port = None, None
    if parts is None or parts.scheme not in _PORTS or not parts.hostname:
        raise wrong(field, "expected an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise wrong(field, "a credential in the URL is refused; give `api_key`")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or _PORTS[parts.scheme]}"


def refuse_places_of_the_machine(params: Mapping[str, Any]) -> None:
    """What names a file of this machine is for the configuration file alone; what stands in a header fits in one.

    Raises:
        Fault: INVALID_REQUEST, naming the parameter.
    """
    credentials, token = params.get("vertex_credentials"), params.get("aws_web_identity_token")
    if isinstance(credentials, str) and not credentials.strip().startswith("{"):
        raise wrong("litellm_params.vertex_credentials", "expected the JSON of the credentials, not a path")
    if isinstance(token, str) and not _JWT.fullmatch(token):
        raise wrong("litellm_params.aws_web_identity_token", "expected a token, not a path")
    for name in ("aws_access_key_id", "aws_session_token"):
        text = params.get(name)
        if isinstance(text, str) and not all(" " < char <= "~" for char in text):
            raise wrong(f"litellm_params.{name}", "holds a character that no header can carry")


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


def deployment_view(deployment: Deployment, row: ModelRow | None) -> dict[str, object]:
    """A deployment in force: as it was stored, or, when it comes from the configuration, as it was compiled."""
    shown = {} if row is None else row_view(row)
    params = shown.get("litellm_params") or {
        "model": f"{deployment.provider}/{deployment.upstream_model}",
        "api_base": f"{deployment.scheme}://{deployment.host}:{deployment.port}{deployment.base_path}",
        "api_key": MASK if deployment.credential else None,
        "rpm": deployment.rpm,
        "tpm": deployment.tpm,
        "max_parallel_requests": deployment.max_parallel,
        "weight": deployment.weight,
        "order": deployment.order,
    }
    info: dict[str, object] = {name: msgspec.Raw(text) for name, text in deployment.info}
    info.update(
        mode=deployment.mode,
        max_input_tokens=deployment.max_input_tokens,
        max_output_tokens=deployment.max_output_tokens,
        max_tokens=deployment.max_output_tokens,
        access_groups=list(deployment.access_groups),
        price_state=deployment.price_state,
        litellm_provider=deployment.provider,
        **price_view(deployment.price),
    )
    if row is not None:
        info.update(row.model_info)
    info.update(id=deployment.id, db_model=row is not None)
    return {"model_name": deployment.model_name, **shown, "litellm_params": params, "model_info": info}


def group_view(name: str, deployments: tuple[Deployment, ...]) -> dict[str, object]:
    """What a public model name offers: the widest limits and the highest prices among its deployments."""
    prices = [price_view(deployment.price) for deployment in deployments]
    highest = {field: _most(price[field] for price in prices) for field in prices[0]}
    return {
        "model_group": name,
        "providers": sorted({deployment.provider for deployment in deployments}),
        "mode": deployments[0].mode,
        "max_input_tokens": _most(deployment.max_input_tokens for deployment in deployments),
        "max_output_tokens": _most(deployment.max_output_tokens for deployment in deployments),
        "rpm": _sum(deployment.rpm for deployment in deployments),
        "tpm": _sum(deployment.tpm for deployment in deployments),
        **highest,
    }


def price_view(price: Price | None) -> dict[str, Decimal | None]:
    """Dollars per unit, under the names of the compatible price table."""
    fields = {
        "input_cost_per_token": "input",
        "output_cost_per_token": "output",
        "cache_read_input_token_cost": "cache_read",
        "cache_creation_input_token_cost": "cache_creation",
    }
    rates = {name: None if price is None else getattr(price, field) for name, field in fields.items()}
    return {name: None if rate is None else Decimal(rate) / PRICE_UNITS for name, rate in rates.items()}


def _most(values: Any) -> Any:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _sum(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
