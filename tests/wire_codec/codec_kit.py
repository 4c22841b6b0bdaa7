"""What the codec's laws are tried on: requests as clients write them, and values of the pivot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import (
    Call,
    Conversation,
    Format,
    Message,
    Role,
    Sampling,
    Shape,
    Thinking,
    Tool,
    ToolChoice,
    UnknownMessage,
    UnknownTool,
)
from ostiary.wire.conversation.events import Aside, Event, Finished, Metered, Opened, PartDelta, PartEnd, PartStart
from ostiary.wire.conversation.parts import (
    Audio,
    Document,
    Image,
    Inline,
    Link,
    Reasoning,
    Refusal,
    Stored,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Extra, Rest
from ostiary.wire.dialect import Answering

T = TypeVar("T")
US = "openai_chat"
WORDS = st.text(max_size=6)
SAID = st.text(min_size=1, max_size=6)
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=4
)
NAMES = st.sampled_from(["x_new", "cache_control", "prompt_cache_breakpoint", "safe_prompt", "größe", ""])


def answering(*, usage: bool = True, **more: Any) -> Answering:
    """An answer under way to a client who asked for usage, or did not."""
    asked = Conversation(model="m", messages=(), stream_usage=usage)
    return Answering(**{"id": "1", "created": 1, "model": "m", "asked": asked, **more})


def body_of(value: object) -> bytes:
    """JSON as a client writes it that is not the codec."""
    return json.dumps(value).encode()


def value_of(raw: msgspec.Raw) -> object:
    return json.loads(bytes(raw))


def outcome(decode: Callable[[bytes], T], body: bytes) -> tuple[T | None, Kind | None]:
    """What decoding gives: a value, or the kind of its fault. Anything else it raises is an error."""
    try:
        return decode(body), None
    except Fault as fault:
        return None, fault.kind


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


# Requests as JSON: the documented shape, and now and then null, another type, or a member nobody knows.


def shaped(known: Mapping[str, st.SearchStrategy[Any]], **fixed: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of the known members, each as documented, null or of another type, and unknown ones."""
    values = {name: st.one_of(value, value, value, st.none(), JSON) for name, value in known.items()}
    some = st.fixed_dictionaries({}, optional=values)
    return st.builds(lambda odd, usual: {**odd, **usual, **fixed}, st.dictionaries(NAMES, JSON, max_size=1), some)


def exactly(known: Mapping[str, st.SearchStrategy[Any]], **fixed: Any) -> st.SearchStrategy[dict[str, Any]]:
    """As `shaped`, with all of the known members as documented."""
    every = st.fixed_dictionaries(dict(known))
    return st.builds(lambda odd, usual: {**odd, **usual, **fixed}, st.dictionaries(NAMES, JSON, max_size=1), every)


URLS = st.sampled_from(
    ["https://example.com/a.png", "data:image/png;base64,AAAA", "data:text/plain,hello", "data:;base64,AA", "file"]
)
FORMAT_NAMES = st.sampled_from(["wav", "mp3", "ogg"])
CONTENT_PARTS = st.one_of(
    exactly({"text": WORDS}, type="text"),
    exactly({"refusal": WORDS}, type="refusal"),
    exactly({"image_url": exactly({"url": URLS})}, type="image_url"),
    shaped({"image_url": shaped({"url": URLS, "detail": WORDS})}, type="image_url"),
    exactly({"input_audio": exactly({"data": WORDS, "format": FORMAT_NAMES})}, type="input_audio"),
    shaped({"file": shaped({"file_data": URLS, "file_id": WORDS, "filename": WORDS})}, type="file"),
    shaped({"type": WORDS, "text": WORDS}),
    JSON,
)  # fmt: skip
CONTENTS = WORDS | st.lists(CONTENT_PARTS, max_size=3)
CALLS = st.one_of(
    exactly({"id": WORDS, "function": exactly({"name": WORDS, "arguments": WORDS})}, type="function"),
    exactly({"id": WORDS, "custom": exactly({"name": WORDS, "input": WORDS})}, type="custom"),
    shaped({"id": WORDS, "function": shaped({"name": WORDS, "arguments": WORDS})}, type="function"),
    shaped({"id": WORDS}, type="mcp"),
    st.integers(),
)
MESSAGES = st.one_of(
    shaped({"content": CONTENTS, "name": WORDS}, role="user"),
    shaped({"content": CONTENTS, "name": WORDS}, role="system"),
    shaped({"content": CONTENTS}, role="developer"),
    shaped(
        {
            "content": CONTENTS,
            "refusal": WORDS,
            "reasoning_content": WORDS,
            "tool_calls": st.lists(CALLS, max_size=3),
            "audio": st.just({"id": "a"}),
            "function_call": st.just({"name": "f", "arguments": ""}),
        },
        role="assistant",
    ),
    shaped({"content": CONTENTS, "tool_call_id": WORDS}, role="tool"),
    shaped({"content": WORDS, "name": WORDS}, role="function"),
    shaped({"role": WORDS}),
)
TOOLS = st.one_of(
    exactly(
        {"function": shaped({"name": WORDS, "description": WORDS, "parameters": JSON, "strict": st.booleans()})},
        type="function",
    ),
    exactly({"custom": shaped({"name": WORDS})}, type="custom"),
    JSON,
)
PLAIN = st.just({"type": "function", "function": {"name": "f"}})
NAMED = exactly({"function": exactly({"name": WORDS})}, type="function")
TOOL_CHOICES = st.one_of(
    st.sampled_from(["none", "auto", "required", "any"]),
    NAMED,
    PLAIN,
    exactly(
        {
            "allowed_tools": exactly(
                {
                    "mode": st.sampled_from(["auto", "required", "odd"]),
                    "tools": st.lists(PLAIN | NAMED | JSON, max_size=3),
                }
            )
        },
        type="allowed_tools",
    ),
)  # fmt: skip
FORMATS = st.one_of(
    exactly({}, type="text"),
    exactly({}, type="json_object"),
    exactly(
        {"json_schema": shaped({"name": WORDS, "description": WORDS, "schema": JSON, "strict": st.booleans()})},
        type="json_schema",
    ),
    shaped({"json_schema": JSON}, type="json_schema"),
    exactly({}, type="grammar"),
)
KNOBS = {
    "tools": st.lists(TOOLS, max_size=3),
    "tool_choice": TOOL_CHOICES,
    "parallel_tool_calls": st.booleans(),
    "response_format": FORMATS,
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "top_k": st.integers(),
    "frequency_penalty": NUMBERS,
    "presence_penalty": NUMBERS,
    "seed": st.integers(),
    "reasoning_effort": WORDS,
    "stop": WORDS | st.lists(WORDS, max_size=3),
    "max_completion_tokens": st.integers(),
    "max_tokens": st.integers(),
    "n": st.integers(),
    "stream": st.booleans(),
    "stream_options": shaped({"include_usage": st.booleans(), "include_obfuscation": st.booleans()}),
    "user": WORDS,
    "metadata": st.dictionaries(WORDS, WORDS, max_size=2),
    "logit_bias": st.dictionaries(WORDS, st.integers(), max_size=2),
    "modalities": st.lists(WORDS, max_size=2),
}
REQUESTS = st.builds(
    lambda rest, messages, model: {**rest, "messages": messages, "model": model},
    shaped(KNOBS),
    st.lists(MESSAGES, max_size=4),
    WORDS | st.none(),
)


# Values of the pivot, as far as this dialect can say them.


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


OBJECTS = st.dictionaries(WORDS, JSON, max_size=2).map(raw)
ODD = st.dictionaries(st.sampled_from(["x_a", "x_b"]), JSON, max_size=2)
TELLING = st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.integers() | SAID, max_size=2)


def rests(
    *inside: str, values: st.SearchStrategy[dict[str, Any]] = ODD, binding: bool = False
) -> st.SearchStrategy[Rest]:
    """Members left over at this node, or within its member `inside`."""
    return values.map(lambda odd: tuple(Extra(US, (*inside, name), raw(odd[name]), binding) for name in sorted(odd)))


MAYBE = st.none() | WORDS
BASE64 = st.text("ABCDabcd0189+/=", max_size=6)
INLINE = st.builds(Inline, st.sampled_from(["image/png", "application/pdf"]), BASE64)
TEXTS = st.builds(Text, WORDS, rests())
IMAGES = st.builds(Image, INLINE | st.just(Link("https://example.com/a")), MAYBE, rests() | rests("image_url"))
AUDIOS = st.builds(Audio, st.builds(Inline, st.sampled_from(["audio/wav", "audio/mpeg"]), BASE64), rests("input_audio"))
DOCUMENTS = st.builds(Document, INLINE | st.builds(Stored, WORDS, st.just(US)), MAYBE, rests("file"))
UNKNOWN = st.just(UnknownPart(US, "content", raw({"type": "video_url", "video_url": {}})))
CONTENT = TEXTS | IMAGES | AUDIOS | DOCUMENTS | UNKNOWN
PIVOT_CALLS = st.one_of(
    st.builds(ToolCall, WORDS, WORDS, WORDS, st.just(False), rests("function") | rests()),
    st.builds(ToolCall, WORDS, WORDS, WORDS, st.just(True), rests("custom")),
    st.just(UnknownPart(US, "tool_calls", raw({"type": "mcp", "id": "1"}))),
)
ASSISTANT = st.builds(
    lambda *kinds: tuple(part for kind in kinds for part in kind),
    st.lists(st.builds(Reasoning, WORDS), max_size=1),
    st.lists(CONTENT, max_size=3),
    st.lists(st.builds(Refusal, WORDS), max_size=1),
    st.lists(PIVOT_CALLS, max_size=3),
)
TURNS = st.one_of(
    st.builds(
        Message,
        st.sampled_from([Role.SYSTEM, Role.DEVELOPER, Role.USER]),
        st.lists(CONTENT, max_size=3).map(tuple),
        MAYBE,
        rests(),
    ),
    st.builds(Message, st.just(Role.ASSISTANT), ASSISTANT, MAYBE, rests()),
    st.builds(
        lambda result, name, rest: Message(Role.TOOL, (result,), name, rest),
        st.builds(ToolResult, WORDS, st.lists(CONTENT, max_size=2).map(tuple)),
        MAYBE,
        rests(),
    ),
    st.just(UnknownMessage(US, raw({"role": "function", "name": "f", "content": "c"}))),
)
PIVOT_TOOLS = st.one_of(
    st.builds(Tool, WORDS, MAYBE, st.none() | OBJECTS, st.none() | st.booleans(), rests("function", binding=True)),
    st.just(UnknownTool(US, raw({"type": "custom", "custom": {"name": "c"}}))),
)
PIVOT_FORMATS = st.one_of(
    st.builds(Format, st.sampled_from([Shape.TEXT, Shape.JSON]), rest=rests()),
    st.builds(Format, st.just(Shape.SCHEMA), WORDS, MAYBE, st.none() | OBJECTS, st.none() | st.booleans(), rests()),
)
COUNTS = st.none() | st.integers(0, 2**70)
FLAGS = st.none() | st.booleans()
CONVERSATIONS = st.builds(
    Conversation,
    model=WORDS,
    messages=st.lists(TURNS, max_size=4).map(tuple),
    tools=st.lists(PIVOT_TOOLS, max_size=2).map(tuple),
    tool_choice=st.none() | st.builds(ToolChoice, st.sampled_from(Call)) | st.builds(
        ToolChoice, st.sampled_from([Call.AUTO, Call.REQUIRED]), st.lists(WORDS, min_size=1, max_size=2).map(tuple)
    ),
    parallel_calls=FLAGS,
    format=st.none() | PIVOT_FORMATS,
    sampling=st.builds(Sampling, *[st.none() | NUMBERS] * 2, COUNTS, *[st.none() | NUMBERS] * 2, COUNTS),
    thinking=st.builds(Thinking, MAYBE),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    max_output=COUNTS,
    max_text=COUNTS,
    choices=COUNTS,
    stream=FLAGS,
    stream_usage=FLAGS,
    user=MAYBE,
    metadata=st.none() | st.dictionaries(WORDS, WORDS, max_size=2),
    rest=rests(),
)  # fmt: skip

TOKENS = st.integers(0, 10**9)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
FINISHES = st.one_of(
    st.sampled_from([reason for reason in Reason if reason is not Reason.OTHER]).map(Finish),
    st.just(Finish(Reason.OTHER, "eos", US)),
    st.just(Finish(Reason.TOOL_CALLS, "function_call", US)),
)


def answers(calls: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.builds(
        lambda *kinds: tuple(part for kind in kinds for part in kind),
        st.lists(st.builds(Reasoning, SAID), max_size=1),
        st.lists(st.builds(Text, SAID), max_size=1),
        st.lists(UNKNOWN, max_size=1),
        st.lists(st.builds(Refusal, SAID), max_size=1),
        st.lists(calls, max_size=3),
    )


FUNCTIONS = st.builds(ToolCall, SAID, SAID, WORDS, st.just(False), rests("function") | rests())
CUSTOMS = st.builds(ToolCall, SAID, SAID, WORDS, st.just(True))


@st.composite
def replies(draw: st.DrawFn, calls: st.SearchStrategy[Any] = FUNCTIONS | CUSTOMS, *, plain: bool = False) -> Reply:
    """A reply; `plain`: with nothing the official SDK has no type for."""
    choices = []
    for index in range(draw(st.integers(1, 3))):
        parts = draw(answers(calls))
        if plain:
            parts = tuple(part for part in parts if not isinstance(part, UnknownPart))
        finish = draw(FINISHES)
        rest: Rest = () if plain else draw(rests(values=TELLING))
        choices.append(Choice(index, parts, Finish(finish.reason) if plain and finish.word else finish, rest))
    top: Rest = () if plain else draw(rests(values=TELLING))
    usage = draw(st.none() | USAGES)
    return Reply(choices=tuple(choices), usage=usage, id="chatcmpl-1", model="m", rest=top)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in one or more pieces."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@st.composite
def told(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The events that tell a reply; the parts of a choice one after another, or all open at once."""
    events: list[Event] = [Opened(reply.id, reply.model), *(Aside(None, extra) for extra in reply.rest)]
    for choice in reply.choices:
        events += [Aside(choice.index, extra) for extra in choice.rest]
        ends: list[Event] = []
        for number, part in enumerate(choice.parts):
            index = number * 7
            text = "" if isinstance(part, UnknownPart) else getattr(part, "arguments", getattr(part, "text", ""))
            empty = {} if isinstance(part, UnknownPart) else {"arguments" if isinstance(part, ToolCall) else "text": ""}
            events.append(PartStart(choice.index, index, msgspec.structs.replace(part, **empty)))
            events += [PartDelta(choice.index, index, piece) for piece in pieces(draw, text)]
            end = PartEnd(choice.index, index)
            (ends if draw(st.booleans()) else events).append(end)
        events += [*ends, Finished(choice.index, choice.finish)]
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> list[dict[str, Any]]:
    """The chunks in which a provider would stream the answer that `body` is, choices and members interleaved."""
    answer = json.loads(body)
    frame = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    told: list[list[dict[str, Any]]] = []
    for choice in answer["choices"]:
        message, index = choice["message"], choice["index"]
        threads = [
            [{name: piece} for piece in pieces(draw, message[name])]
            for name in ("reasoning_content", "content", "refusal")
            if isinstance(message.get(name), str)
        ]
        calls: list[dict[str, Any]] = []
        for number, call in enumerate(message.get("tool_calls", ())):
            function = call["function"]
            first, *more = pieces(draw, function["arguments"]) or [""]
            calls.append({"tool_calls": [{**call, "index": number, "function": {**function, "arguments": first}}]})
            calls += [{"tool_calls": [{"index": number, "function": {"arguments": piece}}]} for piece in more]
        deltas = draw(interleaved([*threads, calls]))
        opening = {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        closing = {"index": index, "delta": {}, "finish_reason": choice["finish_reason"], "logprobs": None}
        middle = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
        told.append([opening, *middle, closing])
    events = [{**frame, "choices": [choice], "usage": None} for choice in draw(interleaved(told))]
    return [*events, {**frame, "choices": [], "usage": answer["usage"]}] if "usage" in answer else events


@st.composite
def interleaved(draw: st.DrawFn, threads: list[list[Any]]) -> list[Any]:
    """One list of several, each in its own order."""
    left = [list(thread) for thread in threads if thread]
    out = []
    while left:
        thread = left[draw(st.integers(0, len(left) - 1))]
        out.append(thread.pop(0))
        left = [thread for thread in left if thread]
    return out


def sse(events: list[dict[str, Any]], *, done: bool = True) -> bytes:
    data = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
    return data + b"data: [DONE]\n\n" if done else data
