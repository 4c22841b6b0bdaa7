"""The official types of OpenAI and AWS take the corpus, and every request and answer written in their dialects."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import golden_matrix as matrix
import msgspec
import pytest
from golden_corpus import File, files, of_kind
from golden_gaps import judge

from ostiary.wire.registry import DIALECTS

Form = Callable[[Any], object]
TYPED = ("openai_chat", "openai_responses", "bedrock_converse")
UNDOCUMENTED = ("unknown_members", "unknown_parts")  # they are there to be none of the documented form
_BYTES = ("bytes", "redactedContent")


@cache
def forms() -> dict[tuple[str, str], Form]:
    """What is raised by no document of the documented form, by dialect and kind. SDKs take long to import."""
    import botocore.session
    from botocore.validate import ParamValidator
    from openai.types import chat, responses
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
    from pydantic import TypeAdapter

    model = botocore.session.get_session().get_service_model("bedrock-runtime")

    def bedrock(name: str, **more: Any) -> Form:
        shape = model.shape_for(name)

        def check(document: Any) -> None:
            report = ParamValidator().validate({**_with_bytes(document), **more}, shape)
            if report.has_errors():
                raise ValueError(report.generate_report())

        return check

    asked = {
        "openai_chat": TypeAdapter(CompletionCreateParamsNonStreaming).validate_python,
        "openai_responses": TypeAdapter(ResponseCreateParamsNonStreaming).validate_python,
    }
    event = TypeAdapter(responses.ResponseStreamEvent).validate_python
    return {
        ("openai_chat", "request"): lambda document: asked["openai_chat"](_once(document)),
        ("openai_chat", "reply"): lambda document: chat.ChatCompletion.model_validate(document, strict=True),
        ("openai_chat", "stream"): lambda one: chat.ChatCompletionChunk.model_validate(one, strict=True),
        ("openai_responses", "request"): lambda document: asked["openai_responses"](_once(document)),
        ("openai_responses", "reply"): lambda document: responses.Response.model_validate(document),
        ("openai_responses", "stream"): lambda one: event(one),
        ("bedrock_converse", "request"): bedrock("ConverseRequest", modelId="m"),
        ("bedrock_converse", "reply"): bedrock("ConverseResponse"),
        ("bedrock_converse", "stream"): bedrock("ConverseStreamOutput"),
    }


def _once(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "stream"}


def _with_bytes(value: Any) -> Any:
    """A document with bytes where JSON has base64."""
    if isinstance(value, list):
        return [_with_bytes(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64decode(one) if name in _BYTES and isinstance(one, str) else _with_bytes(one)
        for name, one in value.items()
    }


def misshapen(dialect: str, kind: str, documents: Iterable[Any]) -> list[str]:
    """What the official types say against documents."""
    found = []
    for document in documents:
        try:
            forms()[dialect, kind](document)
        except ValueError as error:
            found.append(str(error)[:2000])
    return found


def messages(dialect: str, data: bytes) -> list[Any]:
    """The messages of a stream that have a type of their own."""
    told = matrix.frames(dialect, data)
    if dialect == "bedrock_converse":
        return [{name: message} for name, message in told]
    return [one for _, one in told if isinstance(one, dict) and "error" not in one and one.get("type") != "keepalive"]


DOCUMENTED = [one for one in files() if one.dialect in TYPED and one.kind != "error" and one.case not in UNDOCUMENTED]


@pytest.mark.parametrize("file", DOCUMENTED, ids=lambda file: file.id)
def test_the_corpus_is_of_the_documented_form(file: File) -> None:
    data = file.wire()
    told = messages(file.dialect, data) if file.kind == "stream" else [msgspec.json.decode(data)]
    assert misshapen(file.dialect, file.kind, told) == []


def written(kind: str) -> pytest.MarkDecorator:
    """Every file of a kind, of a documented form, with every dialect that has official types here."""
    found = [(file, name) for file in of_kind(kind) for name in TYPED if file.case not in UNDOCUMENTED]
    return pytest.mark.parametrize(("file", "target"), found, ids=lambda one: getattr(one, "id", one))


@written("request")
def test_requests_are_of_the_documented_form(file: File, target: str) -> None:
    told = matrix.request(matrix.asked(file), target)
    documents = [] if told.refused else [msgspec.json.decode(told.body)]
    judge(f"form of {file.id} -> {target}", misshapen(target, "request", documents))


@written("reply")
def test_answers_are_of_the_documented_form(file: File, target: str) -> None:
    told = matrix.reply(DIALECTS[file.dialect].decode_reply(file.wire()), target)
    documents = [] if told.refused else [msgspec.json.decode(told.body)]
    judge(f"form of {file.id} -> {target}", misshapen(target, "reply", documents))


@written("stream")
def test_streams_are_of_the_documented_form(file: File, target: str) -> None:
    told = matrix.stream(matrix.events(file.dialect, file.wire()), target)
    judge(f"form of {file.id} -> {target}", misshapen(target, "stream", messages(target, told.body)))
