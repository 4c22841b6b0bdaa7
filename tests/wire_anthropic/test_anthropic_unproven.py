"""Reasoning without a proof is told with one that proves nothing: clients that know thoughts by their proof keep it."""

from __future__ import annotations

import json

import pytest

from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.parts import Reasoning, Text
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unfold import unfold
from ostiary.wire.dialect import Answering
from ostiary.wire.registry import DIALECTS

MESSAGES = DIALECTS["anthropic_messages"]
REPLY = Reply(choices=(Choice(0, (Reasoning("I think."), Text("Hello.")), Finish(Reason.STOP)),))


ANSWERING = Answering(id="a-1", created=1, model="m", asked=Conversation(model="m", messages=()))


def written(*, stream: bool) -> dict[str, object]:
    """The thought, as the client has it in the end."""
    if not stream:
        thought, _ = json.loads(MESSAGES.encode_reply(REPLY, ANSWERING).body)["content"]
        return dict(thought)
    encoder = MESSAGES.encoder(ANSWERING)
    told = b"".join(encoder.encode(event) for event in unfold(REPLY)) + encoder.end()
    events = [json.loads(line[6:]) for line in told.split(b"\n") if line.startswith(b"data: ")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta" and event["index"] == 0]
    assert deltas[-1]["type"] == "signature_delta"
    text = "".join(delta["thinking"] for delta in deltas[:-1])
    return {"type": "thinking", "thinking": text, "signature": deltas[-1]["signature"]}


@pytest.mark.parametrize("stream", [False, True])
def test_a_thought_without_a_proof_has_a_signature_and_comes_back_without_a_proof(stream: bool) -> None:
    thought = written(stream=stream)
    assert thought["signature"]
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [thought]}]}
    (message,) = MESSAGES.decode_request(json.dumps(body).encode()).messages
    (part,) = message.parts
    assert isinstance(part, Reasoning)
    assert (part.text, part.seal) == ("I think.", None)
