"""Every case in every dialect still means the same, whatever its snapshot looks like."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import golden_matrix as matrix
import msgspec
import pytest
from golden_corpus import NAMES, PROFILES, File, of_kind
from golden_gaps import judge
from golden_meaning import Meaning, of_reply, of_request, sayable, undeclared

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.events import Event, Failed, PartDelta, PartStart
from ostiary.wire.conversation.parts import Text
from ostiary.wire.conversation.reply import Reason, Reply
from ostiary.wire.conversation.unknown import LossKind
from ostiary.wire.registry import DIALECTS

PLAIN = ("plain_text", "system_prompt", "several_turns", "several_choices_fewer", "no_store", "tool_definition",
         "tool_result", "parallel_results")  # fmt: skip
DEFAULT_CAP = 4096  # of the Messages dialect, which has to name one
ALWAYS_STRICT = ("anthropic_messages", "bedrock_converse", "gemini_generate")  # a schema for the answer binds
WITHOUT_FILTER = ("ollama_chat",)  # it has no word for an answer that was filtered
FILTER_IS_ERROR = "cohere_chat"  # it tells such an answer as one that failed


def pairs(kind: str, cases: Container[str] | None = None, **more: bool) -> pytest.MarkDecorator:
    """Every file of a kind, of these cases only where they are named, with every dialect."""
    chosen = [file for file in of_kind(kind) if cases is None or file.case in cases]
    chosen = [file for file in chosen if all(bool(file.about.get(key)) is value for key, value in more.items())]
    found = [(file, name) for file in chosen for name in NAMES]
    return pytest.mark.parametrize(("file", "target"), found, ids=lambda one: getattr(one, "id", one))


@pairs("request")
def test_a_request_means_the_same_but_for_what_is_declared_lost(file: File, target: str) -> None:
    asked = matrix.asked(file)
    problems = []
    for profile in {PROFILES[file.about.get("profile", "any")], PROFILES["any"]}:
        told = matrix.request(asked, target, profile)
        if told.refused is None:
            back = DIALECTS[target].decode_request(told.body)
            problems += undeclared(expected(of_request(asked), target), of_request(back), told.losses)
    judge(f"{file.id} -> {target}", problems)


def expected(meaning: Meaning, target: str) -> Meaning:
    """What a request means in a dialect, where the dialect says some of it without a word."""
    if target == "anthropic_messages" and meaning["cap"] is None:
        meaning["cap"] = DEFAULT_CAP
    if target not in ("openai_chat", "openai_responses") and meaning["store"] is False:
        meaning["store"] = None  # nobody else stores answers
    if target in ALWAYS_STRICT:
        meaning["format.strict"] = False
    return meaning


@pairs("request")
def test_a_refusal_names_its_field_and_lets_another_target_try(file: File, target: str) -> None:
    refused = matrix.request(matrix.asked(file), target).refused
    assert target != file.dialect or refused is None
    assert refused is None or (refused.kind is Kind.INVALID_REQUEST and bool(refused.param))


@pairs("request", PLAIN)
def test_what_every_client_says_is_no_wish_that_could_be_lost(file: File, target: str) -> None:
    """Where `drop_params` is false a lost wish or unknown member refuses the request: plain ones must not have any."""
    losses = matrix.request(matrix.asked(file), target).losses
    wishes = [f"{one.kind} {one.where}" for one in losses if one.kind in (LossKind.KNOB, LossKind.UNKNOWN)]
    judge(f"wishes of {file.id} -> {target}", wishes)


@pairs("reply")
def test_an_answer_means_the_same_but_for_what_is_declared_lost(file: File, target: str) -> None:
    answer = DIALECTS[file.dialect].decode_reply(file.wire())
    told = matrix.reply(answer, target)
    if told.refused is None:
        judge(f"{file.id} -> {target}", differences(answer, matrix.answer(target, told.body), told, target))


@pairs("stream", fails=False)
def test_a_stream_means_the_same_but_for_what_is_declared_lost(file: File, target: str) -> None:
    events = matrix.events(file.dialect, file.wire())
    answer = matrix.folded(events)
    assert isinstance(answer, Reply)
    told = matrix.stream(events, target)
    if told.refused is None:
        back = matrix.folded(matrix.events(target, told.body))
        judge(f"{file.id} -> {target}", differences(answer, back, told, target))


def differences(before: Reply, after: Reply | Fault, told: matrix.Told, target: str) -> list[str]:
    """What of an answer is another, and no loss tells."""
    filtered = any(choice.finish.reason is Reason.CONTENT_FILTER for choice in before.choices)
    if isinstance(after, Fault):
        return [] if filtered and target == FILTER_IS_ERROR else [repr(after)]
    meant, means = of_reply(before), of_reply(after)
    for choice in before.choices:
        if choice.finish.reason is Reason.OTHER or (filtered and target in WITHOUT_FILTER):
            del meant[f"choices.{choice.index}.finish"]
    used, stated = sayable(before.usage, target), sayable(after.usage, target)
    counted = [f"usage: {used} became {stated}"] if used != stated else []
    return undeclared(meant, means, told.losses) + counted


BOTH = [
    (one, two)
    for one in of_kind("stream")
    for two in of_kind("reply")
    if (one.case, one.dialect) == (two.case, two.dialect)
]


@pytest.mark.parametrize(("stream", "whole"), BOTH, ids=lambda file: file.id)
def test_a_stream_tells_what_the_whole_answer_of_its_case_tells(stream: File, whole: File) -> None:
    answer = matrix.folded(matrix.events(stream.dialect, stream.wire()))
    assert isinstance(answer, Reply)
    reply = DIALECTS[whole.dialect].decode_reply(whole.wire())
    assert of_reply(answer) == of_reply(reply)
    assert answer.usage == reply.usage


@pairs("stream", fails=True)
def test_a_stream_that_failed_never_ends_as_if_it_had_not(file: File, target: str) -> None:
    events = matrix.events(file.dialect, file.wire())
    assert isinstance(events[-1], Failed)
    told = matrix.stream(events, target)
    back = matrix.events(target, told.body)
    assert isinstance(back[-1], Failed)
    assert words(back) == words(events)
    problems = [name for name, frame in matrix.frames(target, told.body) if ends(target, name, frame)]
    judge(f"{file.id} -> {target}", problems)


def words(events: list[Event]) -> str:
    """What a stream told before it failed."""
    texts = {(one.choice, one.index) for one in events if isinstance(one, PartStart) and isinstance(one.part, Text)}
    return "".join(one.text for one in events if isinstance(one, PartDelta) and (one.choice, one.index) in texts)


def ends(dialect: str, name: str, frame: Any) -> bool:
    """Whether a message of a stream is what a client takes for its normal end."""
    match dialect:
        case "openai_chat":
            return bool(frame == "[DONE]")
        case "openai_responses":
            return name in ("response.completed", "response.incomplete")
        case "anthropic_messages":
            return name == "message_stop"
        case "bedrock_converse":
            return name in ("messageStop", "metadata")
        case "gemini_generate":
            return any("finishReason" in candidate for candidate in frame.get("candidates", ()))
        case "cohere_chat":
            return name == "message-end" and "error" not in frame["delta"]
    return frame.get("done") is True


@pairs("error")
def test_an_error_is_understood_and_told_in_the_clients_words(file: File, target: str) -> None:
    fault = matrix.fault_of(file)
    assert fault.kind == file.about["kind"]
    told = matrix.error(fault, file.dialect, target)
    again = DIALECTS[target].decode_fault(told.status, told.body, None)
    told_apart = (Kind.CONTEXT_WINDOW, Kind.UPSTREAM_RATE_LIMIT, Kind.CONTENT_POLICY)
    lost = again.kind is Kind.BAD_ANSWER or (fault.kind in told_apart and again.kind is not fault.kind)
    judge(f"{file.id} -> {target}", [again.kind] if lost else [])
    assert isinstance(msgspec.json.decode(told.body), dict)


@pairs("error", ("auth",))
def test_what_a_provider_says_of_the_gateways_credential_reaches_nobody(file: File, target: str) -> None:
    fault = matrix.fault_of(file)
    assert (fault.kind, fault.answer, fault.status) == (Kind.UPSTREAM_AUTH, None, 502)
    assert b"key" not in matrix.error(fault, file.dialect, target).body


def test_every_refusal_is_a_fault_of_the_clients_request_or_of_the_providers_answer() -> None:
    for file in of_kind("reply"):
        answer = DIALECTS[file.dialect].decode_reply(file.wire())
        for target in NAMES:
            refused = matrix.reply(answer, target).refused
            assert refused is None or (isinstance(refused, Fault) and bool(refused.param))
