"""Tools that only one provider has are offers: any other model does without them, unless it is told to use them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.wire.conversation.conversation import Call, Conversation, Message, Role, Tool, ToolChoice, UnknownTool
from ostiary.wire.conversation.parts import Text
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.profile import ANY
from ostiary.wire.registry import DIALECTS

HI = (Message(Role.USER, (Text("hi"),)),)
SEARCH = UnknownTool("elsewhere", msgspec.Raw(b'{"type":"web_search"}'))
LEFT_OUT = Loss(LossKind.UNKNOWN, "tools.1")
TOOLS = (Tool("first"), SEARCH, Tool("last", strict=True))
FORCING = sorted(set(DIALECTS) - {"ollama_chat"})  # that one has no word for a forced call


def sent(dialect: str, **more: Any) -> tuple[Any, tuple[Loss, ...]]:
    encoded = DIALECTS[dialect].encode_request(Conversation(model="m", messages=HI, **more), ANY)
    return json.loads(encoded.body), encoded.losses


def without_search(dialect: str, **more: Any) -> Any:
    return sent(dialect, tools=(TOOLS[0], TOOLS[2]), **more)[0]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_tool_of_another_providers_is_left_out_and_told_by_its_place(dialect: str) -> None:
    body, losses = sent(dialect, tools=TOOLS)
    assert body == without_search(dialect)
    assert LEFT_OUT in losses
    assert {loss.where.split(".")[1] for loss in losses if loss.where.startswith("tools.")} <= {"1", "2"}


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("call", [Call.AUTO, Call.NONE])
def test_where_no_tool_is_left_nothing_is_said_of_their_choice(dialect: str, call: Call) -> None:
    body, losses = sent(dialect, tools=(SEARCH,), tool_choice=ToolChoice(call), parallel_calls=False)
    assert body == sent(dialect)[0]
    assert losses == (Loss(LossKind.UNKNOWN, "tools.0"),)


@pytest.mark.parametrize("dialect", FORCING)
def test_some_call_may_be_forced_where_tools_are_left(dialect: str) -> None:
    choice = ToolChoice(Call.REQUIRED)
    assert sent(dialect, tools=TOOLS, tool_choice=choice)[0] == without_search(dialect, tool_choice=choice)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ((SEARCH,), ToolChoice(Call.REQUIRED)),
        (TOOLS, ToolChoice(Call.REQUIRED, ("web_search",))),
        (TOOLS, ToolChoice(Call.AUTO, ("first", "web_search"))),
    ],
)
def test_a_call_of_a_tool_that_would_be_left_out_is_not_forced(dialect: str, tools: Any, choice: ToolChoice) -> None:
    with pytest.raises(Fault) as caught:
        sent(dialect, tools=tools, tool_choice=choice)
    assert (caught.value.kind, caught.value.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("dialect", ["bedrock_converse", "cohere_chat", "gemini_generate", "ollama_chat"])
def test_the_wish_for_one_call_at_a_time_is_a_knob_where_there_is_no_word_for_it(dialect: str) -> None:
    body, losses = sent(dialect, tools=(Tool("first"),), parallel_calls=False)
    assert body == sent(dialect, tools=(Tool("first"),))[0]
    assert Loss(LossKind.KNOB, "parallel_calls") in losses


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_search_that_is_forced_by_its_kind_is_refused_and_one_that_is_offered_is_not(dialect: str) -> None:
    asked = {"model": "m", "input": "hi", "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}]}
    offered = DIALECTS["openai_responses"].decode_request(json.dumps(asked | {"tool_choice": "auto"}).encode())
    assert DIALECTS[dialect].encode_request(offered, ANY).body
    if dialect != "openai_responses":
        asked["tool_choice"] = {"type": "web_search"}
        forced = DIALECTS["openai_responses"].decode_request(json.dumps(asked).encode())
        with pytest.raises(Fault):
            DIALECTS[dialect].encode_request(forced, ANY)
