"""The management API as a table: every route with the permission it asks for. It must not hold any rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from ostiary.control.access import keyfields as kf
from ostiary.control.access import modelfields as mf
from ostiary.control.access.keys import KeyService
from ostiary.control.access.models import ModelService
from ostiary.control.access.permissions import Caller, Permission
from ostiary.control.usage import queries as q
from ostiary.control.usage.activity import ActivityService
from ostiary.control.usage.cost import Calculate, CostService
from ostiary.control.usage.logs import SpendLogService
from ostiary.control.usage.spend import SpendService


class Services(msgspec.Struct, frozen=True):
    """What the routes call."""

    keys: KeyService
    models: ModelService
    logs: SpendLogService
    activity: ActivityService
    spend: SpendService
    costs: CostService


class Call(msgspec.Struct, frozen=True):
    """One request, read and allowed: its JSON body, its query and path parameters, and who sent it."""

    document: Mapping[str, Any]
    query: Mapping[str, object]
    path: Mapping[str, str]
    caller: Caller


class Route(msgspec.Struct, frozen=True):
    """One row of the table. `body` and `query` describe what the route reads."""

    method: str
    path: str
    permission: Permission
    endpoint: Callable[[Services, Call], Awaitable[object]]
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None


P = Permission

KEY_ROUTES = (
    Route("POST", "/key/generate", P.KEY_CREATE, lambda s, c: s.keys.generate(c.document, c.caller), kf.GenerateKey),
    Route(
        "POST", "/key/service-account/generate", P.KEY_CREATE,
        lambda s, c: s.keys.generate_for_service(c.document, c.caller), kf.GenerateKey,
    ),
    Route("GET", "/key/info", P.KEY_READ_SELF, lambda s, c: s.keys.info(c.query, c.caller), query=kf.KeyInfo),
    Route("GET", "/key/list", P.KEY_READ, lambda s, c: s.keys.list(c.query), query=kf.ListKeys),
    Route("GET", "/key/aliases", P.KEY_READ, lambda s, c: s.keys.aliases(c.query), query=kf.ListAliases),
    Route("GET", "/key/health", P.KEY_READ_SELF, lambda s, c: s.keys.health(c.caller)),
    Route("POST", "/key/update", P.KEY_UPDATE, lambda s, c: s.keys.update(c.document, c.caller), kf.UpdateKey),
    Route(
        "POST", "/key/bulk_update", P.KEY_UPDATE, lambda s, c: s.keys.bulk_update(c.document, c.caller), kf.BulkUpdate
    ),
    Route(
        "POST", "/key/{key}/reset_spend", P.KEY_UPDATE,
        lambda s, c: s.keys.reset_spend(c.document, c.caller, c.path["key"]), kf.ResetSpend,
    ),
    Route("POST", "/key/delete", P.KEY_DELETE, lambda s, c: s.keys.delete(c.document, c.caller), kf.DeleteKeys),
    Route(
        "POST", "/key/block", P.KEY_BLOCK, lambda s, c: s.keys.block(c.document, c.caller, blocked=True), kf.OneKey
    ),
    Route(
        "POST", "/key/unblock", P.KEY_BLOCK, lambda s, c: s.keys.block(c.document, c.caller, blocked=False), kf.OneKey
    ),
    Route(
        "POST", "/key/regenerate", P.KEY_ROTATE, lambda s, c: s.keys.regenerate(c.document, c.caller), kf.RegenerateKey
    ),
    Route(
        "POST", "/key/{key}/regenerate", P.KEY_ROTATE,
        lambda s, c: s.keys.regenerate(c.document, c.caller, c.path["key"]), kf.RegenerateKey,
    ),
)  # fmt: skip

MODEL_ROUTES = (
    Route("POST", "/model/new", P.MODEL_CREATE, lambda s, c: s.models.add(c.document, c.caller), mf.NewModel),
    Route("POST", "/model/update", P.MODEL_UPDATE, lambda s, c: s.models.update(c.document, c.caller), mf.ChangedModel),
    Route(
        "PATCH", "/model/{model_id}/update", P.MODEL_UPDATE,
        lambda s, c: s.models.update(c.document, c.caller, c.path["model_id"]), mf.ChangedModel,
    ),
    Route("POST", "/model/delete", P.MODEL_DELETE, lambda s, c: s.models.delete(c.document), mf.DeleteModel),
    *(
        Route(
            "GET", path, P.MODEL_READ_SELF, lambda s, c: s.models.shown.info(c.query, c.caller), query=mf.ModelInfo
        )
        for path in ("/model/info", "/v1/model/info")
    ),
    Route(
        "GET", "/v2/model/info", P.MODEL_READ_SELF, lambda s, c: s.models.shown.page(c.query, c.caller),
        query=mf.ModelPage,
    ),
    Route(
        "GET", "/model_group/info", P.MODEL_READ_SELF, lambda s, c: s.models.shown.groups(c.query, c.caller),
        query=mf.GroupInfo,
    ),
    Route(
        "GET", "/model/deprecations", P.MODEL_READ_SELF,
        lambda s, c: s.models.shown.deprecations(c.query, c.caller), query=mf.Deprecations,
    ),
)  # fmt: skip

LOG_ROUTES = (
    Route("GET", "/spend/logs", P.USAGE_READ, lambda s, c: s.logs.logs(c.query), query=q.SpendLogs),
    Route("GET", "/spend/logs/v2", P.USAGE_READ, lambda s, c: s.logs.page(c.query), query=q.SpendLogs),
    Route("GET", "/spend/logs/ui", P.USAGE_READ, lambda s, c: s.logs.page(c.query), query=q.SpendLogs),
    Route(
        "GET", "/user/daily/activity", P.USAGE_READ, lambda s, c: s.activity.daily(c.query), query=q.Activity
    ),
    Route(
        "GET", "/user/daily/activity/aggregated", P.USAGE_READ,
        lambda s, c: s.activity.aggregated(c.query), query=q.Activity,
    ),
    Route(
        "GET", "/team/daily/activity", P.USAGE_READ, lambda s, c: s.activity.by_team(c.query), query=q.TeamActivity
    ),
    Route("GET", "/tag/daily/activity", P.USAGE_READ, lambda s, c: s.activity.by_tag(c.query), query=q.TagActivity),
    Route("POST", "/spend/calculate", P.USAGE_READ, lambda s, c: s.costs.calculate(c.document), Calculate),
    Route("POST", "/global/spend/reset", P.SPEND_RESET, lambda s, c: s.keys.reset_all_spend(c.caller)),
)  # fmt: skip

SPEND_ROUTES = tuple(
    Route("GET", path, P.USAGE_READ, endpoint, query=q.Spend)
    for path, endpoint in (
        ("/global/spend", lambda s, _: s.spend.total()),
        ("/global/spend/logs", lambda s, c: s.spend.days(c.query)),
        ("/global/spend/keys", lambda s, c: s.spend.keys(c.query)),
        ("/global/spend/models", lambda s, c: s.spend.by(c.query, "model", "model")),
        ("/global/spend/provider", lambda s, c: s.spend.by(c.query, "provider", "provider")),
        ("/global/spend/teams", lambda s, c: s.spend.by(c.query, "team_id", "team_id")),
        ("/global/spend/end_users", lambda s, c: s.spend.end_users(c.query)),
        ("/global/spend/tags", lambda s, c: s.spend.tags(c.query)),
        ("/global/spend/all_tag_names", lambda s, _: s.spend.tag_names()),
        ("/global/spend/report", lambda s, c: s.spend.report(c.query)),
        ("/global/activity", lambda s, c: s.spend.activity(c.query)),
        ("/global/activity/model", lambda s, c: s.spend.model_activity(c.query)),
        ("/spend/keys", lambda s, c: s.spend.keys(c.query)),
        ("/spend/users", lambda s, c: s.spend.by(c.query, "user_id", "user_id")),
        ("/spend/tags", lambda s, c: s.spend.tags(c.query)),
    )
)

ROUTES: tuple[Route, ...] = (*KEY_ROUTES, *MODEL_ROUTES, *LOG_ROUTES, *SPEND_ROUTES)
