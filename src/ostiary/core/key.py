"""A virtual key as the data plane knows it: rights and limits, no secret. It must not hold the key's text."""

from __future__ import annotations

import msgspec

from ostiary.core.money import Nano

ADMIN_KEY_ID = "admin"


class VirtualKey(msgspec.Struct, frozen=True):
    """Rights and limits of one key. `None` means no such limit. Times are Unix seconds.

    `models` empty means every model; entries are public names, wildcards (`openai/*`), access groups, or the special
    names `all-proxy-models` and `no-default-models`. `organization_id`, `team_id` and `user_id` are ids of the store,
    not the names that callers use; every stored key has an organisation. `spend` and `spend_from` are the store's view
    when the row was read: nanodollars spent since `spend_from`, the start of the running budget window.
    """

    id: str
    digest: bytes  # keyed digest of the key's text; the look-up value
    alias: str = ""
    models: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    max_budget: Nano | None = None
    budget_seconds: int | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel: int | None = None
    model_rpm: tuple[tuple[str, int], ...] = ()
    model_tpm: tuple[tuple[str, int], ...] = ()
    expires: float | None = None
    blocked: bool = False
    team_id: str = ""
    user_id: str = ""
    organization_id: str = ""
    allowed_routes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    drop_params: bool | None = None  # may knobs be left out that a provider has no word for; None: as the deployment
    store_responses: bool | None = None  # False: its responses are not kept, whatever is allowed otherwise
    spend: Nano = 0
    spend_from: float = 0.0
    admin: bool = False
    revision: int = 0
    retired_until: float | None = None  # this digest is of an earlier text, in its grace period until then
