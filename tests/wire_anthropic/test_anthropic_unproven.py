"""Reasoning without a proof is streamed with an empty one, which clients that know thoughts by their proof keep."""

from __future__ import annotations

import json

from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.parts import Reasoning, Text
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unfold import unfold
from ostiary.wire.dialect import Answering
from ostiary.wire.registry import DIALECTS

MESSAGES = DIALECTS["anthropic_messages"]
REPLY = Reply(choices=(Choice(0, (Reasoning("I think."), Text("Hello.")), Finish(Reason.STOP)),))


def test_a_thought_without_a_proof_ends_with_an_empty_one_that_is_none() -> None:
    encoder = MESSAGES.encoder(Answering(id="a-1", created=1, model="m", asked=Conversation(model="m", messages=())))
    told = b"".join(encoder.encode(event) for event in unfold(REPLY)) + encoder.end()
    events = [json.loads(line[6:]) for line in told.split(b"\n") if line.startswith(b"data: ")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta" and event["index"] == 0]
    assert deltas[-1] == {"type": "signature_delta", "signature": ""}
    thought = {"type": "thinking", "thinking": "I think.", "signature": ""}
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [thought]}]}
    (message,) = MESSAGES.decode_request(json.dumps(body).encode()).messages
    (part,) = message.parts
    assert isinstance(part, Reasoning)
    assert (part.text, part.seal) == ("I think.", None)
