"""The management API as an ASGI application. It must not answer a route whose permission nobody declared.

Requests are read by msgspec structs named in the table of routes, and so is their description: Starlette's router is
all that is needed of a framework.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from ostiary import __version__
from ostiary.control.access.permissions import Caller, Permission
from ostiary.control.api.answers import JsonAnswer, SafeHeaders, broken, refused, refused_by_status
from ostiary.control.api.body import json_object
from ostiary.control.api.callers import Callers
from ostiary.control.api.routes import ROUTES, Call, Route, Services
from ostiary.core.fault import Fault, Kind, Origin

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
PERMISSION = "x-permission"
SPECIFICATION = "3.1.0"
_SCHEMAS = "#/components/schemas/{name}"


def create_api(
    services: Services,
    callers: Callers,
    *,
    report: Callable[[Exception], None] = lambda _error: None,
    routes: Sequence[Route] = ROUTES,
) -> Starlette:
    """The application.

    Args:
        services: what the routes call.
        callers: who may call.
        report: told of every failure that is nobody's fault but ours; the caller learns nothing of it.
        routes: the table; every one of its rows declares a permission.

    Raises:
        ValueError: when a route is reachable without a declared permission.
    """
    table = [*routes, _openapi_route(routes)]
    paths = [
        Path(
            route.path,
            _answering(services, callers, route, report),
            methods=[route.method],
            name=f"{route.method} {route.path}",
        )
        for route in table
    ]
    app = Starlette(
        routes=paths, exception_handlers={HTTPException: _by_framework}, middleware=[Middleware(SafeHeaders)]
    )
    app.router.redirect_slashes = False
    require_permissions(app, table)
    return app


def require_permissions(app: Starlette, table: Sequence[Route]) -> None:
    """Refuse an application with a route that declares no permission of the closed list.

    Raises:
        ValueError: naming the route.
    """
    declared = {f"{route.method} {route.path}" for route in table if route.permission in list(Permission)}
    for route in app.routes:
        if getattr(route, "name", "") not in declared:
            raise ValueError(f"the route {getattr(route, 'path', route)} declares no permission")


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


OPENAPI = Route("GET", "/openapi.json", Permission.API_READ, _nothing)


def _openapi_route(routes: Sequence[Route]) -> Route:
    async def document(_services: Services, _call: Call) -> object:
        return openapi_document(routes)

    return msgspec.structs.replace(OPENAPI, endpoint=document)


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document: paths from the table, shapes from the structs that read the requests."""
    paths: dict[str, dict[str, Any]] = {}
    for route in (*routes, OPENAPI):
        paths.setdefault(route.path, {})[route.method.lower()] = _described(route)
    _, schemas = msgspec.json.schema_components(
        [route.body for route in routes if route.body is not None], ref_template=_SCHEMAS
    )
    return {
        "openapi": SPECIFICATION,
        "info": {"title": "Ostiary", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _described(route: Route) -> dict[str, Any]:
    """One operation: its permission, its body, its query and path parameters."""
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub('[^a-z0-9]+', '_', route.path)}",
        PERMISSION: str(route.permission),
        "responses": {"200": {"description": "The answer."}, "default": {"description": "An error envelope."}},
    }
    if route.body is not None:
        schema = {"$ref": _SCHEMAS.format(name=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{([a-z_]+)(?::path)?}", route.path)
    ]
    if route.query is not None:
        (_,), shapes = msgspec.json.schema_components([route.query])
        shape = shapes[route.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": name in shape.get("required", ()), "schema": schema}
            for name, schema in shape["properties"].items()
        ]
    if parameters:
        operation["parameters"] = parameters
    return operation
