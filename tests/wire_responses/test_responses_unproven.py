"""Reasoning without a proof stays with a client that keeps it itself, and comes back as what it was."""

from __future__ import annotations

import json

import pytest

from ostiary.wire.conversation.parts import Reasoning, Seal, Text
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unfold import unfold
from ostiary.wire.dialect import Answering
from ostiary.wire.registry import DIALECTS

RESPONSES = DIALECTS["openai_responses"]
WANTED = ({"include": ["reasoning.encrypted_content"]}, {"store": False})


def answering(**asked: object) -> Answering:
    body = json.dumps({"model": "m", "input": "hello"} | asked).encode()
    return Answering(id="r-1", created=1, model="m", asked=RESPONSES.decode_request(body))


def reply(seal: Seal | None) -> Reply:
    parts = (Reasoning("I think.", seal=seal), Text("Hello."))
    return Reply(choices=(Choice(0, parts, Finish(Reason.STOP)),))


def written(answer: Reply, to: Answering, *, stream: bool) -> list[dict[str, object]]:
    """The items of an answer, as the client has them in the end."""
    if not stream:
        items: list[dict[str, object]] = json.loads(RESPONSES.encode_reply(answer, to).body)["output"]
        return items
    encoder = RESPONSES.encoder(to)
    told = b"".join(encoder.encode(event) for event in unfold(answer)) + encoder.end()
    events = [json.loads(line[6:]) for line in told.split(b"\n") if line.startswith(b"data: ")]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == next(event for event in events if event["type"] == "response.completed")["response"]["output"]
    return done


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_keeps_reasoning_itself_gets_something_in_its_place(
    wanted: dict[str, object], stream: bool
) -> None:
    thought, _ = items = written(reply(None), answering(**wanted), stream=stream)
    assert thought["encrypted_content"]
    again = {"model": "m", "input": [{"role": "user", "content": "hello"}, *items]}
    parts = [p for message in RESPONSES.decode_request(json.dumps(again).encode()).messages for p in message.parts]
    (back,) = (part for part in parts if isinstance(part, Reasoning))
    assert (back.text, back.seal) == ("I think.", None)


@pytest.mark.parametrize("stream", [False, True])
def test_another_client_gets_nothing(stream: bool) -> None:
    thought, _ = written(reply(None), answering(), stream=stream)
    assert "encrypted_content" not in thought


@pytest.mark.parametrize("stream", [False, True])
def test_a_proof_is_not_replaced(stream: bool) -> None:
    thought, _ = written(reply(Seal("openai_responses", "gAAAA=")), answering(**WANTED[0]), stream=stream)
    assert thought["encrypted_content"] == "gAAAA="
