"""Legacy text completions: a prompt becomes a turn, an answer's words a completion, and nothing else is said."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import Conversation, Message, Role, Sampling
from ostiary.wire.conversation.events import Event, Failed, Finished, Metered, PartDelta, PartEnd, PartStart
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import Image, Link, Reasoning, Text, ToolCall
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_chat.completions import DIALECT
from ostiary.wire.profile import ANY

WORDS = st.text(min_size=1, max_size=8)
ASKED = Conversation(model="m", messages=(), stream_usage=True)
ANSWERING = Answering(id="1", created=2, model="m", asked=ASKED)


def asked(**members: Any) -> Conversation:
    return DIALECT.decode_request(json.dumps({"model": "m", "prompt": "Once", **members}).encode())


KNOBS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 99), "temperature": st.floats(0, 2), "top_p": st.floats(0, 1),
        "n": st.integers(1, 4), "stop": st.lists(WORDS, min_size=1, max_size=3), "seed": st.integers(0, 99),
        "stream": st.booleans(), "user": WORDS, "logprobs": st.integers(1, 5), "frequency_penalty": st.floats(0, 2),
        "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
        "suffix": WORDS, "echo": st.just(True), "best_of": st.integers(2, 4), "x_new": st.integers(),
    },
)  # fmt: skip


@given(prompt=WORDS, knobs=KNOBS)
def test_a_request_comes_back_equal(prompt: str, knobs: dict[str, Any]) -> None:
    conversation = asked(prompt=prompt, **knobs)
    encoded = DIALECT.encode_request(conversation, ANY)
    assert DIALECT.decode_request(encoded.body) == conversation
    assert not encoded.losses


def test_a_prompt_is_a_turn_of_the_users() -> None:
    assert asked(prompt=["Once"]) == asked()
    assert asked().messages == (Message(Role.USER, (Text("Once"),)),)


@pytest.mark.parametrize("prompt", [None, 7, ["a", "b"], [1, 2], [[1]], [], {}])
def test_what_is_not_one_text_is_refused_by_name(prompt: object) -> None:
    with pytest.raises(Fault) as caught:
        asked(prompt=prompt)
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, "prompt")


@pytest.mark.parametrize(
    "conversation",
    [
        Conversation(model="m", messages=(Message(Role.SYSTEM, (Text("s"),)), Message(Role.USER, (Text("u"),)))),
        Conversation(model="m", messages=(Message(Role.USER, (Image(Link("https://e.x/a.png")),)),)),
        Conversation(model="m", messages=(Message(Role.USER, (Text("u"),)),), previous="resp_1"),
    ],
)
def test_more_than_one_turn_of_words_is_refused(conversation: Conversation) -> None:
    with pytest.raises(Fault):
        DIALECT.encode_request(conversation, ANY)


def test_a_knob_it_has_no_word_for_is_reported() -> None:
    said = Conversation(model="m", messages=asked().messages, sampling=Sampling(top_k=3), tier="flex")
    assert [loss.where for loss in DIALECT.encode_request(said, ANY).losses] == ["sampling.top_k", "tier"]


REPLIES = st.builds(
    lambda texts, usage: Reply(
        choices=tuple(Choice(n, (Text(text),), Finish(Reason.STOP)) for n, text in enumerate(texts)),
        usage=usage, id="cmpl-1", model="m",
    ),
    st.lists(WORDS, min_size=1, max_size=3),
    st.none() | st.builds(Usage, input=st.integers(0, 99), output=st.integers(0, 99)),
)  # fmt: skip


@given(reply=REPLIES)
def test_a_reply_comes_back_equal(reply: Reply) -> None:
    assert DIALECT.decode_reply(DIALECT.encode_reply(reply, ANSWERING).body) == reply


def told(reply: Reply) -> list[Event]:
    events: list[Event] = []
    for choice in reply.choices:
        (part,) = choice.parts
        assert isinstance(part, Text)
        events += [PartStart(choice.index, 0, Text("")), *(PartDelta(choice.index, 0, letter) for letter in part.text)]
        events += [PartEnd(choice.index, 0), Finished(choice.index, choice.finish)]
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]


@given(reply=REPLIES, places=st.lists(st.integers(0, 10**4), max_size=4))
def test_a_stream_tells_the_same_however_it_is_cut(reply: Reply, places: list[int]) -> None:
    encoder = DIALECT.encoder(ANSWERING)
    stream = b"".join(map(encoder.encode, told(reply))) + encoder.end()
    marks = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    decoder = DIALECT.decoder()
    events: list[Event] = []
    for start, end in itertools.pairwise(marks):
        events += decoder.feed(stream[start:end])
    events += decoder.finish()
    assert decoder.over
    assert fold(events) == reply


@given(reply=REPLIES, lost=st.integers(15, 400))
def test_a_stream_that_is_cut_never_ends_normally(reply: Reply, lost: int) -> None:
    reply = Reply(choices=reply.choices[:1], usage=reply.usage)
    encoder = DIALECT.encoder(ANSWERING)
    stream = b"".join(map(encoder.encode, told(reply)))
    cut = stream[: max(0, len(stream) - lost)]
    decoder = DIALECT.decoder()
    events = [*decoder.feed(cut), *decoder.finish()]
    finished = {event.choice for event in events if isinstance(event, Finished)}
    assert isinstance(events[-1], Failed) or finished == {choice.index for choice in reply.choices}
    again = DIALECT.encoder(ANSWERING)
    again.encode(PartStart(0, 0, Text("")))
    assert b"[DONE]" not in again.end()


def test_thoughts_are_not_part_of_a_completion_and_calls_cannot_be() -> None:
    thought = Reply(choices=(Choice(0, (Reasoning("hm"), Text("yes")), Finish(Reason.STOP)),))
    encoded = DIALECT.encode_reply(thought, ANSWERING)
    assert json.loads(encoded.body)["choices"][0]["text"] == "yes"
    assert [loss.where for loss in encoded.losses] == ["choices.0.parts.0"]
    with pytest.raises(Fault):
        DIALECT.encode_reply(Reply(choices=(Choice(0, (ToolCall("1", "f", "{}"),)),)), ANSWERING)


@given(data=st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_arbitrary_bytes_give_values_or_a_fault(data: bytes) -> None:
    for read in (DIALECT.decode_request, DIALECT.decode_reply):
        try:
            read(data)
        except Fault:
            continue
    decoder = DIALECT.decoder()
    decoder.feed(data)
    assert isinstance([*decoder.feed(b""), *decoder.finish(), Failed(Kind.INTERNAL, "", 500)][-1], Failed)
