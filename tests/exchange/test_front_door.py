"""Paths and what they mean, and the answers that need no provider."""

from __future__ import annotations

import json

import pytest
from kit import Room, ask, deployment, key, once, room, run, snapshot
from kit_client import RecordingInbound
from kit_provider import reply

from ostiary.core.fault import Kind
from ostiary.core.snapshot import EMPTY
from ostiary.gateway.ports import WrongMethod

POLICY = snapshot(
    deployment("gpt"), deployment("secret"), deployment("w/*"),
    aliases={"nick": "gpt"}, key_header="x-own-key",
)  # fmt: skip


def found(method: bytes, path: str) -> tuple[str, str, str] | None:
    async def go() -> tuple[str, str, str] | None:
        with room(EMPTY) as made:
            route = made.door.route(method, path)
            return None if route is None else (route.endpoint.name, route.model, route.item)

    return run(go())


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        (b"POST", "/v1/chat/completions", ("chat.completions", "", "")),
        (b"POST", "/chat/completions", ("chat.completions", "", "")),
        (b"POST", "/openai/deployments/my/model/chat/completions", ("chat.completions", "my/model", "")),
        (b"POST", "/openai/deployments/chat/completions", ("completions", "chat", "")),
        (b"POST", "/engines/gpt/embeddings", ("embeddings", "gpt", "")),
        (b"POST", "/v1/engines/gpt/completions", ("completions", "gpt", "")),
        (b"GET", "/v1/models", ("models.list", "", "")),
        (b"GET", "/models/w/x", ("models.get", "", "w/x")),
        (b"GET", "/v1/files/f", ("files.get", "", "f")),
        (b"GET", "/v1/files/f/content", ("files.content", "", "f")),
        (b"DELETE", "/files/f", ("files.delete", "", "f")),
        (b"POST", "/v1/batches/b/cancel", ("batches.cancel", "", "b")),
        (b"GET", "/v1/files/a/b", None),
        (b"GET", "/v1/files/", None),
        (b"POST", "/v2/chat/completions", None),
        (b"POST", "/v1/chat/completions/", None),
        (b"POST", "/V1/chat/completions", None),
        (b"GET", "/key/info", None),
    ],
)
def test_a_path_means_one_endpoint_or_belongs_to_others(
    method: bytes, path: str, route: tuple[str, str, str] | None
) -> None:
    assert found(method, path) == route


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        (b"GET", "/v1/chat/completions", b"POST"),
        (b"GET", "/engines/gpt/completions", b"POST"),
        (b"PATCH", "/v1/files/f", b"DELETE, GET"),
        (b"POST", "/v1/models", b"GET"),
    ],
)
def test_the_wrong_method_is_told_and_the_right_ones(method: bytes, path: str, allowed: bytes) -> None:
    with pytest.raises(WrongMethod) as fault:
        found(method, path)
    assert fault.value.allow == b"allow: %b\r\n" % allowed
    assert (fault.value.kind, fault.value.status) == (Kind.METHOD_NOT_ALLOWED, 405)


def asked(path: str, **inbound: object) -> tuple[Room, RecordingInbound]:
    keys = [key(models=("gpt", "w/one"))]
    return once(POLICY, inbound=RecordingInbound(method="GET", path=path, **inbound), keys=keys)  # type: ignore[arg-type]


def test_models_are_those_the_key_may_use() -> None:
    made, inbound = asked("/v1/models")
    listing = json.loads(inbound.sent)
    assert (inbound.status, listing["object"]) == (200, "list")
    assert [row["id"] for row in listing["data"]] == ["gpt", "nick", "w/one"]
    assert made.settled == []


@pytest.mark.parametrize(
    ("name", "status"), [("gpt", 200), ("nick", 200), ("w/one", 200), ("w/two", 404), ("secret", 404), ("none", 404)]
)
def test_a_model_of_others_and_one_that_does_not_exist_are_one_answer(name: str, status: int) -> None:
    _, inbound = asked(f"/v1/models/{name}")
    assert inbound.status == status
    if status == 200:
        assert json.loads(inbound.sent)["id"] == name
    else:
        assert inbound.error["message"] == "there is no such model"


def test_without_a_key_nothing_is_listed() -> None:
    made, inbound = asked("/v1/models", key=None)
    assert (inbound.status, [fault.kind for fault in made.refused]) == (401, [Kind.UNAUTHENTICATED])


def test_a_header_of_the_operators_choice_may_carry_the_key() -> None:
    inbound = RecordingInbound(ask(), key=None, headers=[(b"x-own-key", b"sk-the-client-key")])
    assert once(POLICY, reply(), inbound=inbound)[1].status == 200


def test_the_model_of_the_path_is_the_bodys_or_its_only_one() -> None:
    path = "/openai/deployments/gpt/chat/completions"
    made, inbound = once(POLICY, reply(), inbound=RecordingInbound(b'{"messages":[]}', path=path))
    assert (inbound.status, made.record.model) == (200, "gpt")
    assert once(POLICY, inbound=RecordingInbound(ask("secret"), path=path))[1].status == 400


def test_a_moderation_needs_no_model() -> None:
    policy = snapshot(deployment("omni-moderation-latest"))
    inbound = RecordingInbound(b'{"input":"x"}', path="/v1/moderations")
    made, inbound = once(policy, reply(None), inbound=inbound)
    assert (inbound.status, made.record.model) == (200, "omni-moderation-latest")


def test_what_the_process_says_about_itself_is_local_and_may_be_refused() -> None:
    async def go() -> None:
        with room(POLICY) as made:

            async def figures(inbound: RecordingInbound) -> tuple[int, bytes, bytes]:
                await made.door.administrator(inbound)
                return 200, b"content-type: text/plain\r\n", b"well"

            made.door.add_local("/metrics", figures)  # type: ignore[arg-type]
            for text, status in (("sk-admin", 200), ("sk-the-client-key", 403), ("sk-none", 401)):
                inbound = await made.serve(RecordingInbound(method="GET", path="/metrics", key=text))
                assert inbound.status == status
            with pytest.raises(WrongMethod):
                made.door.route(b"POST", "/metrics")
            gone = RecordingInbound(method="GET", path="/metrics", key="sk-admin")
            gone.gone = True
            assert (await made.serve(gone)).log == []

    run(go())
