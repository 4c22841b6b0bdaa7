"""The official client's realtime connection through the gateway: what is said, what it costs, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI
from talk_kit import COST, USAGE, Call, RawTalk, RealtimeProvider, client_of, events_until_closed, listening
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

from ostiary.testing.gateway import Gateway, eventually
from ostiary.wire.framing.websocket import GOING_AWAY, INTERNAL, NORMAL, POLICY


async def key_of(door: Gateway, **fields: Any) -> str:
    return await asyncio.to_thread(lambda: door.key(**fields))


async def rows(door: Gateway, count: int, kind: str = "realtime.response") -> list[dict[str, Any]]:
    """The settled records of a kind, once there are so many."""

    def found() -> list[dict[str, Any]]:
        return [row for row in door.records() if row["call_type"] == kind]

    def enough() -> list[dict[str, Any]]:
        some = found()
        return some if len(some) >= count else []

    some = await asyncio.to_thread(eventually, enough)
    assert len(some) == count, some
    return some


async def test_a_text_and_audio_session_and_its_usage(door: Gateway, talker: RealtimeProvider) -> None:
    key = await key_of(door)
    async with client_of(door, key).realtime.connect(model="talk") as talk:
        assert (await talk.recv()).type == "session.created"
        await talk.session.update(session={"type": "realtime", "model": "talk", "output_modalities": ["audio"]})
        updated = await talk.recv()
        assert updated.type == "session.updated"
        await talk.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
        )
        await talk.response.create()
        kinds = []
        async for event in talk:
            kinds.append(event.type)
            if event.type == "response.done":
                assert event.response.usage is not None
                assert event.response.usage.to_dict() == USAGE
                break
    assert kinds == [
        "response.created", "response.output_text.delta", "response.output_audio.delta", "response.done",
    ]  # fmt: skip
    call = await talker.call()
    assert call.target == "/v1/realtime?model=up-talk"
    assert call.headers["authorization"] != f"Bearer {key}"
    assert not {name for name in call.headers if "extensions" in name or "protocol" in name}
    update = await call.until("session.update")
    assert update["session"]["model"] == "up-talk"
    (row,) = await rows(door, 1)
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (132, 121, 253)
    assert float(row["spend"]) == pytest.approx(COST)
    (session,) = await rows(door, 1, "realtime")
    assert float(session["spend"]) == 0
    assert session["status"] == "success"


async def test_a_function_call_and_its_result(door: Gateway, talker: RealtimeProvider) -> None:
    async def calls(call: Call) -> None:
        await call.send(type="session.created", session={"type": "realtime", "model": call.model})
        async for text in call.socket:
            event = json.loads(text)
            call.events.append(event)
            call.news.set()
            if event["type"] != "response.create":
                continue
            if not any(each["type"] == "conversation.item.create" for each in call.events):
                about = {"response_id": "r1", "item_id": "i1", "output_index": 0, "call_id": "call_1"}
                await call.send(type="response.created", response={"id": "r1", "object": "realtime.response"})
                await call.send(type="response.function_call_arguments.delta", delta='{"city":', **about)
                await call.send(
                    type="response.function_call_arguments.done", arguments='{"city":"Bonn"}', name="f", **about
                )
                await call.send(type="response.done", response={"id": "r1", "status": "completed", "usage": USAGE})
            else:
                await call.respond("sunny", response="r2")

    talker.play = calls
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        await talk.response.create()
        done = 0
        async for event in talk:
            if event.type == "response.function_call_arguments.done":
                assert event.arguments == '{"city":"Bonn"}'
                output = {"type": "function_call_output", "call_id": event.call_id, "output": "sunny"}
                await talk.conversation.item.create(item=output)  # type: ignore[arg-type]
            if event.type == "response.done":
                done += 1
                if done == 2:
                    break
                await talk.response.create()
    assert len(await rows(door, 2)) == 2


async def test_two_sessions_do_not_hear_each_other(door: Gateway, talker: RealtimeProvider) -> None:
    async def echo(call: Call) -> None:
        async for text in call.socket:
            event = json.loads(text)
            await call.send(type="response.output_text.delta", delta=event["audio"])

    talker.play = echo
    client = client_of(door, await key_of(door))

    async def say(word: str) -> list[str]:
        async with client.realtime.connect(model="talk") as talk:
            heard = []
            for _ in range(20):
                await talk.input_audio_buffer.append(audio=word)
                heard.append((await talk.recv()).delta)  # type: ignore[union-attr]
            return heard

    assert await asyncio.gather(say("one"), say("two")) == [["one"] * 20, ["two"] * 20]


async def test_the_first_edition_of_the_api_is_asked_for_where_the_client_does(
    door: Gateway, talker: RealtimeProvider
) -> None:
    client = client_of(door, await key_of(door))
    async with client.realtime.connect(model="talk", extra_headers={"OpenAI-Beta": "realtime=v1"}) as talk:
        await talk.recv()
    async with client.realtime.connect(model="talk") as talk:
        await talk.recv()
    assert (await talker.call(1)).headers["openai-beta"] == "realtime=v1"
    assert "openai-beta" not in (await talker.call(2)).headers


async def test_the_client_closes_and_the_provider_is_told(door: Gateway, talker: RealtimeProvider) -> None:
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        await talk.recv()
    call = await talker.call()
    await asyncio.wait_for(call.ended.wait(), 10)
    assert call.code == NORMAL
    (row,) = await rows(door, 1, "realtime")
    assert row["status"] == "success"


async def test_the_client_vanishes_and_what_was_under_way_is_charged_at_its_estimate(
    door: Gateway, talker: RealtimeProvider
) -> None:
    talker.play = listening
    raw = await RawTalk.opened(door, await key_of(door))
    raw.send(type="response.create")
    call = await talker.call()
    await call.until("response.create")
    await call.send(type="response.created", response={"id": "r1"})
    await raw.event("response.created")
    raw.cut()
    await asyncio.wait_for(call.ended.wait(), 10)
    (row,) = await rows(door, 1)
    assert row["metadata"]["outcome"] == "client_gone"
    assert float(row["spend"]) > 0


async def test_the_provider_vanishes_and_the_session_does_not_end_normally(
    door: Gateway, talker: RealtimeProvider
) -> None:
    async def vanish(call: Call) -> None:
        await call.send(type="session.created", session={"type": "realtime"})
        await call.socket.recv()
        await call.send(type="response.created", response={"id": "r1"})
        call.socket.transport.abort()

    talker.play = vanish
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        await talk.response.create()
        events, code = await events_until_closed(talk)
    assert [event.type for event in events] == ["session.created", "response.created", "error"]
    assert code == INTERNAL
    (row,) = await rows(door, 1)
    assert float(row["spend"]) > 0


@pytest.mark.parametrize("code", [1000, 1001, 1011])
async def test_a_close_of_the_provider_within_a_response_is_not_a_normal_end(
    door: Gateway, talker: RealtimeProvider, code: int
) -> None:
    async def close(call: Call) -> None:
        await call.socket.recv()
        await call.send(type="response.created", response={"id": "r1"})
        await call.socket.close(code)

    talker.play = close
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        await talk.response.create()
        events, closed = await events_until_closed(talk)
    assert [event.type for event in events] == ["response.created", "error"]
    assert closed == INTERNAL


async def test_a_provider_that_ends_the_session_in_order_ends_it_in_order(
    door: Gateway, talker: RealtimeProvider
) -> None:
    async def close(call: Call) -> None:
        await call.send(type="session.created", session={"type": "realtime"})
        await call.socket.close(1000, "60 minutes")

    talker.play = close
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        await talk.recv()
        with pytest.raises(ConnectionClosedOK):
            await talk.recv()


async def test_a_provider_that_closes_before_a_word_is_no_normal_end_either_way(
    door: Gateway, talker: RealtimeProvider
) -> None:
    async def abort(call: Call) -> None:
        call.socket.transport.abort()

    talker.play = abort
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        events, code = await events_until_closed(talk)
    assert [event.type for event in events] == ["error"]
    assert code == INTERNAL


async def test_a_killed_gateway_loses_nothing_that_was_measured(door: Gateway, talker: RealtimeProvider) -> None:
    from ostiary.testing.gateway import running_gateway

    client = client_of(door, await key_of(door))
    async with client.realtime.connect(model="talk") as talk:
        await talk.response.create()
        async for event in talk:
            if event.type == "response.done":
                break
        assert door.config is not None
        text = door.config.read_text()
        await asyncio.to_thread(door.kill)

    def again() -> list[dict[str, Any]]:
        with running_gateway(text, data_dir=door.data_dir) as second:
            return eventually(lambda: [row for row in second.records() if row["call_type"] == "realtime.response"])

    (row,) = await asyncio.to_thread(again)
    assert float(row["spend"]) == pytest.approx(COST)


async def test_a_response_that_nobody_asked_for_is_measured_too(door: Gateway, talker: RealtimeProvider) -> None:
    async def speaks(call: Call) -> None:
        await call.respond()
        await call.socket.wait_closed()

    talker.play = speaks
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        async for event in talk:
            if event.type == "response.done":
                break
    (row,) = await rows(door, 1)
    assert float(row["spend"]) == pytest.approx(COST)


async def test_a_response_that_the_provider_refuses_costs_nothing(door: Gateway, talker: RealtimeProvider) -> None:
    async def refuses(call: Call) -> None:
        event = json.loads(await call.socket.recv())
        await call.send(
            type="error",
            error={"type": "invalid_request_error", "message": "no", "event_id": event["event_id"], "code": "x"},
        )
        await call.socket.wait_closed()

    talker.play = refuses
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        await talk.response.create()
        assert (await talk.recv()).type == "error"
    (row,) = await rows(door, 1)
    assert float(row["spend"]) == 0


async def test_a_transcription_is_charged_by_its_own_model(door: Gateway, talker: RealtimeProvider) -> None:
    usage = {"type": "tokens", "input_tokens": 10, "output_tokens": 5, "total_tokens": 15}

    async def hears(call: Call) -> None:
        call.events.append(json.loads(await call.socket.recv()))
        await call.send(
            type="conversation.item.input_audio_transcription.completed",
            item_id="i", content_index=0, transcript="hi", usage=usage,
        )  # fmt: skip
        await call.socket.wait_closed()

    talker.play = hears
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        session: Any = {"type": "realtime", "audio": {"input": {"transcription": {"model": "hear"}}}}
        await talk.session.update(session=session)
        await talk.recv()
    call = await talker.call()
    assert call.events[0]["session"]["audio"]["input"]["transcription"]["model"] == "up-hear"
    (row,) = await rows(door, 1, "realtime.transcription")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (10, 5)


async def test_a_blocked_key_ends_its_session_within_a_second(door: Gateway, talker: RealtimeProvider) -> None:
    key = await key_of(door)
    async with client_of(door, key).realtime.connect(model="talk") as talk:
        await talk.recv()
        await asyncio.to_thread(door.admin, "POST", "/key/block", {"key": key})
        loop = asyncio.get_running_loop()
        began = loop.time()
        events, code = await events_until_closed(talk)
        assert loop.time() - began < 1
    assert code == POLICY
    assert [event.type for event in events] == ["error"]
    call = await talker.call()
    await asyncio.wait_for(call.ended.wait(), 10)


async def test_a_key_that_loses_the_model_loses_its_session(door: Gateway, talker: RealtimeProvider) -> None:
    key = await key_of(door)
    async with client_of(door, key).realtime.connect(model="talk") as talk:
        await talk.recv()
        await asyncio.to_thread(door.admin, "POST", "/key/update", {"key": key, "models": ["chat"]})
        events, code = await events_until_closed(talk)
    assert code == POLICY
    assert events[-1].error.type == "key_model_access_denied"


async def test_what_is_told_to_be_done_twice_is_charged_once(door: Gateway, talker: RealtimeProvider) -> None:
    async def stutters(call: Call) -> None:
        for _ in range(3):
            await call.respond(response="the same")
        await call.send(type="response.done", response={"id": "nobody's", "status": "completed"})
        await call.respond(response="another")
        await call.socket.wait_closed()

    talker.play = stutters
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        async for event in talk:
            if event.type == "response.done" and event.response.id == "another":
                break
    await rows(door, 1, "realtime")
    assert len(await rows(door, 2)) == 2


async def test_an_expired_key_ends_its_session(door: Gateway, talker: RealtimeProvider) -> None:
    key = await key_of(door, duration="2s")
    async with client_of(door, key).realtime.connect(model="talk") as talk:
        _, code = await events_until_closed(talk)
    assert code == POLICY


async def test_the_end_of_the_budget_ends_the_session(door: Gateway, talker: RealtimeProvider) -> None:
    key = await key_of(door, max_budget=COST * 1.5)
    async with client_of(door, key).realtime.connect(model="talk") as talk:
        await talk.response.create()
        async for event in talk:
            if event.type == "response.done":
                break
        await talk.response.create()
        events, code = await events_until_closed(talk)
    assert code == POLICY
    assert events[-1].type == "error"
    assert events[-1].error.type == "budget_exceeded"
    with pytest.raises(InvalidStatus) as refused:
        async with client_of(door, key).realtime.connect(model="talk"):
            pass
    assert refused.value.response.status_code == 400


async def test_a_rate_limit_refuses_a_response_and_not_the_session(door: Gateway, talker: RealtimeProvider) -> None:
    key = await key_of(door, rpm_limit=1)
    async with client_of(door, key).realtime.connect(model="talk") as talk:
        await talk.response.create()
        async for event in talk:
            if event.type == "response.done":
                break
        await talk.send({"type": "response.create", "event_id": "mine"})
        refused = await talk.recv()
        assert refused.type == "error"
        assert refused.error.type == "rate_limit_error"
        assert refused.error.event_id == "mine"
        await talk.session.update(session={"type": "realtime"})
        assert (await talk.recv()).type == "session.updated"
    call = await talker.call()
    assert sum(event["type"] == "response.create" for event in call.events) == 1


async def test_a_response_begun_by_the_provider_beyond_the_limit_is_cancelled(
    door: Gateway, talker: RealtimeProvider
) -> None:
    talker.play = listening
    key = await key_of(door, rpm_limit=1)
    async with client_of(door, key).realtime.connect(model="talk") as talk:
        await talk.recv()
        call = await talker.call()
        await call.respond(response="r1")
        await call.send(type="response.created", response={"id": "r2"})
        cancel = await call.until("response.cancel")
        assert cancel["response_id"] == "r2"
        await call.send(type="response.done", response={"id": "r2", "status": "cancelled", "usage": USAGE})
        kinds = [(await talk.recv()).type for _ in range(7)]
    assert kinds[4:] == ["error", "response.created", "response.done"]
    assert sum(float(row["spend"]) for row in await rows(door, 2)) == pytest.approx(2 * COST)


@pytest.mark.parametrize("model", ["other", "chat", "hear"])
async def test_a_session_keeps_its_model(door: Gateway, talker: RealtimeProvider, model: str) -> None:
    async with client_of(door, await key_of(door)).realtime.connect(model="talk") as talk:
        await talk.recv()
        await talk.session.update(session={"type": "realtime", "model": model})
        refused = await talk.recv()
        assert refused.type == "error"
        assert refused.error.param == "session.model"
        transcription: Any = {"type": "realtime", "audio": {"input": {"transcription": {"model": "nobody-has-this"}}}}
        await talk.session.update(session=transcription)
        assert (await talk.recv()).type == "error"
    assert (await talker.call()).events == []


async def test_what_stands_twice_means_one_thing_to_both(door: Gateway, talker: RealtimeProvider) -> None:
    from ostiary.wire.framing.websocket import encode_frame

    talker.play = listening
    raw = await RawTalk.opened(door, await key_of(door, rpm_limit=1))
    twice = b'{"type":"response.create","type":"input_audio_buffer.append","audio":"x"}'
    for _ in range(3):
        raw.write(encode_frame(1, twice, b"mask"))
    raw.write(encode_frame(1, b'{"type":"session.update","session":{"model":"gpt-x","model":"talk"}}', b"mask"))
    call = await talker.call()
    update = await call.until("session.update")
    assert update["session"] == {"model": "up-talk"}
    assert [event["type"] for event in call.events] == [*["input_audio_buffer.append"] * 3, "session.update"]
    await raw.over()


@pytest.mark.parametrize(
    ("model", "status"), [("nobody-has-this", 404), ("chat", 400), ("", 400)], ids=["unknown", "chat", "none"]
)
async def test_what_is_no_realtime_model_is_refused(door: Gateway, model: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with client_of(door, await key_of(door)).realtime.connect(model=model):
            pass
    assert refused.value.response.status_code == status


async def test_aig_04_a_model_that_the_key_may_not_use_is_refused(door: Gateway, talker: RealtimeProvider) -> None:
    key = await key_of(door, models=["chat"])
    with pytest.raises(InvalidStatus) as refused:
        async with client_of(door, key).realtime.connect(model="talk"):
            pass
    assert refused.value.response.status_code == 403
    assert talker.calls == []


async def test_a_call_of_somebody_else_cannot_be_joined(door: Gateway, talker: RealtimeProvider) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with client_of(door, await key_of(door)).realtime.connect(call_id="rtc_1"):
            pass
    assert refused.value.response.status_code == 400
    assert talker.calls == []


@pytest.mark.parametrize("path", ["client_secrets", "sessions", "transcription_sessions", "calls"])
async def test_a_way_past_the_gateway_is_not_given_out(door: Gateway, path: str) -> None:
    key = await key_of(door)
    status, answer = await asyncio.to_thread(lambda: door.call("POST", f"/v1/realtime/{path}", {}, key=key))
    assert status == 403
    assert "virtual key" in answer["error"]["message"]


async def test_the_providers_refusal_of_the_handshake_is_told(door: Gateway, talker: RealtimeProvider) -> None:
    talker.refusal = (429, {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}})
    with pytest.raises(InvalidStatus) as refused:
        async with client_of(door, await key_of(door)).realtime.connect(model="talk"):
            pass
    assert refused.value.response.status_code == 429


async def test_a_stopping_gateway_lets_a_response_finish_and_then_says_good_bye(
    door: Gateway, talker: RealtimeProvider
) -> None:
    talker.play = listening
    client: AsyncOpenAI = client_of(door, await key_of(door))
    async with client.realtime.connect(model="talk") as idle, client.realtime.connect(model="talk") as busy:
        await idle.recv()
        await busy.recv()
        calls = [await talker.call(1), await talker.call(2)]
        await busy.response.create()
        asked = [asyncio.create_task(call.until("response.create")) for call in calls]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        speaking = calls[asked.index(done.pop())]
        await speaking.send(type="response.created", response={"id": "r1"})
        assert (await busy.recv()).type == "response.created"
        door.terminate()
        assert await events_until_closed(idle) == ([], GOING_AWAY)
        await speaking.send(type="response.done", response={"id": "r1", "status": "completed", "usage": USAGE})
        events, code = await events_until_closed(busy)
        assert [event.type for event in events] == ["response.done"]
        assert code == GOING_AWAY
        for task in waiting:
            task.cancel()
    assert await asyncio.to_thread(door.wait) == 0


class TestBrowsers:
    @pytest.fixture
    def own_settings(self) -> dict[str, Any]:
        return {"edge": {"allowed_origins": ["https://Chat.example"]}}

    async def test_a_page_of_a_named_origin_talks_with_its_key_in_a_subprotocol(
        self, door: Gateway, talker: RealtimeProvider
    ) -> None:
        key = await key_of(door)
        url = f"ws://{door.host}:{door.port}/v1/realtime?model=talk"
        offered: Any = ["realtime", f"openai-insecure-api-key.{key}", "openai-beta.realtime-v1"]
        async with connect(url, origin="https://chat.example", subprotocols=offered) as talk:  # type: ignore[arg-type]
            assert talk.subprotocol == "realtime"
            assert json.loads(await talk.recv())["type"] == "session.created"
        call = await talker.call()
        assert call.headers["openai-beta"] == "realtime=v1"
        assert key not in json.dumps([call.headers, call.target])
        assert "origin" not in call.headers
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, origin="https://evil.example", subprotocols=offered):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == 403
