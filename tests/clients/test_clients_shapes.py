"""The bytes of answers are what the official libraries' own types say, strictly, member by member, event by event."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

import anthropic.types
import openai.types.chat
import openai.types.responses
import pytest
from lines import DESCRIPTION, QUESTION, SCHEMA, TOOL
from saying import unknown_members

from house import ONE_OF_EACH, House

# What providers of these dialects say beside the libraries' types, and this gateway with them.
BESIDE = {"reasoning_content", "thinking_blocks", "extra_content", "cache_write_tokens", "store"}
SCENARIOS = ("text", "tool", "think")
FUNCTION = {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}
USER = [{"role": "user", "content": QUESTION}]
REQUESTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": USER, "tools": [{"type": "function", "function": FUNCTION}], "reasoning_effort": "low"},
    ),
    "responses": (
        "/v1/responses",
        {
            "input": USER,
            "tools": [{"type": "function", "strict": False} | FUNCTION],
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "store": False,
        },
    ),
    "messages": (
        "/v1/messages",
        {
            "messages": USER,
            "tools": [{"name": TOOL, "description": DESCRIPTION, "input_schema": SCHEMA}],
            "max_tokens": 2048,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
    ),
}
WHOLE: Mapping[str, Any] = {
    "chat": openai.types.chat.ChatCompletion,
    "responses": openai.types.responses.Response,
    "messages": anthropic.types.Message,
}
EACH = pytest.mark.parametrize(
    ("name", "provider", "scenario"), list(itertools.product(REQUESTS, ONE_OF_EACH, SCENARIOS))
)


def by_type(alias: Any) -> dict[str, Any]:
    """The classes of a union of events, by the word in `type`."""
    union = get_args(alias)[0] if get_origin(alias) is Annotated else alias
    return {word: kind for kind in get_args(union) for word in get_args(kind.model_fields["type"].annotation)}


EVENTS = {
    "responses": by_type(openai.types.responses.ResponseStreamEvent),
    "messages": by_type(anthropic.types.RawMessageStreamEvent),
}


def asked(house: House, name: str, model: str, *, stream: bool) -> bytes:
    path, body = REQUESTS[name]
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream and name == "chat" else {}
    headers = {"content-type": "application/json", "authorization": f"Bearer {house.key}"}
    link = http.client.HTTPConnection("127.0.0.1", house.gateway.port, timeout=10)
    try:
        link.request("POST", path, json.dumps({"model": model, "stream": stream} | body | more), headers)
        answer = link.getresponse()
        told = answer.read()
        assert answer.status == 200, told
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind == ("text/event-stream" if stream else "application/json")
    finally:
        link.close()
    return told


def strictly(kind: Any, document: bytes) -> Any:
    """The value, with no member of another type, and none that the type does not have."""
    value = kind.model_validate_json(document, strict=True)
    found = {place for place in unknown_members(value) if place.rpartition(".")[2] not in BESIDE}
    assert not found, (found, document)
    return value


def events_of(told: bytes) -> list[tuple[str, bytes]]:
    """Name and data of each event."""
    frames = []
    for frame in told.replace(b"\r\n", b"\n").removesuffix(b"\n\n").split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
        if fields:
            frames.append((fields.get(b"event", b"").decode(), fields[b"data"]))
    return frames


@EACH
def test_an_answer_in_one_piece(house: House, name: str, provider: str, scenario: str) -> None:
    with house.conversation(provider, scenario, 1) as model:
        strictly(WHOLE[name], asked(house, name, model, stream=False))


@EACH
def test_a_stream(house: House, name: str, provider: str, scenario: str) -> None:
    with house.conversation(provider, scenario, 1) as model:
        events = events_of(asked(house, name, model, stream=True))
    if name == "chat":
        *chunks, (_, last) = events
        assert last == b"[DONE]"
        read = [strictly(openai.types.chat.ChatCompletionChunk, data) for _, data in chunks]
        assert [chunk.usage is not None for chunk in read] == [False] * (len(read) - 1) + [True]
        assert len({(chunk.id, chunk.created, chunk.model) for chunk in read}) == 1
        return
    kinds = [json.loads(data)["type"] for _, data in events]
    assert [said for said, _ in events] == kinds
    read = [strictly(EVENTS[name][kind], data) for kind, (_, data) in zip(kinds, events, strict=True) if kind != "ping"]
    if name == "responses":
        assert [event.sequence_number for event in read] == list(range(len(read)))
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    else:
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
