"""A client of one dialect and a provider of another: what is sent, what comes back, what is counted and reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kit import deployment, key, once, snapshot
from kit_client import RecordingInbound
from kit_provider import EVENTS, JSON, Play

from ostiary.core.fault import Kind
from ostiary.core.key import VirtualKey
from ostiary.core.profile import Profile, Thinks
from ostiary.core.record import Lost, Outcome
from ostiary.core.snapshot import Deployment, LimitSettings, PolicySnapshot
from ostiary.core.usage import Usage

CLAUDE = deployment(
    "claude", upstream_model="claude-sonnet-4-5", base_path="", dialects=("anthropic_messages",),
    profile=Profile(max_output=64_000, thinks=Thinks.BUDGET),
)  # fmt: skip
ASKED: dict[str, Any] = {
    "model": "claude",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "seed": 7,
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0, "output_tokens": 4},
}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events)


STARTED = sse({"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}})
TOLD = sse(
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo."}},
)
ENDED = sse(
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 4},
    },
    {"type": "message_stop"},
)
USED = Usage(input=8, output=4, cache_read=5)


def whole(document: dict[str, Any], status: int = 200) -> Play:
    return Play(json.dumps(document).encode(), headers=(JSON,), status=status)


def asked(**fields: Any) -> RecordingInbound:
    return RecordingInbound(json.dumps({**ASKED, **fields}).encode())


def data_of(sent: bytes) -> list[Any]:
    lines = [line[6:] for line in sent.split(b"\n") if line.startswith(b"data: ")]
    return [line if line == b"[DONE]" else json.loads(line) for line in lines]


def test_a_chat_request_reaches_a_provider_of_another_dialect_in_that_dialect() -> None:
    made, inbound = once(snapshot(CLAUDE), whole(MESSAGE), inbound=asked())
    sent = made.upstream.sent[0]
    assert sent.head.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    body = json.loads(sent.body)
    assert body["model"] == "claude-sonnet-4-5"
    assert body["max_tokens"] == 64_000
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    assert "seed" not in body
    answer = json.loads(inbound.sent)
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "claude"
    assert answer["choices"][0]["message"]["content"] == "Hello."
    assert answer["usage"]["prompt_tokens"] == 8
    (record,) = made.settled
    assert (record.usage, record.measured, record.outcome) == (USED, True, Outcome.COMPLETED)


def test_a_knob_that_cannot_be_said_is_left_out_and_reported_to_caller_and_record() -> None:
    made, inbound = once(snapshot(CLAUDE), whole(MESSAGE), inbound=asked())
    assert inbound.head["x-ostiary-losses"] == "knob:sampling.seed"
    assert Lost(made.settled[0].losses) == Lost.SEED


@pytest.mark.parametrize(
    ("target", "caller", "own"),
    [
        (deployment("claude", base_path="", dialects=("anthropic_messages",), drop_params=False), key(), {}),
        (CLAUDE, key(drop_params=False), {}),
        (CLAUDE, key(), {"drop_params": False}),
        (CLAUDE, key(drop_params=False), {"drop_params": True}),
    ],
)
def test_where_nothing_may_be_left_out_the_request_is_refused_by_the_knobs_name(
    target: Deployment, caller: VirtualKey, own: dict[str, Any]
) -> None:
    made, inbound = once(snapshot(target), whole(MESSAGE), inbound=asked(**own), keys=(caller,))
    assert inbound.status == 400
    assert json.loads(inbound.sent)["error"]["param"] == "sampling.seed"
    assert not made.upstream.sent


def test_the_word_of_a_key_goes_before_that_of_the_deployment() -> None:
    strict = deployment("claude", base_path="", dialects=("anthropic_messages",), drop_params=False)
    _, inbound = once(snapshot(strict), whole(MESSAGE), inbound=asked(), keys=(key(drop_params=True),))
    assert inbound.status == 200


def test_content_that_cannot_be_said_is_a_400_that_names_the_field() -> None:
    made, inbound = once(snapshot(CLAUDE), whole(MESSAGE), inbound=asked(n=2))
    assert inbound.status == 400
    assert json.loads(inbound.sent)["error"]["param"] == "choices"
    assert made.settled[0].fault == Kind.INVALID_REQUEST


def test_a_stream_is_told_in_the_clients_dialect_as_it_comes() -> None:
    inbound = asked(stream=True, stream_options={"include_usage": True})
    made, _ = once(snapshot(CLAUDE), Play(STARTED, TOLD, 1.0, ENDED), inbound=inbound)
    assert inbound.head["content-type"] == "text/event-stream"
    chunks = data_of(inbound.sent)
    assert chunks.pop() == b"[DONE]"
    words = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(word for word in words if word) == "Hello."
    assert chunks[-1]["usage"]["prompt_tokens"] == 8
    (record,) = made.settled
    assert (record.usage, record.measured, record.outcome) == (USED, True, Outcome.COMPLETED)


@pytest.mark.parametrize("cut", [STARTED + TOLD, STARTED + TOLD + ENDED[:100], STARTED + TOLD + ENDED[:-60]])
def test_a_translated_stream_that_is_cut_never_ends_normally(cut: bytes) -> None:
    inbound = asked(stream=True)
    made, _ = once(snapshot(CLAUDE, routing={"num_retries": 0}), Play(cut), inbound=inbound)
    assert b"[DONE]" not in inbound.sent
    assert b'"error"' in inbound.sent
    assert made.settled[0].outcome is Outcome.TRUNCATED


def test_a_failure_in_the_middle_of_a_stream_is_told_after_what_came_before_it() -> None:
    failure = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    inbound = asked(stream=True)
    made, _ = once(snapshot(CLAUDE), Play(STARTED + TOLD, 0.1, TOLD[-90:][:0] + failure), inbound=inbound)
    assert b"Hel" in inbound.sent
    assert "error" in data_of(inbound.sent)[-1]
    assert made.settled[0].outcome is Outcome.TRUNCATED


def test_a_failure_before_the_first_byte_is_tried_again() -> None:
    failure = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    inbound = asked(stream=True)
    made, _ = once(snapshot(CLAUDE), Play(failure), Play(STARTED, TOLD, ENDED), inbound=inbound)
    assert data_of(inbound.sent)[-1] == b"[DONE]"
    assert made.settled[0].attempts == 2


def test_a_document_is_told_as_a_stream_where_one_was_asked_for() -> None:
    inbound = asked(stream=True)
    made, _ = once(snapshot(CLAUDE), whole(MESSAGE), inbound=inbound)
    assert inbound.head["content-type"] == "text/event-stream"
    chunks = data_of(inbound.sent)
    assert chunks[-1] == b"[DONE]"
    assert made.settled[0].usage == USED


def test_a_providers_error_comes_in_the_clients_dialect_without_the_providers_body() -> None:
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 300000"}}
    _, inbound = once(snapshot(CLAUDE), whole(refusal, 400), inbound=asked())
    error = json.loads(inbound.sent)["error"]
    assert inbound.status == 400
    assert "longer than the model's context" in error["message"]


# --- clients of Anthropic's dialect ---

TURN: dict[str, Any] = {"model": "gpt", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
GPT = deployment("gpt")
CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12},
}


def messages(path: str = "/v1/messages", **fields: Any) -> RecordingInbound:
    return RecordingInbound(json.dumps({**TURN, **fields}).encode(), path=path)


def test_a_client_of_anthropics_dialect_is_answered_in_it_by_a_provider_of_openais() -> None:
    made, inbound = once(snapshot(GPT), whole(CHAT), inbound=messages())
    assert json.loads(made.upstream.sent[0].body)["messages"] == [{"role": "user", "content": "Hi"}]
    answer = json.loads(inbound.sent)
    assert (answer["type"], answer["model"], answer["stop_reason"]) == ("message", "gpt", "end_turn")
    assert answer["content"] == [{"type": "text", "text": "Hello."}]
    assert made.settled[0].usage == Usage(input=8, output=4)
    assert made.settled[0].endpoint == "messages"


def test_refusals_come_in_anthropics_envelope() -> None:
    _, inbound = once(snapshot(GPT), inbound=messages(model="nobody"))
    answer = json.loads(inbound.sent)
    assert inbound.status == 404
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "not_found_error"


def test_the_same_dialect_on_both_sides_passes_every_byte_but_the_models_name() -> None:
    inbound = messages(model="claude", tools=[{"type": "computer_9", "name": "x"}], some_future_field={"a": [1]})
    made, _ = once(snapshot(CLAUDE), whole(MESSAGE), inbound=inbound)
    sent = made.upstream.sent[0].body
    assert json.loads(sent) == {**json.loads(inbound._body), "model": "claude-sonnet-4-5"}
    assert json.loads(inbound.sent) == MESSAGE
    assert made.settled[0].usage == USED


def test_the_same_dialects_stream_is_passed_on_to_the_byte_and_metered() -> None:
    inbound = messages(model="claude", stream=True)
    made, _ = once(snapshot(CLAUDE), Play(STARTED, TOLD, ENDED, headers=(EVENTS,)), inbound=inbound)
    assert inbound.sent == STARTED + TOLD + ENDED
    assert (made.settled[0].usage, made.settled[0].outcome) == (USED, Outcome.COMPLETED)


def test_silence_is_filled_with_a_ping_of_the_clients_dialect() -> None:
    quiet: PolicySnapshot = snapshot(GPT, limits=LimitSettings(ping_seconds=15.0, default_output_estimate=100))
    chunk = {**CHAT, "object": "chat.completion.chunk", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]}  # fmt: skip
    event = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
    inbound = messages(stream=True)
    once(quiet, Play(event, wait=31.0), inbound=inbound)
    assert inbound.sent.startswith(b'event: ping\ndata: {"type": "ping"}\n\n')
    assert data_of(inbound.sent)[-1] == {"type": "message_stop"}


def test_tokens_are_counted_by_the_maker_where_he_is_asked_in_his_own_dialect() -> None:
    counted = {"input_tokens": 14}
    made, inbound = once(
        snapshot(CLAUDE), whole(counted), inbound=messages("/v1/messages/count_tokens", model="claude")
    )
    assert json.loads(inbound.sent) == counted
    assert made.settled[0].cost == 0


def test_tokens_are_estimated_where_the_maker_has_no_such_question() -> None:
    made, inbound = once(snapshot(GPT), inbound=messages("/v1/messages/count_tokens"))
    assert json.loads(inbound.sent)["input_tokens"] > 0
    assert inbound.head["x-ostiary-estimated"] == "input_tokens"
    assert not made.upstream.sent
    assert made.settled[0].cost == 0


@pytest.mark.parametrize(("asked_for", "sent"), [({}, False), ({"store": True}, True)])
def test_a_provider_that_keeps_answers_by_itself_keeps_those_only_that_it_was_asked_to(
    asked_for: dict[str, Any], sent: bool
) -> None:
    target = deployment("claude", dialects=("openai_responses",))
    made, _ = once(snapshot(target), whole({}, 400), inbound=asked(**asked_for))
    assert json.loads(made.upstream.sent[0].body)["store"] is sent


# --- legacy completions ---


def test_a_legacy_completion_is_made_by_a_chat_model() -> None:
    body = json.dumps({"model": "claude", "prompt": "Once upon", "max_tokens": 9}).encode()
    made, inbound = once(
        snapshot(CLAUDE), whole(MESSAGE), inbound=RecordingInbound(body, path="/v1/completions")
    )  # fmt: skip
    assert json.loads(made.upstream.sent[0].body)["messages"] == [{"role": "user", "content": "Once upon"}]
    answer = json.loads(inbound.sent)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == "Hello."
    assert made.settled[0].endpoint == "completions"
    assert made.settled[0].usage == USED


def test_a_legacy_completion_is_streamed_from_a_chat_stream() -> None:
    body = json.dumps({"model": "claude", "prompt": "Once", "stream": True}).encode()
    inbound = RecordingInbound(body, path="/v1/completions")
    once(snapshot(CLAUDE), Play(STARTED, TOLD, ENDED), inbound=inbound)
    chunks = data_of(inbound.sent)
    assert chunks.pop() == b"[DONE]"
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == "Hello."
