"""Rows as the control plane sees them, and the small conversions every repository shares. It must not do any I/O."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano

BIGGEST = 10**15  # a count, a time or a cost above this is a lie, and thousands of them still sum up in 64 bits
MILLISECONDS = 1000
SECONDS_PER_DAY = 86_400


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """Everything stored about a virtual key. Times are Unix milliseconds, None where there is none.

    `organization_id`, `team_id` and `user_id` are ids of the store, as `store.directory` gives them; a key always has
    an organisation. `spend` belongs to the budget window that began at `spend_from`; both are read, never written, with
    the row. `extra` holds the fields of the compatible surface that have no meaning here yet, as they were given.
    """

    id: str
    digest: bytes
    hint: str
    alias: str | None = None
    models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    max_budget: Nano | None = None
    soft_budget: Nano | None = None
    budget_duration: str | None = None
    budget_seconds: int | None = None
    budget_from: int = 0
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel: int | None = None
    model_rpm: Mapping[str, int] = {}
    model_tpm: Mapping[str, int] = {}
    expires: int | None = None
    blocked: bool = False
    user_id: str = ""
    team_id: str = ""
    organization_id: str = ""
    budget_id: str = ""
    allowed_routes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, object] = {}
    extra: Mapping[str, object] = {}
    created_at: int = 0
    created_by: str = ""
    updated_at: int = 0
    updated_by: str = ""
    deleted_at: int | None = None
    revision: int = 1
    spend: Nano = 0
    spend_from: int = 0

    def virtual_key(self) -> VirtualKey:
        """The key as the data plane knows it."""
        return VirtualKey(
            id=self.id,
            digest=self.digest,
            alias=self.alias or "",
            models=self.models,
            aliases=tuple(self.aliases.items()),
            max_budget=self.max_budget,
            budget_seconds=self.budget_seconds,
            rpm_limit=self.rpm_limit,
            tpm_limit=self.tpm_limit,
            max_parallel=self.max_parallel,
            model_rpm=tuple(self.model_rpm.items()),
            model_tpm=tuple(self.model_tpm.items()),
            expires=None if self.expires is None else self.expires / MILLISECONDS,
            blocked=self.blocked,
            team_id=self.team_id,
            user_id=self.user_id,
            organization_id=self.organization_id,
            allowed_routes=self.allowed_routes,
            tags=self.tags,
            drop_params=_flag(self.metadata.get("drop_params")),
            store_responses=_flag(self.metadata.get("store_responses")),
            spend=self.spend,
            spend_from=self.spend_from / MILLISECONDS,
            revision=self.revision,
        )


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment of `/model/new`. Credentials in `litellm_params` are `Secret`; they open only with `origin`.

    `id` is the one that callers know.
    """

    id: str
    model_name: str
    origin: str
    litellm_params: Mapping[str, object]
    model_info: Mapping[str, object]
    created_at: int
    created_by: str
    updated_at: int
    updated_by: str
    revision: int = 1

    def __repr__(self) -> str:
        return f"ModelRow({self.id!r}, {self.model_name!r})"


class CredentialRow(msgspec.Struct, frozen=True, kw_only=True):
    """Named credentials of an organisation, or of the instance ("-"). `values` holds `Secret`s, for `origin` only."""

    name: str
    provider: str
    origin: str
    values: Mapping[str, object]
    organization_id: str = "-"
    description: str = ""
    created_at: int = 0
    updated_at: int = 0
    revision: int = 1

    def __repr__(self) -> str:
        return f"CredentialRow({self.name!r}, {self.provider!r})"


def window_start(anchor: int, seconds: int | None, at: int) -> int:
    """The start of the budget window that `at` falls into, all in Unix milliseconds.

    Without a duration there is one window for ever. What comes before the anchor counts into the first window.
    """
    if seconds is None or at <= anchor:
        return anchor
    length = seconds * MILLISECONDS
    return anchor + (at - anchor) // length * length


def storable(text: str, longest: int) -> str:
    """Text that every engine takes: no lone surrogates, no NUL, at most `longest` characters."""
    return text[:longest].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def bounded(number: int) -> int:
    """A number that every engine takes: what is larger was never true."""
    return max(0, min(number, BIGGEST))
