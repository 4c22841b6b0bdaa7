"""The official Python SDK reads what the codec writes, strictly, and what it writes back is understood."""

from __future__ import annotations

import base64
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from gemini_kit import answering, replies, told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import Message, Role
from ostiary.wire.conversation.events import Event, Failed, Finished, Metered, PartDelta, PartEnd, PartStart
from ostiary.wire.conversation.parts import Reasoning, Seal, Text, ToolCall, ToolResult
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.dialects.gemini_generate.stream_encode import StreamEncoder
from ostiary.wire.dialects.gemini_generate.wire import DIALECT
from ostiary.wire.profile import ANY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the SDK's own dependencies announce as they are imported
    genai: Any = pytest.importorskip("google.genai", reason="the official SDK is not installed")
    types: Any = pytest.importorskip("google.genai.types")

LARGE = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
LOCK = Seal("anthropic_messages", "ErUBCkYI+/==")


def typed(reply: Reply) -> Reply:
    """A reply with nothing in it that the dialect knows and the SDK's types do not."""

    def plain(part: Any) -> Any:
        return msgspec.structs.replace(part, rest=()) if isinstance(part, ToolCall) else part

    choices = [
        msgspec.structs.replace(choice, parts=tuple(plain(part) for part in choice.parts)) for choice in reply.choices
    ]
    return msgspec.structs.replace(reply, choices=tuple(choices))


@LARGE
@given(reply=replies())
def test_every_reply_validates_strictly(reply: Reply) -> None:
    body = DIALECT.encode_reply(typed(reply), answering(model="gemini-3")).body
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a word the SDK does not know is only warned of
        found = types.GenerateContentResponse.model_validate_json(body, strict=True)
    assert len(found.candidates) == len(reply.choices)
    assert found.model_version == "gemini-3"


@LARGE
@given(data=st.data(), reply=replies())
def test_every_chunk_validates_strictly(data: st.DataObject, reply: Reply) -> None:
    writer = StreamEncoder(answering())
    stream = b"".join([*map(writer.encode, data.draw(told(typed(reply)))), writer.end()])
    for frame in stream.split(b"\n\n")[:-1]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            types.GenerateContentResponse.model_validate_json(frame.removeprefix(b"data: "), strict=True)


class _Provider(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, and keeps what was asked."""

    def __init__(self, answers: list[tuple[int, bytes, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Turn)
        self.answers = answers
        self.seen: list[tuple[str, bytes]] = []


class _Turn(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, _Provider)
        server.seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        status, kind, body = server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Type", kind.decode())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's word
        """Silent."""


@contextmanager
def served(*answers: tuple[int, bytes, bytes]) -> Iterator[tuple[Any, _Provider]]:
    server = _Provider(list(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield genai.Client(api_key="k", http_options={"base_url": f"http://127.0.0.1:{server.server_port}"}), server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def stream_of(*events: Event, ping: bytes = b"") -> tuple[int, bytes, bytes]:
    writer = StreamEncoder(answering(id="r-1", model="m"))
    data = ping + b"".join(writer.encode(event) + ping for event in events) + writer.end()
    return 200, DIALECT.stream_type, data


CALL = ToolCall("toolu_1", "get_weather", '{"city": "Rom"}')  # spaced as the SDK writes it
THOUGHT: tuple[Event, ...] = (
    PartStart(0, 0, Reasoning("")),
    PartDelta(0, 0, "hm, "),
    PartDelta(0, 0, "Rom"),
    PartEnd(0, 0, LOCK),
)
CALLED: tuple[Event, ...] = (
    PartStart(0, 1, msgspec.structs.replace(CALL, arguments="")),
    PartDelta(0, 1, CALL.arguments),
    PartEnd(0, 1),
    Finished(0, Finish(Reason.TOOL_CALLS)),
)


def test_a_chat_of_the_sdk_brings_back_thoughts_proofs_and_calls_as_they_were_told() -> None:
    said: tuple[Event, ...] = (PartStart(0, 0, Text("")), PartDelta(0, 0, "warm"), PartEnd(0, 0))
    second = stream_of(*said, Finished(0, Finish(Reason.STOP)))
    with served(stream_of(*THOUGHT, *CALLED, ping=DIALECT.ping), second) as (client, server):
        chat = client.chats.create(model="m")
        list(chat.send_message_stream("how is the weather?"))
        answer = types.Part.from_function_response(name="get_weather", response={"result": "sunny"})
        assert "".join(chunk.text or "" for chunk in chat.send_message_stream(answer)) == "warm"
    path, body = server.seen[1]
    assert path.endswith(DIALECT.path("m", True))
    assert DIALECT.decode_request(body).messages == (
        Message(Role.USER, (Text("how is the weather?"),)),
        Message(Role.ASSISTANT, (Reasoning("hm, Rom", LOCK), CALL)),
        Message(Role.TOOL, (ToolResult("toolu_1", (Text("sunny"),)),)),
    )


def test_a_whole_answer_is_read_with_its_usage_and_brought_back() -> None:
    reply = Reply(choices=(Choice(0, (Reasoning("hm", LOCK), CALL), Finish(Reason.TOOL_CALLS)),))
    body = DIALECT.encode_reply(reply, answering()).body
    with served((200, b"application/json", body), (200, b"application/json", body)) as (client, server):
        found = client.models.generate_content(model="m", contents="hi")
        assert (found.function_calls[0].name, found.function_calls[0].args) == ("get_weather", {"city": "Rom"})
        client.models.generate_content(model="m", contents=[found.candidates[0].content])
    (message,) = DIALECT.decode_request(server.seen[1][1]).messages
    assert isinstance(message, Message)
    assert message.parts == (Reasoning("hm", LOCK), CALL)


def test_a_request_of_the_sdk_is_understood_in_all_it_says() -> None:
    answer = DIALECT.encode_reply(Reply(choices=(Choice(0, (Text("{}"),), Finish(Reason.STOP)),)), answering()).body
    config = types.GenerateContentConfig(
        system_instruction="be brief",
        temperature=0.5,
        max_output_tokens=10,
        stop_sequences=["END"],
        response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}},
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level="LOW"),
        tool_config={"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
        tools=[{"function_declarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {}}}]}],
        labels={"team": "a"},
    )
    picture = types.Part.from_bytes(data=base64.b64decode("+/+/"), mime_type="image/png")
    with served((200, b"application/json", answer)) as (client, server):
        client.models.generate_content(model="m", contents=[picture, "see"], config=config)
    found = DIALECT.decode_request(server.seen[0][1])
    assert found.rest == ()
    assert [message.role for message in found.messages if isinstance(message, Message)] == [Role.SYSTEM, Role.USER]
    assert found.format is not None
    assert found.format.schema is not None
    assert json.loads(bytes(found.format.schema)) == {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}},
    }
    assert (found.sampling.temperature, found.max_output, found.stop) == (0.5, 10, ("END",))
    assert (found.thinking.effort, found.thinking.shown) == ("low", "auto")
    assert b'"+/+/"' in DIALECT.encode_request(found, ANY).body


def test_faults_are_read_before_a_stream_and_within_one() -> None:
    fault = Fault(Kind.RATE_LIMITED, "too fast", retry_after=2.5)
    broken = stream_of(PartStart(0, 0, Text("a")), Failed.of(Fault(Kind.TIMEOUT, "too late")))
    plain = (400, b"application/json", DIALECT.encode_fault(Fault(Kind.INVALID_REQUEST, "no", param="contents")))
    with served(plain, broken) as (client, _):
        with pytest.raises(genai.errors.ClientError) as caught:
            client.models.generate_content(model="m", contents="hi")
        assert (caught.value.code, caught.value.status, caught.value.message) == (400, "INVALID_ARGUMENT", "no")
        with pytest.raises(genai.errors.APIError):
            list(client.models.generate_content_stream(model="m", contents="hi"))
    assert json.loads(DIALECT.encode_fault(fault))["error"]["details"][0]["retryDelay"] == "2.5s"


def test_what_the_sdk_cannot_read_is_a_comment_so_that_none_is_sent() -> None:
    said: tuple[Event, ...] = (PartStart(0, 0, Text("a")), Finished(0, Finish(Reason.STOP)), Metered(Usage(1, 2)))
    with served(stream_of(*said, ping=b": ping\n\n"), stream_of(*said, ping=DIALECT.ping)) as (client, _):
        with pytest.raises(genai.errors.UnknownApiResponseError):
            list(client.models.generate_content_stream(model="m", contents="hi"))
        found = list(client.models.generate_content_stream(model="m", contents="hi"))
    assert found[-1].usage_metadata.total_token_count == 3


def test_tokens_are_counted_for_the_sdk() -> None:
    assert DIALECT.encode_count is not None
    with served((200, b"application/json", DIALECT.encode_count(7))) as (client, server):
        assert client.models.count_tokens(model="m", contents="hi").total_tokens == 7
    assert DIALECT.decode_request(server.seen[0][1]).messages == (Message(Role.USER, (Text("hi"),)),)
