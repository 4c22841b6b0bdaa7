"""The fields of models in requests and answers, named as the compatible surface names them. It must not decide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ostiary.control.access.documents import Name, wrong

MASK = "****"
_JWT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2,4}")
_ADDRESSES = ("api_base", "base_url", "aws_bedrock_runtime_endpoint")
_PORTS = {"http": 80, "https": 443}

Required = Annotated[str, Meta(min_length=1, max_length=256)]
Page = Annotated[int, Meta(ge=1, le=10**6)]
Size = Annotated[int, Meta(ge=1, le=1000)]
SortBy = Literal["model_name", "created_at", "updated_at", "costs", "status"]


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
    """`GET /model/info`: one deployment by its id, or all; a page of them where one is asked for."""

    litellm_model_id: str | None = None
    model_id: str | None = None
    page: Page = 1
    size: Size | None = None


class ModelPage(msgspec.Struct, kw_only=True):
    """`GET /v2/model/info`: a page of the deployments that fit."""

    model: str | None = None
    modelId: str | None = None  # noqa: N815 (the compatible surface's name)
    search: str | None = None
    access_group: str | None = None
    wildcard_only: bool = False
    sortBy: SortBy | None = None  # noqa: N815
    sortOrder: Literal["asc", "desc"] = "asc"  # noqa: N815
    page: Page = 1
    size: Size = 50


class GroupInfo(msgspec.Struct, kw_only=True):
    """`GET /model_group/info`."""

    model_group: str | None = None
    page: Page = 1
    size: Size | None = None


class Deprecations(msgspec.Struct, kw_only=True):
    """`GET /model/deprecations`."""

    warn_within_days: Annotated[int, Meta(ge=0, le=3660)] = 30


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
