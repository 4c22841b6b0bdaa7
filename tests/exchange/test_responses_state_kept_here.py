"""Responses over providers that keep none: the conversation is kept here, for its owner, as long as that is allowed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from kit import Room, deployment, key
from kit_client import RecordingInbound
from kit_provider import DONE, Play, chunk, refusal
from kit_responses import (
    CHAT,
    KEEP,
    KEYS,
    NATIVE,
    OTHER,
    Shelf,
    about,
    asking,
    away,
    document,
    native,
    policy,
    said,
    told,
    within,
)

from ostiary.core.snapshot import KeepSettings
from ostiary.gateway.conversations import PREVIOUS

OFF = policy(keep=None)
ON = policy()


def messages(made: Room, number: int) -> list[tuple[str, Any]]:
    """Role and content of what a chat provider was sent."""
    return [(turn["role"], turn["content"]) for turn in json.loads(made.upstream.sent[number].body)["messages"]]


async def answered(made: Room, inbound: RecordingInbound) -> dict[str, Any]:
    return document(await made.serve(inbound))


def test_a_conversation_goes_on_from_the_response_before() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("my name is Ada", instructions="Be brief."))
        assert first["store"] is True
        assert first["id"].startswith("resp_")
        second = await answered(made, asking("who am I?", previous_response_id=first["id"]))
        assert second["previous_response_id"] == first["id"]
        assert messages(made, 1) == [("user", "my name is Ada"), ("assistant", "Hello Ada."), ("user", "who am I?")]
        third = await answered(made, asking([{"role": "user", "content": "sure?"}], previous_response_id=second["id"]))
        assert [content for _, content in messages(made, 2)] == [
            "my name is Ada", "Hello Ada.", "who am I?", "Ada.", "sure?",
        ]  # fmt: skip
        fork = await answered(made, asking("and again", previous_response_id=first["id"]))
        assert [content for _, content in messages(made, 3)] == ["my name is Ada", "Hello Ada.", "and again"]
        assert len({first["id"], second["id"], third["id"], fork["id"]}) == 4

    within(work, said("Hello Ada."), said("Ada."), said("Yes."), said("Again."), policy=ON)


def test_tool_calls_are_gone_on_from_with_their_results() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    wanted = said("", choices=[{"index": 0, "finish_reason": "tool_calls",
                                "message": {"role": "assistant", "content": None, "tool_calls": [call]}}])  # fmt: skip
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]

    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("weather?", tools=tools))
        result = [{"type": "function_call_output", "call_id": "call_1", "output": "rain"}]
        await answered(made, asking(result, tools=tools, previous_response_id=first["id"]))
        turns = json.loads(made.upstream.sent[1].body)["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]
        assert turns[1]["tool_calls"][0]["function"]["arguments"] == '{"city":"Ulm"}'
        assert turns[2]["content"] == "rain"

    within(work, wanted, said("It rains."), policy=ON)


def test_nothing_is_lost_of_a_conversation_where_nothing_may_be_left_out() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("hi"))
        inbound = await made.serve(asking("on", previous_response_id=first["id"], store=True))
        assert inbound.status == 200
        assert "x-ostiary-losses" not in inbound.head
        assert "store" not in json.loads(made.upstream.sent[1].body), "the provider need not keep it"

    within(work, said("a"), said("b"), policy=policy(deployment("chat", drop_params=False)))


def test_words_to_the_gateway_stay_here_when_a_conversation_goes_on() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking([{"role": "user", "content": "hi"}], tags=["a"], num_retries=1))
        await answered(made, asking("on", previous_response_id=first["id"], tags=["b"], num_retries=0))
        assert [set(json.loads(sent.body)) for sent in made.upstream.sent] == [{"model", "messages", "stream"}] * 2

    within(work, said("a"), said("b"), policy=ON)


def test_a_response_is_shown_to_its_owner_and_deleted_by_him() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        made_ = await made.serve(asking("hi", metadata={"a": "b"}))
        first = document(made_)
        assert (await made.serve(about(first["id"]))).sent == made_.sent
        gone = await answered(made, about(first["id"], method="DELETE"))
        assert gone == {"id": first["id"], "object": "response.deleted", "deleted": True}
        for inbound in (about(first["id"]), about(first["id"], method="DELETE"), about(first["id"], "/input_items")):
            assert (await made.serve(inbound)).status == 404
        assert (await made.serve(asking("on", previous_response_id=first["id"]))).status == 400
        assert not shelf.rows
        assert [record.cost for record in made.settled][1:] == [0] * 6

    within(work, said("a"), policy=ON)


def test_a_stream_is_kept_as_its_last_event_tells_it() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        inbound = await made.serve(asking("hi", stream=True))
        seen = told(inbound.sent)
        assert seen[0]["response"]["store"] is True
        assert seen[-1]["type"] == "response.completed"
        last = seen[-1]["response"]
        assert await answered(made, about(last["id"])) == last
        await answered(made, asking("on", previous_response_id=last["id"]))
        assert messages(made, 1) == [("user", "hi"), ("assistant", "ab"), ("user", "on")]

    within(work, Play(chunk("a"), chunk("b"), chunk("", "stop"), DONE), said("c"), policy=ON)


def test_a_provider_that_answers_a_stream_in_one_piece_is_kept_too() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        seen = told((await made.serve(asking("hi", stream=True))).sent)
        assert (await answered(made, about(seen[-1]["response"]["id"])))["status"] == "completed"

    within(work, said("whole"), policy=ON)


@pytest.mark.parametrize("cut", [Play(chunk("a")), Play(chunk("a"), b"data: {\n\n"), refusal(400)])
def test_an_answer_that_is_not_whole_is_not_kept(cut: Play) -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        await made.serve(asking("hi", stream=True))
        assert made.plane.responses is not None
        await made.plane.responses.flush()
        assert not shelf.rows

    within(work, cut, cut, cut, policy=policy(CHAT, routing={"num_retries": 0}))


def test_the_items_of_a_response_come_in_pages() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("one"))
        given = [{"role": "user", "content": [{"type": "input_text", "text": "two"}]}, {"role": "user", "content": "3"}]
        second = (await answered(made, asking(given, previous_response_id=first["id"])))["id"]

        async def page(query: bytes) -> dict[str, Any]:
            return await answered(made, about(second, "/input_items", query=query))

        def texts(found: dict[str, Any]) -> list[str]:
            return [item["content"][0]["text"] for item in found["data"]]

        whole = await page(b"order=asc")
        assert texts(whole) == ["one", "a", "two", "3"]
        assert [item["role"] for item in whole["data"]] == ["user", "assistant", "user", "user"]
        assert texts(await page(b"")) == ["3", "two", "a", "one"], "the newest first"
        some = await page(b"limit=3&order=asc")
        assert (texts(some), some["has_more"]) == (["one", "a", "two"], True)
        assert (some["first_id"], some["last_id"]) == (some["data"][0]["id"], some["data"][2]["id"])
        rest = await page(f"limit=3&order=asc&after={some['last_id']}".encode())
        assert (texts(rest), rest["has_more"]) == (["3"], False)
        for query in (b"limit=0", b"limit=101", b"limit=x", b"order=up", b"order=\xff"):
            assert (await made.serve(about(second, "/input_items", query=query))).status == 400
        assert (await made.serve(about(second, "/input_items", query=b"after=nothing"))).status == 404

    within(work, said("a"), said("b"), policy=ON)


def test_only_what_runs_in_the_background_is_cancelled() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("hi"))
        assert (await made.serve(about(first["id"], "/cancel", method="POST"))).status == 400
        assert (await made.serve(about("resp_x", "/cancel", method="POST"))).status == 404
        assert (await made.serve(about(first["id"], query=b"stream=true"))).status == 400

    within(work, said("a"), policy=ON)


def test_iso_somebody_elses_response_is_as_if_it_never_existed() -> None:
    keys = [
        *KEYS,
        key("sk-mate", "k3", organization_id="org-a", user_id="u1"),
        key("sk-mate-elsewhere", "k4", organization_id="org-b", user_id="u1"),
        key("sk-mate-too", "k5", organization_id="org-a", user_id="u1"),
    ]

    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("secret"))
        mates = await answered(made, asking("shared", who="sk-mate"))
        for written in (False, True):
            if written:
                assert made.plane.responses is not None
                await made.plane.responses.flush()
                assert len(shelf.rows) == 2
            for who, there in ((OTHER, first), ("sk-mate", first), ("sk-admin", first), ("sk-mate-elsewhere", mates)):
                for tail, method in (("", "GET"), ("/input_items", "GET"), ("/cancel", "POST"), ("", "DELETE")):
                    foreign = await made.serve(about(there["id"], tail, who=who, method=method))
                    unknown = await made.serve(about("resp_0190", tail, who=who, method=method))
                    assert (foreign.status, foreign.sent) == (404, unknown.sent)
                on = [
                    await made.serve(asking("x", who=who, previous_response_id=name))
                    for name in (there["id"], "resp_0190", "resp_ost-AAAA", "resp_ost-" + "A" * 90)
                ]
                assert {(one.status, one.sent) for one in on} == {(400, on[0].sent)}
                assert on[0].error["param"] == PREVIOUS
            assert (await made.serve(about(first["id"]))).status == 200
            assert (await made.serve(about(mates["id"], who="sk-mate-too"))).status == 200
        assert len(made.upstream.sent) == 2, "nobody was asked"

    within(work, said("a"), said("b"), policy=ON, keys=keys)


def test_what_has_expired_is_not_there() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("hi"))
        (expiry,) = [one.expires for one in made.plane.responses._waiting.values()]  # type: ignore[union-attr]
        assert expiry == pytest.approx(made.clock.now() + KEEP.seconds, abs=5)
        await asyncio.sleep(KEEP.seconds + 1)
        assert (await made.serve(about(first["id"]))).status == 404
        assert (await made.serve(asking("on", previous_response_id=first["id"]))).status == 400

    within(work, said("a"), policy=ON)


# --- where it is not allowed ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{}, {"store": True}, {"store": None}, {"store": False}])
def test_by_default_nothing_is_kept_and_the_answer_says_so(fields: dict[str, Any], stream: bool) -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        inbound = await made.serve(asking("hi", stream=stream, **fields))
        found = told(inbound.sent)[-1]["response"] if stream else document(inbound)
        assert found["store"] is False
        assert len(made.plane.responses) == 0  # type: ignore[arg-type]
        refused = await made.serve(about(found["id"]))
        assert refused.status == 404
        assert "ostiary.responses.keep" in refused.error["message"]

    within(work, Play(chunk("a"), chunk("", "stop"), DONE) if stream else said("a"), policy=OFF)


def test_to_go_on_is_refused_by_the_name_of_the_setting_that_would_allow_it() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        inbound = await made.serve(asking("hi", previous_response_id="resp_1"))
        assert inbound.status == 400
        assert inbound.error["param"] == PREVIOUS
        assert "ostiary.responses.keep" in inbound.error["message"]
        assert not made.upstream.sent

    within(work, policy=OFF)


def test_a_key_can_be_excepted() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        assert (await answered(made, asking("hi")))["store"] is False
        inbound = await made.serve(asking("hi", previous_response_id="resp_1"))
        assert "store_responses" in inbound.error["message"]

    within(work, said("a"), policy=ON, keys=[key(store_responses=False)])


def test_what_the_caller_does_not_want_kept_is_not() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("hi"))
        second = await answered(made, asking("on", store=False, previous_response_id=first["id"]))
        assert (second["store"], second["previous_response_id"]) == (False, first["id"])
        assert (await made.serve(about(second["id"]))).status == 404
        assert messages(made, 1)[0] == ("user", "hi")

    within(work, said("a"), said("b"), policy=ON)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_too_long_to_be_kept_says_that_it_is_not(stream: bool) -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        inbound = await made.serve(asking("long " * 1000, stream=stream))
        found = told(inbound.sent)[-1]["response"] if stream else document(inbound)
        assert found["store"] is False
        assert (await made.serve(about(found["id"]))).status == 404

    plays = Play(chunk("a"), chunk("", "stop"), DONE) if stream else said("a")
    within(work, plays, policy=policy(keep=KeepSettings(60.0, 5000)))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0"),
        ({"input": [{"role": "user", "content": "x"}, {"id": "msg_1"}]}, "input.1"),
        ({"input": [{"id": "msg_1", "type": None}]}, "input.0"),
    ],
)
@pytest.mark.parametrize("model", ["chat", "gpt"])
def test_iso_what_names_things_in_the_providers_account_is_refused(
    fields: dict[str, Any], param: str, model: str
) -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        asked = RecordingInbound(json.dumps({"input": "hi", "model": model, **fields}).encode(), path="/v1/responses")
        inbound = await made.serve(asked)
        assert (inbound.status, inbound.error["param"]) == (400, param)
        assert not made.upstream.sent

    for rules in (ON, OFF):
        within(work, policy=rules)


# --- the store ---


def test_a_store_that_is_away_costs_no_answer_and_is_written_to_when_it_is_back() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        remembered = made.plane.responses
        assert remembered is not None
        writer = asyncio.get_running_loop().create_task(remembered.run())
        shelf.failure = away()
        first = await answered(made, asking("hi"))
        assert (await made.serve(about(first["id"]))).status == 200, "from memory"
        assert (await made.serve(about("resp_other"))).status == 503, "nobody knows"
        await asyncio.sleep(5)
        shelf.failure = None
        await asyncio.sleep(60)
        assert len(shelf.rows) == 1
        assert len(remembered) == 0
        assert (await made.serve(about(first["id"]))).status == 200
        writer.cancel()

    within(work, said("a"), policy=ON)


def test_to_count_the_tokens_of_a_conversation_that_goes_on_counts_all_of_it() -> None:
    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("word " * 300))
        counts = []
        for fields in ({}, {"previous_response_id": first["id"]}):
            inbound = asking("hi", **fields)
            inbound.path = "/v1/responses/input_tokens"
            counts.append((await answered(made, inbound))["input_tokens"])
        assert counts[1] > counts[0] + 200

    within(work, said("a"), policy=ON)


def test_a_conversation_kept_here_goes_on_at_a_provider_that_keeps_its_own() -> None:
    thought = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    thinking = said("", choices=[{"index": 0, "finish_reason": "stop", "message": thought}])

    async def work(made: Room, shelf: Shelf) -> None:
        first = await answered(made, asking("hi"))
        second = await answered(made, asking("on", model="gpt", previous_response_id=first["id"]))
        body = json.loads(made.upstream.sent[1].body)
        assert made.upstream.sent[1].line == b"POST /v1/responses HTTP/1.1"
        assert "previous_response_id" not in body
        assert [item["type"] for item in body["input"]] == ["message", "message", "message"]
        assert second["id"].startswith("resp_ost-")
        assert second["previous_response_id"] == first["id"]

    within(work, thinking, native(), policy=policy(CHAT, NATIVE))
