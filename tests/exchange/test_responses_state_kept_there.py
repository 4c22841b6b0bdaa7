"""Responses that a provider keeps: known to their owner by names of ours, asked for where they were made."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import CREDENTIAL, Room, deployment, key
from kit_client import RecordingInbound
from kit_provider import JSON, Play, refusal
from kit_responses import (
    CHAT,
    KEYS,
    NATIVE,
    OTHER,
    Shelf,
    about,
    asking,
    document,
    events,
    native,
    policy,
    response,
    told,
    within,
)

from ostiary.core.fault import Fault, Kind
from ostiary.core.secret import Secret
from ostiary.core.snapshot import UrlStyle
from ostiary.gateway.objects import Objects

ON, OFF = policy(), policy(keep=None)
STREAM = events(
    {"type": "response.created", "sequence_number": 0, "response": response(status="in_progress", output=[])},
    {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
     "delta": 'he said "response": {"id":"resp_upstream1"} ', "sequence_number": 1},
    {"type": "response.completed", "sequence_number": 2, "response": response()},
)  # fmt: skip
EVENTS = (b"content-type", b"text/event-stream")


def body(made: Room, number: int) -> dict[str, Any]:
    return dict(json.loads(made.upstream.sent[number].body))


async def asked(made: Room, **fields: Any) -> dict[str, Any]:
    return document(await made.serve(asking(model="gpt", **fields)))


def test_a_providers_response_has_a_name_of_ours_and_is_gone_on_from_where_it_was_made() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await asked(made)
        assert first["id"].startswith("resp_ost-")
        assert "upstream1" not in first["id"]
        assert "store" not in body(made, 0), "as the caller said it"
        second = await asked(made, previous_response_id=first["id"])
        assert body(made, 1)["previous_response_id"] == "resp_upstream1"
        assert second["previous_response_id"] == first["id"]
        assert second["id"] != first["id"]
        assert not shelf.rows

    within(work, native(), native(id_="resp_upstream2", previous_response_id="resp_upstream1"), policy=ON)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_names_it_so_too_and_is_otherwise_as_it_came(size: int) -> None:
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]

    async def work(made: Room, shelf: Shelf) -> None:
        seen = told((await made.serve(asking(model="gpt", stream=True))).sent)
        sent = told(STREAM)
        names = {one["response"]["id"] for one in seen if "response" in one}
        assert len(names) == 1
        assert seen[1] == sent[1]
        assert [one["type"] for one in seen] == [one["type"] for one in sent]
        assert seen[2]["response"]["output"] == sent[2]["response"]["output"]
        await made.serve(about(names.pop()))
        assert made.upstream.sent[1].line == b"GET /v1/responses/resp_upstream1 HTTP/1.1"

    within(work, Play(*pieces, headers=[EVENTS]), native(), policy=ON)


def test_everything_about_it_is_asked_for_where_it_was_made() -> None:
    listed = Play(json.dumps({"object": "list", "data": [], "has_more": False}).encode(), headers=[JSON])
    gone = Play(b'{"id":"resp_upstream1","object":"response","deleted":true}', headers=[JSON])

    async def work(made: Room, shelf: Shelf) -> None:
        name = (await asked(made))["id"]
        shown = document(await made.serve(about(name, query=b"include=x&api-key=1&stream=false")))
        assert shown["id"] == name
        assert shown["previous_response_id"].startswith("resp_ost-")
        items = await made.serve(about(name, "/input_items", query=b"limit=5&after=msg_1&order=asc&x=y"))
        assert document(items)["data"] == []
        assert document(await made.serve(about(name, "/cancel", method="POST")))["id"] == name
        assert document(await made.serve(about(name, method="DELETE")))["id"] == name
        assert [sent.line for sent in made.upstream.sent][1:] == [
            b"GET /v1/responses/resp_upstream1?include=x HTTP/1.1",
            b"GET /v1/responses/resp_upstream1/input_items?limit=5&after=msg_1&order=asc HTTP/1.1",
            b"POST /v1/responses/resp_upstream1/cancel HTTP/1.1",
            b"DELETE /v1/responses/resp_upstream1 HTTP/1.1",
        ]
        assert all(CREDENTIAL.encode() % b"d-gpt" in sent.head for sent in made.upstream.sent)
        assert [record.cost for record in made.settled[1:]] == [0] * 4

    within(work, native(), native(previous_response_id="resp_upstream0"), listed, native(), gone, policy=ON)


def test_on_azure_it_stands_below_the_newer_interface() -> None:
    azure = deployment(
        "gpt", base_path="", url_style=UrlStyle.AZURE, api_version="2025-02-01-preview",
        dialects=("openai_chat", "openai_responses"),
    )  # fmt: skip

    async def work(made: Room, shelf: Shelf) -> None:
        name = (await asked(made))["id"]
        await made.serve(about(name, "/input_items", query=b"limit=5"))
        assert made.upstream.sent[1].line == b"GET /openai/v1/responses/resp_upstream1/input_items?limit=5 HTTP/1.1"

    within(work, native(), native(), policy=policy(azure))


def test_iso_another_owners_a_forged_and_an_unknown_name_are_one_answer() -> None:
    keys = [*KEYS, key("sk-user-a", "k3", organization_id="org-a", user_id="u"),
            key("sk-user-b", "k4", organization_id="org-b", user_id="u")]  # fmt: skip

    async def work(made: Room, shelf: Shelf) -> None:
        name = (await asked(made))["id"]
        users = document(await made.serve(asking(model="gpt", who="sk-user-a")))["id"]
        foreign = [(name, OTHER), (name, "sk-admin"), (users, "sk-user-b"), (users, OTHER)]
        forged = [name[:-1], name[:30], name + "A", name.replace("resp_", "file-"), "resp_upstream1", "resp_ost-", "x"]
        own = made.plane.objects.name(NATIVE, KEYS[0], "resp_upstream1", judged=True)
        everybody = [*foreign, *((text, "sk-the-client-key") for text in (*forged, own, own.replace("file-", "resp_")))]
        shown, on = [], []
        for text, who in everybody:
            for tail, method in (("", "GET"), ("/input_items", "GET"), ("/cancel", "POST"), ("", "DELETE")):
                shown.append(await made.serve(about(text, tail, who=who, method=method)))
            on.append(await made.serve(asking(model="gpt", who=who, previous_response_id=text)))
        assert {(one.status, one.sent) for one in shown} == {(404, shown[0].sent)}
        assert {(one.status, one.sent) for one in on} == {(400, on[0].sent)}
        files = RecordingInbound(method="GET", path=f"/v1/files/{name.replace('resp_', 'file-')}")
        assert (await made.serve(files)).status == 404, "no name of one kind is one of the other"
        assert len(made.upstream.sent) == 2, "nobody was asked"

    within(work, native(), native(), policy=ON, keys=keys)


def test_who_lost_the_model_lost_what_it_made() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        name = (await asked(made))["id"]
        made.plane.keys.put(key(organization_id="org-a", revision=1, models=("chat",)))
        assert (await made.serve(about(name))).status == 404
        made.plane.keys.put(key(organization_id="org-a", revision=2))
        made.plane.swap(policy(CHAT))
        assert (await made.serve(about(name))).status == 404

    within(work, native(), policy=ON)


def test_it_is_gone_on_from_with_another_model_of_the_same_account_and_no_other() -> None:
    same = {"host": "d-gpt.test", "credential": NATIVE.credential, "dialects": NATIVE.dialects}
    mini = deployment("mini", **same)
    stranger = deployment("stranger", dialects=NATIVE.dialects)
    other_key = deployment("other-key", **same | {"credential": Secret("another")})
    rules = policy(CHAT, NATIVE, mini, stranger, other_key, routing={"default_fallbacks": ("stranger",)})

    async def work(made: Room, shelf: Shelf) -> None:
        name = (await asked(made))["id"]
        assert (await made.serve(asking(model="mini", previous_response_id=name))).status == 200
        for model in ("stranger", "other-key", "chat"):
            inbound = await made.serve(asking(model=model, previous_response_id=name))
            assert (inbound.status, inbound.error["param"]) == (400, "previous_response_id")
        assert len(made.upstream.sent) == 2

    within(work, native(), native(), policy=rules)


def test_a_failure_there_does_not_lead_elsewhere() -> None:
    rules = policy(
        NATIVE, deployment("spare", dialects=NATIVE.dialects),
        routing={"default_fallbacks": ("spare",), "num_retries": 0},
    )  # fmt: skip

    async def work(made: Room, shelf: Shelf) -> None:
        name = (await asked(made))["id"]
        assert (await made.serve(asking(model="gpt", previous_response_id=name))).status == 500
        assert [sent.origin.host for sent in made.upstream.sent] == ["d-gpt.test"] * 2

    within(work, native(), refusal(500), native(), policy=rules)


def test_a_providers_words_about_it_name_it_as_the_caller_does() -> None:
    no = refusal(400, message="Previous response with id 'resp_upstream1' not found.")

    async def work(made: Room, shelf: Shelf) -> None:
        name = (await asked(made))["id"]
        inbound = await made.serve(asking(model="gpt", previous_response_id=name))
        assert inbound.error["message"] == f"Previous response with id '{name}' not found."
        assert (await made.serve(about(name))).status == 404
        assert (await made.serve(about(name))).status == 404
        assert made.plane.health.available(NATIVE, made.clock.monotonic()), "what it has not says nothing of its health"

    within(work, native(), no, refusal(404), refusal(404), policy=ON)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{}, {"store": True}, {"store": None}])
def test_by_default_the_provider_is_told_to_keep_nothing(fields: dict[str, Any], stream: bool) -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        inbound = await made.serve(asking(model="gpt", stream=stream, **fields))
        assert body(made, 0)["store"] is False
        plain = STREAM if stream else json.dumps(response()).encode()
        assert inbound.sent == plain, "the answer is the provider's, byte for byte"

    within(work, Play(STREAM, headers=[EVENTS]) if stream else native(), policy=OFF)


def test_what_the_caller_does_not_want_kept_has_no_name() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        assert (await asked(made, store=False))["id"] == "resp_upstream1"
        assert body(made, 0)["store"] is False
        assert (await made.serve(about("resp_upstream1"))).status == 404

    within(work, native(), policy=ON)


def test_work_in_the_background_needs_that_something_may_be_kept() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        inbound = await made.serve(asking(model="gpt", background=True))
        assert (inbound.status, inbound.error["param"]) == (400, "background")
        assert not made.upstream.sent

    within(work, policy=OFF)

    async def allowed(made: Room, shelf: Shelf) -> None:
        queued = await asked(made, background=True)
        assert queued["status"] == "queued"
        assert document(await made.serve(about(queued["id"])))["status"] == "completed"

    within(allowed, native(status="queued", output=[], usage=None), native(), policy=ON)


@pytest.mark.parametrize("keep", [True, False])
def test_below_the_providers_name_the_same_holds(keep: bool) -> None:
    opened = msgspec.structs.replace(NATIVE, pass_through=True)
    rules = policy(opened, native={"openai": (opened,)}, **({} if keep else {"keep": None}))

    async def work(made: Room, shelf: Shelf) -> None:
        inbound = asking(model="gpt")
        inbound.path = "/openai/v1/responses"
        name = document(await made.serve(inbound))["id"]
        assert name.startswith("resp_ost-") is keep
        assert ("store" in body(made, 0)) is not keep
        inbound = asking(model="gpt", previous_response_id=name)
        inbound.path = "/openai/v1/responses"
        assert (await made.serve(inbound)).status == (200 if keep else 400)
        plain = RecordingInbound(method="GET", path="/openai/v1/responses/resp_upstream1")
        assert (await made.serve(plain)).status == 403, "for keys that were let to such paths by name only"

    within(work, native(), native(), policy=rules)


def test_a_second_store_is_not_overlooked() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        for text in ('"store":false,"store":true', '"conversation":"c","conversation":null'):
            inbound = RecordingInbound(f'{{"model":"gpt","input":"x",{text}}}'.encode(), path="/v1/responses")
            assert (await made.serve(inbound)).status == 400
        assert not made.upstream.sent

    within(work, policy=OFF)


@given(st.binary(max_size=80))
@settings(max_examples=200)
def test_no_bytes_are_a_name(data: bytes) -> None:
    objects = Objects(lambda content: bytes(32))
    with pytest.raises(Fault) as refused:
        objects.open_response(ON, KEYS[0], data.decode("latin-1"))
    assert refused.value.kind is Kind.NOT_FOUND
