"""A reply comes back equal, is what the official SDK expects, and is never made of what is no answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from responses_kit import ASKED, UNHURRIED, answering, body_of, outcome, raw, replies, value_of

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.parts import (
    Citation,
    Image,
    Link,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Text,
    ToolCall,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.seals import carry
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind
from ostiary.wire.dialects.openai_responses.reply import decode_reply, encode_reply
from ostiary.wire.dialects.openai_responses.request import decode_request
from ostiary.wire.dialects.openai_responses.usage import read_usage


def written(reply: Reply, asked: Conversation | None = None) -> bytes:
    encoded = encode_reply(reply, answering(asked))
    assert encoded.losses == ()
    return encoded.body


def strangers(value: object) -> set[str]:
    """Names of members the SDK has no type for."""
    if isinstance(value, pydantic.BaseModel):
        inner = (strangers(getattr(value, name)) for name in type(value).model_fields)
        return set(value.model_extra or ()).union(*inner)
    return set().union(*map(strangers, value)) if isinstance(value, list) else set()


@given(reply=replies())
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert decode_reply(written(reply)) == reply


@UNHURRIED
@given(reply=replies(plain=True), asked=ASKED)
def test_the_official_sdk_knows_every_member_of_a_response(reply: Reply, asked: Conversation) -> None:
    answer = Response.model_validate_json(written(reply, asked), strict=True)
    assert strangers(answer) <= {"store"}
    assert "".join(part.text for part in reply.choices[0].parts if isinstance(part, Text)) == answer.output_text
    names = [item.id for item in answer.output]
    assert len(set(names) - {"ws_1"}) == len([name for name in names if name != "ws_1"])


@given(body=st.binary(max_size=80) | st.builds(written, replies()).map(lambda body: body[: len(body) // 2]))
def test_arbitrary_bytes_are_a_reply_or_a_bad_answer(body: bytes) -> None:
    value, fault = outcome(decode_reply, body)
    assert isinstance(value, Reply) or fault is Kind.BAD_ANSWER
    outcome(read_usage, body)


NAMES = st.sampled_from(
    [
        "output",
        "type",
        "content",
        "summary",
        "usage",
        "error",
        "status",
        "call_id",
        "name",
        "arguments",
        "text",
        "annotations",
        "logprobs",
        "encrypted_content",
        "role",
        "incomplete_details",
        "reason",
        "code",
    ]
)
VALUES = st.sampled_from(
    ["message", "reasoning", "function_call", "output_text", "assistant", "failed", "b3N0aWFyeTEK", "summary_text"]
)
ANSWER_LIKE = st.recursive(
    st.none() | st.integers() | VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
PROVIDERS = (
    Kind.BAD_ANSWER,
    Kind.UPSTREAM_ERROR,
    Kind.UPSTREAM_REJECTED,
    Kind.TRUNCATED,
    Kind.UPSTREAM_AUTH,
)


@given(body=ANSWER_LIKE | st.lists(ANSWER_LIKE).map(lambda items: {"output": items}))
def test_arbitrary_json_is_a_reply_or_a_fault_of_the_providers(body: object) -> None:
    value, fault = outcome(decode_reply, body_of(body))
    assert isinstance(value, Reply) or fault in PROVIDERS
    if value is not None:
        assert encode_reply(value, answering()).body


@pytest.mark.parametrize("depth", [64, 500, 900, 950, 970, 980, 990, 1000, 100_000])
@pytest.mark.parametrize(
    "place",
    [
        "%s",
        '{"output":%s}',
        '{"output":[{"type":"message","role":"assistant","content":[%s]}]}',
        '{"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"","logprobs":%s}]}]}',
        '{"output":[],"usage":%s}',
        '{"error":{"x":%s}}',
    ],
)
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_dos_01_a_deep_answer_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    value, fault = outcome(decode_reply, (place % nest).encode())
    assert isinstance(value, Reply) or fault in PROVIDERS


def answer(*items: dict[str, Any], **more: Any) -> bytes:
    return msgspec.json.encode(
        {"id": "resp_x", "object": "response", "created_at": 1, "model": "m", "status": "completed",
         "output": items, **more}
    )  # fmt: skip


def message(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "msg_x", "role": "assistant", "status": "completed", "content": content}


def test_what_a_response_says_is_what_the_pivot_knows() -> None:
    logprob = {"token": "hi", "bytes": [104, 105], "logprob": -0.5, "top_logprobs": []}
    cited = {"type": "url_citation", "url": "https://e.x", "title": "E", "start_index": 0, "end_index": 2}
    kept = {"type": "file_citation", "file_id": "f", "filename": "a.pdf", "index": 1}
    reply = decode_reply(
        answer(
            {
                "type": "reasoning",
                "id": "rs_x",
                "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
                "encrypted_content": "ENC",
            },
            message(
                {"type": "output_text", "text": "hi", "annotations": [cited, kept], "logprobs": [logprob]},
                {"type": "refusal", "refusal": "no"},
            ),
            {"type": "function_call", "id": "fc_x", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "id": "ctc_x", "call_id": "c2", "name": "g", "input": "free"},
            {"type": "mcp_call", "id": "mcp_x"},
            service_tier="default",
            tools=[{"type": "web_search"}],
            temperature=1.0,
            usage={
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 14,
            },
            tool_usage={"web_search": {"num_requests": 1}},
        )
    )
    first, second, words, refusal, call, free, hosted = reply.choices[0].parts
    assert (first, second) == (
        Reasoning("one"),
        Reasoning("two", Seal("openai_responses", "ENC"), second.rest),  # type: ignore[union-attr]
    )
    assert isinstance(words, Text)
    assert words.citations[0] == Citation("https://e.x", "E", None, 0, 2)
    assert {extra.path: value_of(extra.value) for extra in words.citations[1].rest} == {
        (name,): value for name, value in kept.items()
    }
    assert (refusal, call, free) == (
        Refusal("no"),
        ToolCall("c1", "f", "{}"),
        ToolCall("c2", "g", "free", free=True),
    )
    assert isinstance(hosted, UnknownPart)
    assert reply.choices[0].scores == (Score(Chance("hi", -0.5, (104, 105))),)
    assert reply.choices[0].finish == Finish(Reason.TOOL_CALLS)
    assert reply.usage == Usage(9, 5, 4, 2, 3)
    assert (reply.id, reply.model, reply.tier) == ("resp_x", "m", "default")
    assert [extra.path for extra in reply.rest] == [("tool_usage",)]


@pytest.mark.parametrize(
    ("more", "finish"),
    [
        ({}, Finish(Reason.STOP)),
        ({"status": None}, Finish(Reason.STOP)),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, Finish(Reason.LENGTH)),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, Finish(Reason.CONTENT_FILTER)),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "steered"}},
            Finish(Reason.OTHER, "steered", "openai_responses"),
        ),
        ({"status": "incomplete"}, Finish(Reason.OTHER, "incomplete", "openai_responses")),
        ({"status": "queued"}, Finish(Reason.OTHER, "queued", "openai_responses")),
    ],
)
def test_how_a_response_ended_goes_both_ways(more: dict[str, Any], finish: Finish) -> None:
    reply = decode_reply(answer(message({"type": "output_text", "text": "a", "annotations": []}), **more))
    assert reply.choices[0].finish == finish
    again = json.loads(encode_reply(reply, answering()).body)
    assert again["status"] == (more.get("status") or "completed")
    assert again["incomplete_details"] == more.get("incomplete_details")
    assert decode_reply(msgspec.json.encode(again)).choices == reply.choices


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.BAD_ANSWER),
        (b"{}", Kind.BAD_ANSWER),
        (b'{"output":[],"id":"\xff"}', Kind.BAD_ANSWER),
        (b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', Kind.UPSTREAM_RATE_LIMIT),
        (b'{"error":"boom","output":null}', Kind.UPSTREAM_ERROR),
        (answer(status="failed", error={"code": "server_error", "message": "x"}), Kind.UPSTREAM_ERROR),
        (answer(status="failed", error={"code": "rate_limit_exceeded", "message": "x"}), Kind.UPSTREAM_RATE_LIMIT),
        (answer(status="failed", error={"code": "context_length_exceeded", "message": "x"}), Kind.CONTEXT_WINDOW),
        (answer(status="failed", error={"code": "bio_policy", "message": "x"}), Kind.CONTENT_POLICY),
        (
            answer(status="failed", error={"code": "invalid_prompt", "message": "flagged by our usage policy"}),
            Kind.CONTENT_POLICY,
        ),
        (answer(status="failed", error={"code": "invalid_image", "message": "x"}), Kind.UPSTREAM_REJECTED),
        (answer(status="failed"), Kind.UPSTREAM_ERROR),
        (answer(status="cancelled"), Kind.TRUNCATED),
    ],
)
def test_what_is_no_answer_is_a_fault(body: bytes, kind: Kind) -> None:
    assert outcome(decode_reply, body) == (None, kind)


def test_a_count_of_tokens_states_no_use_and_is_no_fault() -> None:
    assert read_usage(b'{"object":"response.input_tokens","input_tokens":7}') is None
    assert read_usage(answer(usage={"input_tokens": 3, "output_tokens": 2})) == Usage(3, 2)
    assert read_usage(answer(usage={"input_tokens": -3})) is None
    assert read_usage(answer(usage={"input_tokens": 10**30})) is None
    assert read_usage(answer(usage="many")) is None


def choice(*parts: Part, **more: Any) -> Reply:
    return Reply(choices=(Choice(0, parts, **{"finish": Finish(Reason.STOP), **more}),))


OTHERS = Extra("gemini_generate", ("x",), raw(1))


@pytest.mark.parametrize(
    ("reply", "losses"),
    [
        (choice(Text("a", (OTHERS,))), [Loss(LossKind.UNKNOWN, "choices.0.parts.0.x")]),
        (choice(Text("a", citations=(Citation(title="t"),))), [Loss(LossKind.MARK, "choices.0.parts.0.citations.0")]),
        (
            choice(Text("a", citations=(Citation("u", quote="q"),))),
            [Loss(LossKind.MARK, "choices.0.parts.0.citations.0.quote")],
        ),
        (choice(finish=Finish(Reason.STOP, stop="END")), [Loss(LossKind.MARK, "choices.0.finish.stop")]),
        (choice(Refusal("n"), scores=(Score(Chance("n", 0.0)),)), [Loss(LossKind.MARK, "choices.0.scores")]),
        (choice(rest=(OTHERS,)), [Loss(LossKind.UNKNOWN, "choices.0.x")]),
        (Reply(choices=(), tier="standard"), [Loss(LossKind.KNOB, "tier")]),
        (Reply(choices=(), rest=(OTHERS,)), [Loss(LossKind.UNKNOWN, "x")]),
    ],
)
def test_what_a_response_cannot_say_is_a_declared_loss(reply: Reply, losses: list[Loss]) -> None:
    encoded = encode_reply(reply, answering())
    assert list(encoded.losses) == losses
    assert strangers(Response.model_validate_json(encoded.body, strict=True)) <= {"store"}


@pytest.mark.parametrize(
    "reply",
    [
        choice(Image(Link("https://e.x/i"))),
        choice(UnknownPart("gemini_generate", "parts", raw({}))),
        Reply(choices=(Choice(0, ()), Choice(1, (Text("b"),)))),
    ],
)
def test_content_that_a_response_cannot_say_is_refused(reply: Reply) -> None:
    with pytest.raises(Fault):
        encode_reply(reply, answering())


def test_a_citation_of_a_whole_text_says_so() -> None:
    body = json.loads(encode_reply(choice(Text("four", citations=(Citation("u"),))), answering()).body)
    assert body["output"][0]["content"][0]["annotations"] == [
        {"type": "url_citation", "url": "u", "title": "", "start_index": 0, "end_index": 4}
    ]


def test_tokens_without_bytes_get_their_own() -> None:
    reply = choice(Text("é"), scores=(Score(Chance("é", -1.0)),))
    body = json.loads(encode_reply(reply, answering()).body)
    assert body["output"][0]["content"][0]["logprobs"][0]["bytes"] == [0xC3, 0xA9]


def test_names_and_time_of_a_response_are_the_gateways_and_what_was_asked_is_told_again() -> None:
    asked = decode_request(
        body_of(
            {
                "model": "alias",
                "input": "hi",
                "instructions": "be brief",
                "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": None}],
                "parallel_tool_calls": False,
                "temperature": 0.5,
                "store": False,
                "conversation": "conv_1",
            }
        )
    )
    reply = msgspec.structs.replace(choice(Text("a"), ToolCall("c", "f", "")), id="upstream", model="upstream")
    document = json.loads(encode_reply(reply, answering(asked)).body)
    assert (document["id"], document["created_at"], document["model"]) == ("resp_1", 7, "m")
    assert [item["id"] for item in document["output"]] == ["msg_1_0", "fc_1_1"]
    assert document["output"][1]["call_id"] == "c"
    assert (document["instructions"], document["parallel_tool_calls"]) == ("be brief", False)
    assert (document["temperature"], document["store"], document["tools"][0]["name"]) == (0.5, False, "f")


def test_proofs_of_others_come_back_with_the_next_request_each_with_its_part() -> None:
    parts = (
        Reasoning("a", Seal("anthropic_messages", "S1")),
        Reasoning("", Seal("anthropic_messages", "S2"), hidden=True),
        Reasoning("own", Seal("openai_responses", "ENC")),
        Text("b", seal=Seal("gemini_generate", "S3")),
        ToolCall("c", "f", "{}", seal=Seal("gemini_generate", "S4")),
    )
    output = json.loads(encode_reply(choice(*parts), answering()).body)["output"]
    assert output[0]["encrypted_content"] == carry(Seal("anthropic_messages", "S1"))
    assert output[2]["encrypted_content"] == "ENC"
    assert output[3]["summary"] == []
    (turn,) = decode_request(body_of({"model": "m", "input": output})).messages
    said = [
        msgspec.structs.replace(part, rest=(), **({"citations": ()} if isinstance(part, Text) else {}))
        for part in turn.parts  # type: ignore[union-attr]
    ]
    assert said == list(parts)
