"""Claude models refuse knobs that do not go together: those that would be refused are left out, and told."""

from __future__ import annotations

import hashlib
import json

import pytest

from ostiary.wire.conversation.conversation import Conversation, Message, Role, Sampling, Thinking
from ostiary.wire.conversation.parts import Text
from ostiary.wire.conversation.unknown import Loss, LossKind
from ostiary.wire.dialect import Dialect
from ostiary.wire.profile import ANY, Profile, Thinks
from ostiary.wire.registry import DIALECTS

HI = (Message(Role.USER, (Text("hi"),)),)
BY_BUDGET, ADAPTIVE = Profile(thinks=Thinks.BUDGET), Profile(thinks=Thinks.ADAPTIVE)
THINKING = Thinking(on=True, budget=2000)
MESSAGES, CONVERSE = DIALECTS["anthropic_messages"], DIALECTS["bedrock_converse"]


def knobs(dialect: Dialect, profile: Profile, sampling: Sampling, thinking: Thinking) -> tuple[Sampling, set[str]]:
    """The knobs that are sent, and those that are told to be lost."""
    asked = Conversation(model="m", messages=HI, sampling=sampling, thinking=thinking, max_output=5000)
    encoded = dialect.encode_request(asked, profile)
    lost = {loss.where.removeprefix("sampling.") for loss in encoded.losses if loss.where.startswith("sampling.")}
    return dialect.decode_request(encoded.body).sampling, lost


@pytest.mark.parametrize("dialect", [MESSAGES, CONVERSE], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("profile", [BY_BUDGET, ADAPTIVE], ids=lambda profile: profile.thinks)
@pytest.mark.parametrize(
    ("asked", "thinking", "sent", "lost"),
    [
        (Sampling(1, 0.95, 64), THINKING, Sampling(top_p=0.95), {"top_k"}),  # what Gemini CLI sends
        (Sampling(0.5, 0.5), THINKING, Sampling(), {"temperature", "top_p"}),
        (Sampling(0.5, 0.5, 7), Thinking(), Sampling(0.5, None, 7), {"top_p"}),
        (Sampling(0.5), Thinking(), Sampling(0.5), set()),
        (Sampling(top_p=0.5), Thinking(on=False), Sampling(top_p=0.5), set()),
    ],
)
def test_knobs_that_do_not_go_together_are_left_out_and_told(
    dialect: Dialect, profile: Profile, asked: Sampling, thinking: Thinking, sent: Sampling, lost: set[str]
) -> None:
    assert knobs(dialect, profile, asked, thinking) == (sent, lost)


@pytest.mark.parametrize("dialect", [MESSAGES, CONVERSE], ids=lambda dialect: dialect.name)
def test_models_of_other_families_take_all_knobs(dialect: Dialect) -> None:
    assert knobs(dialect, ANY, Sampling(0.5, 0.5, 7), THINKING) == (Sampling(0.5, 0.5, 7), set())


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses"])
def test_a_long_id_of_an_end_user_goes_to_openai_as_its_digest(name: str) -> None:
    long = json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": "s" * 36})
    encoded = DIALECTS[name].encode_request(Conversation(model="m", messages=HI, user=long), ANY)
    told = DIALECTS[name].decode_request(encoded.body).user
    assert told == hashlib.sha256(long.encode()).hexdigest()
    assert encoded.losses == (Loss(LossKind.KNOB, "user"),)
    short = DIALECTS[name].encode_request(Conversation(model="m", messages=HI, user="u" * 64), ANY)
    assert (DIALECTS[name].decode_request(short.body).user, short.losses) == ("u" * 64, ())
