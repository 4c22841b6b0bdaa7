"""The fields of keys in requests and answers, named as the compatible surface names them. It must not decide."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ostiary.control.access.documents import Dollars, Limit, Limits, Name, Names, iso
from ostiary.core.money import dollars_text
from ostiary.store.rows import MILLISECONDS, KeyRow

Text = Name | None | UnsetType
Money = Dollars | None | UnsetType


class KeyFields(msgspec.Struct, kw_only=True):
    """What can be set of a key. Absent leaves it as it is; null takes it away."""

    key_alias: Text = UNSET
    duration: Text = UNSET
    models: Names | UnsetType | None = UNSET
    aliases: dict[Name, Name] | UnsetType | None = UNSET
    max_budget: Money = UNSET
    soft_budget: Money = UNSET
    budget_duration: Text = UNSET
    spend: Money = UNSET
    rpm_limit: Limit | UnsetType | None = UNSET
    tpm_limit: Limit | UnsetType | None = UNSET
    max_parallel_requests: Limit | UnsetType | None = UNSET
    model_rpm_limit: Limits | UnsetType | None = UNSET
    model_tpm_limit: Limits | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    tags: Names | UnsetType | None = UNSET
    allowed_routes: Names | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    user_id: Text = UNSET
    team_id: Text = UNSET
    organization_id: Text = UNSET


class GenerateKey(KeyFields, kw_only=True):
    """`POST /key/generate`."""

    key: str | None = None


class UpdateKey(KeyFields, kw_only=True):
    """`POST /key/update`. `key` is the key or its hash."""

    key: str
    cancel_in_flight: bool = False


class RegenerateKey(KeyFields, kw_only=True):
    """`POST /key/{key}/regenerate`."""

    key: str | None = None
    new_key: str | None = None
    grace_period: str | None = None
    cancel_in_flight: bool = False


class OneKey(msgspec.Struct, kw_only=True):
    """`POST /key/block` and `/key/unblock`."""

    key: str
    cancel_in_flight: bool = False


class DeleteKeys(msgspec.Struct, kw_only=True):
    """`POST /key/delete`."""

    keys: list[str] | None = None
    key_aliases: list[str] | None = None
    cancel_in_flight: bool = False


class BulkUpdate(msgspec.Struct, kw_only=True):
    """`POST /key/bulk_update`."""

    keys: list[dict[str, Any]]


class ResetSpend(msgspec.Struct, kw_only=True):
    """`POST /key/{key}/reset_spend`."""

    reset_to: Dollars


class KeyInfo(msgspec.Struct, kw_only=True):
    """`GET /key/info`."""

    key: str | None = None


class ListKeys(msgspec.Struct, kw_only=True):
    """`GET /key/list`."""

    page: Limit = 1
    size: Limit = 10
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    key_hash: str | None = None
    key_alias: str | None = None
    return_full_object: bool = False
    sort_by: str = "created_at"
    sort_order: str = "desc"
    status: str | None = None
    substring_matching: bool = False


class ListAliases(msgspec.Struct, kw_only=True):
    """`GET /key/aliases`."""

    page: Limit = 1
    size: Limit = 50
    search: str = ""


def dollars(nano: int | None) -> Decimal | None:
    """An amount for an answer: a JSON number with all its decimals."""
    return None if nano is None else Decimal(dollars_text(nano))


class Owner(msgspec.Struct, frozen=True):
    """Whose a key is, in the words of callers."""

    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None


def key_view(row: KeyRow, owner: Owner) -> dict[str, object]:
    """A key as the API shows it: everything but the key. `token` is the hex of its keyed digest."""
    reset = None
    if row.budget_seconds is not None:
        reset = row.spend_from + row.budget_seconds * MILLISECONDS
    token = row.digest.hex()
    return {
        "config": {},
        "permissions": {},
        "model_max_budget": {},
        "budget_id": None,
        **row.extra,
        "token": token,
        "token_id": token,
        "key_name": row.hint,
        "key_alias": row.alias,
        "spend": dollars(row.spend),
        "max_budget": dollars(row.max_budget),
        "soft_budget": dollars(row.soft_budget),
        "budget_duration": row.budget_duration,
        "budget_reset_at": iso(reset),
        "expires": iso(row.expires),
        "models": list(row.models),
        "aliases": dict(row.aliases),
        "rpm_limit": row.rpm_limit,
        "tpm_limit": row.tpm_limit,
        "max_parallel_requests": row.max_parallel,
        "model_rpm_limit": dict(row.model_rpm) or None,
        "model_tpm_limit": dict(row.model_tpm) or None,
        "metadata": dict(row.metadata),
        "tags": list(row.tags),
        "allowed_routes": list(row.allowed_routes),
        "blocked": row.blocked,
        "user_id": owner.user_id,
        "team_id": owner.team_id,
        "organization_id": owner.organization_id,
        "created_at": iso(row.created_at),
        "created_by": row.created_by,
        "updated_at": iso(row.updated_at),
        "updated_by": row.updated_by,
    }
