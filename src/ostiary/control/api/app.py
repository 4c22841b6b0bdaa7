"""The management API as an ASGI application. It must not answer a route whose permission nobody declared.

Importing this module loads FastAPI, which is slow: it is imported where the application is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ostiary.control.access.permissions import Caller, Permission
from ostiary.control.api.answers import JsonAnswer, SafeHeaders, broken, refused, refused_by_status
from ostiary.control.api.body import json_object
from ostiary.control.api.callers import Callers
from ostiary.control.api.routes import ROUTES, Call, Route, Services
from ostiary.core.fault import Fault, Kind, Origin

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
PERMISSION = "x-permission"
_SCHEMAS = "#/components/schemas/{name}"


def create_api(
    services: Services,
    callers: Callers,
    *,
    report: Callable[[Exception], None] = lambda _error: None,
    routes: Sequence[Route] = ROUTES,
) -> FastAPI:
    """The application.

    Args:
        services: what the routes call.
        callers: who may call.
        report: told of every failure that is nobody's fault but ours; the caller learns nothing of it.
        routes: the table; every one of its rows declares a permission.

    Raises:
        ValueError: when a route is reachable without a declared permission.
    """
    app = FastAPI(title="Ostiary", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for route in routes:
        _add(app, route, _answering(services, callers, route, report))
    _add(app, _OPENAPI, _answering(services, callers, _openapi_route(app, routes), report))
    app.add_exception_handler(HTTPException, _by_framework)
    app.add_middleware(SafeHeaders)
    require_permissions(app)
    return app


def require_permissions(app: FastAPI) -> None:
    """Refuse an application with a route that declares no permission of the closed list.

    Raises:
        ValueError: naming the route.
    """
    for route in app.routes:
        extra = route.openapi_extra if isinstance(route, APIRoute) else None
        if (extra or {}).get(PERMISSION) not in list(Permission):
            raise ValueError(f"the route {getattr(route, 'path', route)} declares no permission")


def _add(app: FastAPI, route: Route, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
    app.add_api_route(
        route.path,
        endpoint,
        methods=[route.method],
        response_model=None,
        name=f"{route.method} {route.path}",
        openapi_extra=_described(route),
    )


def _answering(
    services: Services, callers: Callers, route: Route, report: Callable[[Exception], None]
) -> Callable[[Request], Awaitable[Response]]:
    """Identify, allow, read, call, answer: in this order for every route."""

    async def endpoint(request: Request) -> Response:
        try:
            caller = await callers.identify(request.headers.raw)
            _require(caller, route.permission)
            document = await json_object(request) if route.method in WITH_BODY else {}
            call = Call(document, dict(request.query_params), request.path_params, caller)
            return JsonAnswer(await route.endpoint(services, call))
        except Fault as fault:
            if fault.origin is Origin.GATEWAY:
                report(fault)
            return refused(fault)
        except Exception as error:  # noqa: BLE001 - the last resort: the caller gets an envelope, the log the error
            report(error)
            return refused(broken())

    return endpoint


def _require(caller: Caller, permission: Permission) -> None:
    if not caller.may(permission):
        public = f"this key may not do this: it needs the permission {permission}"
        raise Fault(Kind.ROUTE_DENIED, public, origin=Origin.POLICY)


async def _by_framework(_request: Request, error: Exception) -> Response:
    """What Starlette refuses on its own: unknown paths and wrong methods."""
    answer = refused_by_status(error.status_code if isinstance(error, HTTPException) else 500)
    for name, value in (getattr(error, "headers", None) or {}).items():
        answer.headers[name] = value
    return answer


async def _nothing(_services: Services, _call: Call) -> object:
    return None


_OPENAPI = Route("GET", "/openapi.json", Permission.API_READ, _nothing)


def _openapi_route(app: FastAPI, routes: Sequence[Route]) -> Route:
    async def document(_services: Services, _call: Call) -> object:
        return openapi_document(app, routes)

    return msgspec.structs.replace(_OPENAPI, endpoint=document)


def openapi_document(app: FastAPI, routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document: paths from the application, shapes from the structs that read the requests."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    bodies = [route.body for route in routes if route.body is not None]
    _, schemas = msgspec.json.schema_components(bodies, ref_template=_SCHEMAS)
    document.setdefault("components", {})["schemas"] = schemas
    return document


def _described(route: Route) -> dict[str, Any]:
    """What FastAPI cannot see of a route: its permission, its body, its query."""
    extra: dict[str, Any] = {PERMISSION: str(route.permission)}
    if route.body is not None:
        schema = {"$ref": _SCHEMAS.format(name=route.body.__name__)}
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if route.query is not None:
        (_,), shapes = msgspec.json.schema_components([route.query])
        shape = shapes[route.query.__name__]
        extra["parameters"] = [
            {"name": name, "in": "query", "required": name in shape.get("required", ()), "schema": schema}
            for name, schema in shape["properties"].items()
        ]
    return extra
