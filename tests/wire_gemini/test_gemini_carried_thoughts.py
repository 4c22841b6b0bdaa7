"""What another model thought comes back to it from clients that keep only the proofs of calls, as Gemini CLI does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ostiary.wire.conversation.conversation import Conversation, Message
from ostiary.wire.conversation.parts import Part, Reasoning, Seal, Text, ToolCall
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.seals import carry_thoughts, thoughts_carried
from ostiary.wire.conversation.unfold import unfold
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.gemini_generate.wire import DIALECT

CLAUDE = "anthropic_messages"
THOUGHT = Reasoning("I shall look ☂.", Seal(CLAUDE, "EqQB+proof=="))
HIDDEN = Reasoning("", Seal(CLAUDE, "redacted/data"), hidden=True)
FIRST, SECOND = ToolCall("toolu_1", "read", '{"path":"a"}'), ToolCall("toolu_2", "read", '{"path":"b"}')
ANSWERING = Answering(id="id", created=1, model="m", asked=Conversation(model="m", messages=()))


def told(*parts: Part) -> Reply:
    return Reply(choices=(Choice(0, parts, Finish(Reason.TOOL_CALLS)),), id="id", model="m")


def whole(reply: Reply) -> list[dict[str, Any]]:
    answer = json.loads(DIALECT.encode_reply(reply, ANSWERING).body)
    parts: list[dict[str, Any]] = answer["candidates"][0]["content"]["parts"]
    return parts


def streamed(reply: Reply) -> list[dict[str, Any]]:
    encoder = DIALECT.encoder(ANSWERING)
    data = b"".join(encoder.encode(event) for event in unfold(reply)) + encoder.end()
    chunks = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]
    return [part for chunk in chunks for part in chunk["candidates"][0].get("content", {}).get("parts", ())]


def asked(parts: list[dict[str, Any]]) -> tuple[Part, ...]:
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": parts}]}
    turn = DIALECT.decode_request(json.dumps(body, separators=(",", ":")).encode()).messages[1]
    assert isinstance(turn, Message)
    return turn.parts


def kept_by_the_agent_of_google(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Its history has neither thoughts nor parts without words."""
    return [part for part in parts if not part.get("thought") and part.get("text") != ""]


@pytest.mark.parametrize("say", [whole, streamed])
@pytest.mark.parametrize(
    "parts",
    [
        (THOUGHT, FIRST),
        (THOUGHT, FIRST, SECOND),
        (HIDDEN, FIRST),
        (THOUGHT, HIDDEN, FIRST),
        (THOUGHT, Text("Looking."), FIRST),
        (THOUGHT, FIRST, Reasoning("More.", Seal(CLAUDE, "more")), SECOND),
    ],
)
def test_thoughts_come_back_whether_the_client_keeps_them_or_not(say: Any, parts: tuple[Part, ...]) -> None:
    said = say(told(*parts))
    assert asked(kept_by_the_agent_of_google(said)) == parts
    assert asked([part for part in said if part != {"text": ""}]) == parts


@pytest.mark.parametrize("say", [whole, streamed])
def test_googles_own_proofs_stay_as_they_are(say: Any) -> None:
    own = ToolCall("1", "read", "{}", seal=Seal("gemini_generate", "AbC="))
    said = say(told(Reasoning("Hm."), own))
    assert [part["thoughtSignature"] for part in said if "functionCall" in part] == ["AbC="]


def test_only_what_was_carried_is_taken_for_thoughts() -> None:
    assert thoughts_carried(carry_thoughts((THOUGHT, HIDDEN))) == (THOUGHT, HIDDEN)
    for text in ("", "EqQB", "b3N0aWFyeTEK", "b3N0aWFyeTEK!", carry_thoughts((THOUGHT,))[:-8]):
        assert thoughts_carried(text) == ()
