"""A request keeps its meaning through the pivot, and its every member: unknown is a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from responses_kit import CONVERSATIONS, REQUESTS, body_of, outcome

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.unknown import LossKind
from ostiary.wire.dialects.openai_responses.request import decode_request, encode_request
from ostiary.wire.profile import ANY


@given(request=REQUESTS)
def test_every_member_of_a_request_comes_back_with_its_value(request: dict[str, Any]) -> None:
    encoded = encode_request(decode_request(body_of(request)), ANY)
    assert json.loads(encoded.body) == request
    assert encoded.losses == ()


@given(conversation=CONVERSATIONS)
def test_a_conversation_comes_back_equal(conversation: Conversation) -> None:
    encoded = encode_request(conversation, ANY)
    assert decode_request(encoded.body) == conversation
    assert not [loss for loss in encoded.losses if loss.kind is not LossKind.MARK]


@given(body=st.binary(max_size=60) | st.builds(body_of, REQUESTS).map(lambda body: body[:-3] + body[-2:]))
def test_arbitrary_bytes_are_a_conversation_or_a_fault(body: bytes) -> None:
    value, fault = outcome(decode_request, body)
    assert isinstance(value, Conversation) or fault in (Kind.MALFORMED, Kind.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.MALFORMED),
        (b"[]", Kind.MALFORMED),
        (b'{"input":"\xff"}', Kind.MALFORMED),
        (b'{"input":{}}', Kind.INVALID_REQUEST),
        (b'{"input":[1]}', Kind.INVALID_REQUEST),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        decode_request(body)
    assert caught.value.kind is kind


@pytest.mark.parametrize("depth", [64, 500, 900, 950, 980, 990, 995, 1000, 100_000])
@pytest.mark.parametrize(
    "place",
    [
        "%s",
        '{"input":%s}',
        '{"input":[{"role":"user","content":[%s]}]}',
        '{"input":[{"type":"reasoning","summary":[%s]}]}',
        '{"input":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"","annotations":[%s]}]}]}',
        '{"input":[],"x":%s}',
        '{"input":[],"text":{"format":%s}}',
    ],
)
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_dos_01_deep_nesting_is_a_value_or_a_fault(depth: int, place: str, pair: str) -> None:
    nest = "[" * depth + "]" * depth if pair == "[]" else '{"a":' * depth + "1" + "}" * depth
    value, fault = outcome(decode_request, (place % nest).encode())
    assert fault in (None, Kind.MALFORMED, Kind.INVALID_REQUEST)
    assert value is None or encode_request(value, ANY).body


def test_a_large_request_takes_time_in_proportion() -> None:
    turn = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 50}] * 20}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    body = body_of({"model": "m", "input": [turn, call] * 300 + [call] * 3000, **{f"x{n}": n for n in range(20_000)}})
    assert json.loads(encode_request(decode_request(body), ANY).body) == json.loads(body)
