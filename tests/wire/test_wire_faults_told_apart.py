"""In every dialect a client can tell a request that is too long, or against a policy, from any other wrong request."""

from __future__ import annotations

import msgspec
import pytest

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.wire.conversation.events import Failed
from ostiary.wire.registry import DIALECTS

KINDS = (Kind.CONTEXT_WINDOW, Kind.CONTENT_POLICY)


def fault(kind: Kind) -> Fault:
    return Fault(kind, "no", origin=Origin.UPSTREAM)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DIALECTS)
def test_what_one_gateway_writes_another_understands(name: str, kind: Kind) -> None:
    told = DIALECTS[name].encode_fault(fault(kind))
    assert DIALECTS[name].decode_fault(400, told, None).kind is kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DIALECTS)
def test_the_same_within_a_stream(name: str, kind: Kind) -> None:
    decoder = DIALECTS[name].decoder()
    failed = decoder.feed(DIALECTS[name].encode_fault_event(fault(kind)))[-1]
    assert isinstance(failed, Failed)
    assert failed.kind is kind


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses"])
def test_the_openai_envelope_names_them_and_gives_the_status_of_all_others(name: str) -> None:
    codes = {}
    for kind in (*KINDS, Kind.UPSTREAM_REJECTED, Kind.INVALID_REQUEST):
        error = msgspec.json.decode(DIALECTS[name].encode_fault(fault(kind)))["error"]
        codes[kind] = (error["type"], error["code"])
    assert codes == {
        Kind.CONTEXT_WINDOW: ("invalid_request_error", "context_length_exceeded"),
        Kind.CONTENT_POLICY: ("invalid_request_error", "content_policy_violation"),
        Kind.UPSTREAM_REJECTED: ("bad_request_error", "400"),
        Kind.INVALID_REQUEST: ("bad_request_error", "400"),
    }


def test_an_error_event_of_the_responses_dialect_has_the_code_that_clients_look_for() -> None:
    event = DIALECTS["openai_responses"].encode_fault_event(fault(Kind.CONTEXT_WINDOW))
    assert b'"code":"context_length_exceeded"' in event


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("anthropic_messages", b'"prompt is too long: '),
        ("bedrock_converse", b'"Input is too long for requested model.'),
        ("cohere_chat", b'"too many tokens: '),
        ("gemini_generate", b'"The input token count exceeds the maximum number of tokens allowed: '),
        ("ollama_chat", b'"the input length exceeds the context length: '),
    ],
)
def test_elsewhere_the_message_begins_with_the_words_that_clients_look_for(name: str, words: bytes) -> None:
    assert words in DIALECTS[name].encode_fault(fault(Kind.CONTEXT_WINDOW))
