"""Native pass-through: a provider's own paths below its name, and the operator's own paths."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kit import CREDENTIAL, deployment, key, once, snapshot
from kit_client import CLIENT_KEY, RecordingInbound
from kit_provider import JSON, Play

from ostiary.core.price import FREE, Price, PriceState
from ostiary.core.snapshot import GIVEN_BY_OPERATOR, Deployment, PassThrough, PolicySnapshot
from ostiary.core.usage import Usage

CLAUDE = deployment(
    "my-claude", upstream_model="claude-sonnet-4-5", provider="anthropic", base_path="",
    dialects=("anthropic_messages",), pass_through=True,
)  # fmt: skip
ANY_GPT = deployment("openai/*", upstream_model="*", provider="openai", pass_through=True)
CLOSED = deployment("closed", upstream_model="secret-model", provider="anthropic", dialects=("anthropic_messages",))
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 8, "output_tokens": 4},
}  # fmt: skip
TURN = {"model": "claude-sonnet-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
FILES = ({"data": []}, "/anthropic/v1/files")


def opened(*deployments: Deployment, given: tuple[PassThrough, ...] = ()) -> PolicySnapshot:
    """A snapshot with the deployments that are open for pass-through below their provider's name."""
    native: dict[str, tuple[Deployment, ...]] = {}
    for each in deployments:
        if each.pass_through:
            native[each.provider] = (*native.get(each.provider, ()), each)
    found = snapshot(*deployments, native=native, pass_throughs=given)
    everything = {**found.deployments, **{each.deployment.id: each.deployment for each in given}}
    return snapshot(*deployments, native=native, pass_throughs=given, deployments=everything)


def whole(document: object, status: int = 200) -> Play:
    return Play(json.dumps(document).encode(), headers=(JSON,), status=status)


def asked(path: str, document: object = TURN, **fields: Any) -> RecordingInbound:
    return RecordingInbound(json.dumps(document).encode(), path=path, **fields)


def test_a_known_endpoint_below_a_providers_name_is_relayed_by_its_own_model_name() -> None:
    made, inbound = once(opened(CLAUDE), whole(MESSAGE), inbound=asked("/anthropic/v1/messages"))
    sent = made.upstream.sent[0]
    assert sent.head.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert (CREDENTIAL % CLAUDE.id).encode() in sent.head
    assert CLIENT_KEY.encode() not in sent.head
    assert json.loads(sent.body) == TURN
    assert json.loads(inbound.sent) == MESSAGE
    (record,) = made.settled
    assert (record.model, record.usage) == ("my-claude", Usage(input=8, output=4))
    assert record.cost


def test_a_wildcard_serves_the_providers_own_names() -> None:
    body = {"model": "gpt-9", "messages": [{"role": "user", "content": "Hi"}]}
    answer = {"id": "x", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    made, _ = once(opened(ANY_GPT), whole(answer), inbound=asked("/openai/v1/chat/completions", body))
    assert json.loads(made.upstream.sent[0].body)["model"] == "gpt-9"
    assert made.settled[0].model == "openai/gpt-9"


def test_a_provider_that_was_not_opened_has_no_paths() -> None:
    from ostiary.gateway.app import FrontDoor

    made, _ = once(opened(CLAUDE, CLOSED), whole(MESSAGE), inbound=asked("/anthropic/v1/messages"))
    assert isinstance(made.door, FrontDoor)
    assert made.door.route(b"POST", "/gemini/v1beta/models/x:generateContent") is None
    assert made.door.route(b"POST", "/anthropic") is None


@pytest.mark.parametrize("model", ["secret-model", "nobody", "my-claude"])
def test_only_models_of_opened_deployments_are_found_and_only_by_the_providers_name(model: str) -> None:
    made, inbound = once(opened(CLAUDE, CLOSED), inbound=asked("/anthropic/v1/messages", {**TURN, "model": model}))
    assert inbound.status == 404
    assert not made.upstream.sent


def test_a_key_finds_only_what_its_models_admit() -> None:
    caller = key(models=("something-else",))
    made, inbound = once(opened(CLAUDE), inbound=asked("/anthropic/v1/messages"), keys=(caller,))
    assert inbound.status == 404
    assert not made.upstream.sent


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (key(), 403),
        (key(allowed_routes=("llm_api_routes",)), 403),
        (key(allowed_routes=("/anthropic/v1/files",)), 200),
        (key(allowed_routes=("/anthropic/*",)), 200),
        (key(allowed_routes=("/anthropic/*",), max_budget=10**9), 400),
        (key(allowed_routes=("/anthropic/*",), models=("other",)), 403),
        (key(admin=True), 200),
    ],
)
def test_a_path_that_no_endpoint_has_is_open_only_to_keys_that_name_it(caller: Any, status: int) -> None:
    body, path = FILES
    inbound = asked(path, body, query=b"limit=5&key=sk-stolen&Key=x", method="GET")
    made, _ = once(opened(CLAUDE), whole({"data": []}), inbound=inbound, keys=(caller,))
    assert inbound.status == status
    assert bool(made.upstream.sent) is (status == 200)
    if status == 200:
        assert made.upstream.sent[0].head.startswith(b"GET /v1/files?limit=5 HTTP/1.1\r\n")
        assert made.settled[0].price is PriceState.UNKNOWN


def test_what_is_relayed_as_it_stands_keeps_every_byte_and_its_type() -> None:
    body = b'--x\r\nsomething: {"model": "m", "model": "n"}\r\n'
    inbound = RecordingInbound(body, path="/anthropic/v1/skills", headers=[])
    inbound.headers = [(name, b"multipart/form-data; boundary=x" if name == b"content-type" else value)
                       for name, value in inbound.headers]  # fmt: skip
    answer = Play(b"\x00\x01binary", headers=((b"content-type", b"application/zip"),))
    made, _ = once(opened(CLAUDE), answer, inbound=inbound, keys=(key(allowed_routes=("/anthropic/*",)),))
    assert made.upstream.sent[0].body == body
    assert b"content-type: multipart/form-data; boundary=x" in made.upstream.sent[0].head
    assert inbound.sent == b"\x00\x01binary"
    assert inbound.head["content-type"] == "application/zip"


# --- the operator's own paths ---

TARGET = deployment(
    "pass_through:/tools", "t", provider="pass_through", host="tools.test", base_path="/api/v2",
    mode=GIVEN_BY_OPERATOR, price=Price(request=5_000), price_state=PriceState.DECLARED,
    headers=(("x-fixed", "1"),),
)  # fmt: skip
TOOLS = PassThrough(path="/tools", deployment=TARGET, subpaths=True, methods=("POST",), query=(("v", "1"), ("w", "2")))


def test_a_path_of_the_operators_leads_to_his_target_and_costs_what_he_says() -> None:
    inbound = asked("/tools/search/deep", {"q": 1}, query=b"v=9")
    made, _ = once(opened(CLAUDE, given=(TOOLS,)), whole({"found": []}), inbound=inbound)
    sent = made.upstream.sent[0]
    assert sent.head.startswith(b"POST /api/v2/search/deep?w=2&v=9 HTTP/1.1\r\nhost: tools.test")
    assert b"x-fixed: 1\r\n" in sent.head
    assert CLIENT_KEY.encode() not in sent.head
    assert json.loads(inbound.sent) == {"found": []}
    assert made.settled[0].cost == 5_000


def test_a_path_of_the_operators_asks_for_a_key() -> None:
    made, inbound = once(opened(CLAUDE, given=(TOOLS,)), inbound=asked("/tools", {}, key=None))
    assert inbound.status == 401
    assert not made.upstream.sent


def test_without_subpaths_only_the_path_itself_is_open() -> None:
    from msgspec.structs import replace

    exact = replace(TOOLS, subpaths=False, deployment=replace(TARGET, price=FREE, price_state=PriceState.FREE))
    made, inbound = once(opened(CLAUDE, given=(exact,)), whole({}), inbound=asked("/tools", {}))
    assert inbound.status == 200
    assert made.door.route(b"POST", "/tools/x") is None


@pytest.mark.parametrize("rest", ["/search", "/a b", "/ä", "/x;y", "/%2e%2e/admin"])
def test_a_subpath_stays_below_the_target_whatever_it_is(rest: str) -> None:
    made, _ = once(opened(CLAUDE, given=(TOOLS,)), whole({}), inbound=asked(f"/tools{rest}", {}))
    target = made.upstream.sent[0].head.split(b" ")[1]
    assert target.startswith(b"/api/v2/")
    assert b"/../" not in target
    assert b" " not in target
