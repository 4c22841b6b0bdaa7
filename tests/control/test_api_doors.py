"""Who gets in, what a body may be, and what an answer gives away."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from gatehouse import ADMIN_KEY, Gatehouse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from ostiary.control.access.permissions import Permission
from ostiary.control.api.app import OPENAPI, create_api, require_permissions
from ostiary.control.api.body import LARGEST
from ostiary.control.api.routes import ROUTES, Route
from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey

CARRIERS = ("authorization", "x-api-key", "api-key", "x-litellm-api-key")
HOSTILE = {
    "sql": b"sk-' OR '1'='1' --",
    "sql without blanks": b"sk-'||(select/**/digest/**/from/**/virtual_keys)||'",
    "nul": b"sk-abc%00def-0123456789",
    "wildcard": b"sk-%%%%%%%%%%%%%%%%%%%%",
    "emoji": "sk-\U0001f600\U0001f600\U0001f600\U0001f600\U0001f600".encode(),
    "latin": "sk-ab\u00e9def-0123456789".encode("latin-1"),
    "list": b'["sk-a-key-of-a-list-01", "sk-a-key-of-a-list-02"]',
    "long": b"sk-" + b"a" * 20_000,
    "short": b"sk-1",
    "no prefix": b"a-key-without-its-prefix",
    "typo": b"sk-ost-local-vyUxfpyoDwIZ-knI30cPzM72epKg2KJbXab7uXlL6zLy0vuILzEsaiiU3u5uD5",
    "other scheme": b"Basic c2stYTpi",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
async def test_aig_02_nonsense_is_refused_before_any_query_whatever_carries_it(
    house: Gatehouse, hostile: bytes
) -> None:
    async with httpx2.AsyncClient(base_url=str(house.client.base_url), trust_env=False) as stranger:
        for carrier in CARRIERS:
            answer = await stranger.get("/key/info", headers=[(carrier.encode(), hostile)])
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, "auth_error"), carrier
    assert house.finder.asked == 0


async def test_aig_02_a_megabyte_of_key_is_refused_by_the_callers_too(house: Gatehouse) -> None:
    with pytest.raises(Fault) as refused:
        await house.callers.identify([(b"authorization", b"Bearer sk-" + b"a" * 2**20)])
    assert refused.value.kind is Kind.UNAUTHENTICATED
    with pytest.raises(Fault):
        await house.callers.identify([(b"x-api-key", b"sk-a\0b-0123456789abcdef")])
    assert house.finder.asked == 0


async def test_every_carrier_brings_the_key(house: Gatehouse) -> None:
    for carrier in CARRIERS:
        for scheme in ("", "Bearer ", "bearer  "):
            caller = await house.callers.identify([(carrier.encode(), f"{scheme}{ADMIN_KEY}".encode())])
            assert caller.id == "admin"


async def test_two_different_credentials_are_refused_and_two_equal_ones_are_one(house: Gatehouse) -> None:
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "x-api-key": "sk-another-key-0123456789"}
    answer = await house.client.get("/key/list", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "bad_request_error")
    assert (await house.client.get("/key/list", headers={**headers, "x-api-key": ADMIN_KEY})).status_code == 200
    with pytest.raises(Fault) as refused:
        await house.callers.identify([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")])
    assert refused.value.kind is Kind.INVALID_REQUEST


async def test_without_a_key_no_route_says_anything(house: Gatehouse) -> None:
    for route in ROUTES:
        answer = await house.client.request(route.method, route.path, headers={"authorization": ""}, content=b"{")
        assert answer.status_code == 401, route.path


async def test_a_virtual_key_reaches_its_own_information_only(house: Gatehouse) -> None:
    key = (await house.client.post("/key/generate", json={})).json()["key"]
    for route in (*ROUTES, Route("GET", "/openapi.json", Permission.API_READ, ROUTES[0].endpoint)):
        answer = await house.client.request(route.method, route.path, headers=house.as_key(key), content=b"{")
        own = route.path in {"/key/info", "/key/health"} or route.permission is Permission.MODEL_READ_SELF
        assert answer.status_code == (200 if own else 403), route.path
        assert own or "permission" in answer.json()["error"]["message"]


async def test_a_store_that_cannot_be_asked_is_503_and_not_401(house: Gatehouse) -> None:
    await house.store.database.close()
    async with house.store.database.write() as connection:
        await connection.exec_driver_sql("ALTER TABLE virtual_keys RENAME TO away")
    answer = await house.client.get("/key/info", headers=house.as_key("sk-some-key-0123456789"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "no_db_connection")
    assert answer.headers["retry-after"] == "1"
    assert (await house.client.get("/key/list")).status_code == 503


async def test_an_application_with_an_undeclared_route_does_not_start(house: Gatehouse) -> None:
    async def open_door(_request: Request) -> Response:
        return Response(b"hello")

    app = create_api(house.services, house.callers)
    require_permissions(app, [*ROUTES, OPENAPI])
    app.router.routes.append(Path("/open", open_door))
    with pytest.raises(ValueError, match="/open"):
        require_permissions(app, [*ROUTES, OPENAPI])
    with pytest.raises(ValueError, match="/bad"):
        create_api(
            house.services,
            house.callers,
            routes=[Route("GET", "/bad", "anyone", ROUTES[0].endpoint)],  # type: ignore[arg-type]
        )


async def test_every_route_has_its_permission_in_the_openapi_document(house: Gatehouse) -> None:
    document = (await house.client.get("/openapi.json")).json()
    for route in ROUTES:
        described = document["paths"][route.path][route.method.lower()]
        assert described["x-permission"] == route.permission
        if route.body is not None:
            assert route.body.__name__ in document["components"]["schemas"]
    generate = document["components"]["schemas"]["GenerateKey"]["properties"]
    assert {"models", "max_budget", "budget_duration", "rpm_limit", "key_alias"} <= set(generate)


BODIES: dict[str, tuple[bytes, int]] = {
    "truncated": (b'{"max_budget": 1', 400),
    "garbage": (b"\xff\xfe\x00", 400),
    "not utf-8": (b'{"key_alias": "\xe9"}', 400),
    "a list": (b"[]", 400),
    "a text": (b'"canary"', 400),
    "duplicate": (b'{"max_budget": 1, "max_budget": 1000}', 400),
    "duplicate below": (b'{"metadata": {"a": 1, "\\u0061": 2}}', 400),
    "nan": (b'{"max_budget": NaN}', 400),
    "infinity": (b'{"metadata": {"a": -Infinity}}', 400),
    "huge float": (b'{"metadata": {"a": 1e999}}', 400),
    "huge number": (b'{"metadata": {"a": ' + b"9" * 30 + b"}}", 400),
    "endless number": (b'{"metadata": {"a": ' + b"9" * 5000 + b"}}", 400),
    "deep": (b'{"metadata": ' + b"[" * 100 + b"]" * 100 + b"}", 400),
    "very deep": (b"[" * 500_000, 400),
    "lone surrogate": (b'{"key_alias": "\\ud800"}', 400),
    "nul": (b'{"key_alias": "a\\u0000b"}', 400),
    "trailing": (b"{} canary", 400),
    "too large": (b'{"metadata": {"a": "' + b"a" * LARGEST + b'"}}', 413),
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES.keys())
async def test_a_body_with_more_or_less_than_one_meaning_is_refused(house: Gatehouse, body: bytes, status: int) -> None:
    answer = await house.client.post("/key/generate", content=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "canary" not in answer.text
    assert house.told.changed == []
    assert house.errors == []


async def test_a_chunked_body_is_capped_as_it_comes(house: Gatehouse) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    assert (await house.client.post("/key/generate", content=endless())).status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {"content-encoding": "gzip"},
    ],
)
async def test_bodies_of_another_kind_are_415(house: Gatehouse, headers: dict[str, str]) -> None:
    answer = await house.client.post("/key/generate", content=b'{"a": "canary"}', headers=headers)
    assert (answer.status_code, "canary" in answer.text) == (415, False)


async def test_an_empty_body_is_an_empty_object(house: Gatehouse) -> None:
    assert (await house.client.post("/key/generate")).status_code == 200


async def test_unknown_paths_and_methods_answer_in_the_envelope(house: Gatehouse) -> None:
    for path in ("/", "/nothing", "/docs", "/redoc", "/key/generate/", "/key/info/../list%2f"):
        missing = await house.client.get(path)
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error"), path
    wrong = await house.client.get("/key/generate")
    assert (wrong.status_code, wrong.json()["error"]["code"], wrong.headers["allow"]) == (405, "405", "POST")


async def test_every_answer_is_kept_out_of_caches_and_says_nothing_of_the_server(house: Gatehouse) -> None:
    for answer in (
        await house.client.get("/key/list"),
        await house.client.get("/nothing"),
        await house.client.post("/key/generate", content=b"{"),
        await house.client.get("/key/list", headers={"authorization": "x"}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert "content-security-policy" in answer.headers


async def test_a_failure_of_ours_says_nothing_and_is_reported(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(digest: bytes) -> VirtualKey | None:
        raise RuntimeError("canary of the inside")

    monkeypatch.setattr(house.finder, "find", breaks)
    answer = await house.client.get("/key/info", headers=house.as_key("sk-some-key-0123456789"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal_server_error")
    assert "canary" not in answer.text
    assert [type(error) for error in house.errors] == [RuntimeError]


async def test_answers_are_json_that_any_reader_takes(house: Gatehouse) -> None:
    for path in ("/key/list", "/model/info", "/global/spend", "/openapi.json"):
        answer = await house.client.get(path)
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.content)
