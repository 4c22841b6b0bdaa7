"""What the laws of the Cohere codec are tried on: requests and answers as they stand on the wire, and pivot values."""

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
from ostiary.wire.conversation.events import (
    Aside,
    Cited,
    Event,
    Finished,
    Metered,
    Opened,
    PartDelta,
    PartEnd,
    PartStart,
    Scored,
)
from ostiary.wire.conversation.parts import (
    Citation,
    Image,
    Inline,
    Link,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Extra, Rest
from ostiary.wire.dialect import Answering

T = TypeVar("T")
US = "cohere_chat"
WORDS = st.text(max_size=6)
SAID = st.text(min_size=1, max_size=6)
NUMBERS = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=4
)
NAMES = st.sampled_from(["x_new", "raw_prompting", "größe", ""])
ASKED = Conversation(model="m", messages=())
ANSWERING = Answering(id="c-1", created=1, model="m", asked=ASKED)


def body_of(value: object) -> bytes:
    """JSON as a client writes it that is not the codec."""
    return json.dumps(value).encode()


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def value_of(raw_: msgspec.Raw) -> object:
    return json.loads(bytes(raw_))


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


URLS = st.sampled_from(["https://example.com/a.png", "data:image/png;base64,AAAA", "data:,hello", "file"])
CONTENT_PARTS = st.one_of(
    exactly({"text": WORDS}, type="text"),
    exactly({"thinking": WORDS}, type="thinking"),
    exactly({"image_url": exactly({"url": URLS})}, type="image_url"),
    shaped({"image_url": shaped({"url": URLS, "detail": WORDS})}, type="image_url"),
    exactly({"document": exactly({"data": st.dictionaries(WORDS, JSON, max_size=2), "id": WORDS})}, type="document"),
    exactly({"document": exactly({"data": WORDS})}, type="document"),
    shaped({"document": shaped({"data": JSON, "id": WORDS})}, type="document"),
    shaped({"type": WORDS, "text": WORDS}),
    JSON,
)
CONTENTS = WORDS | st.lists(CONTENT_PARTS, max_size=3)
CALLS = st.one_of(
    exactly({"id": WORDS, "function": exactly({"name": WORDS, "arguments": WORDS})}, type="function"),
    shaped({"id": WORDS, "function": shaped({"name": WORDS, "arguments": WORDS})}, type="function"),
    shaped({"id": WORDS}, type="mcp"),
    st.integers(),
)
MESSAGES = st.one_of(
    shaped({"content": CONTENTS}, role="user"),
    shaped({"content": CONTENTS}, role="system"),
    shaped({"content": CONTENTS, "tool_plan": WORDS, "tool_calls": st.lists(CALLS, max_size=3)}, role="assistant"),
    exactly({"content": CONTENTS}, role="tool", tool_call_id="1"),
    shaped({"content": WORDS}, role="chatbot"),
    shaped({"role": WORDS}),
)
TOOLS = st.one_of(
    exactly(
        {"function": exactly({"name": WORDS, "description": WORDS, "parameters": st.dictionaries(WORDS, JSON)})},
        type="function",
    ),
    exactly({}, type="web"),
    JSON,
)
FORMATS = st.one_of(
    exactly({}, type="text"),
    exactly({}, type="json_object"),
    exactly({"json_schema": st.dictionaries(WORDS, JSON, max_size=2)}, type="json_object"),
    shaped({"json_schema": JSON}, type="json_object"),
    exactly({}, type="grammar"),
)
KNOBS = {
    "tools": st.lists(TOOLS, max_size=3),
    "strict_tools": st.booleans(),
    "tool_choice": st.sampled_from(["REQUIRED", "NONE", "AUTO"]),
    "documents": st.lists(WORDS, max_size=2),
    "citation_options": st.just({"mode": "FAST"}),
    "response_format": FORMATS,
    "safety_mode": st.sampled_from(["CONTEXTUAL", "STRICT", "OFF"]),
    "temperature": NUMBERS,
    "p": NUMBERS,
    "k": st.integers(),
    "frequency_penalty": NUMBERS,
    "presence_penalty": NUMBERS,
    "seed": st.integers(),
    "stop_sequences": st.lists(WORDS, max_size=3),
    "max_tokens": st.integers(),
    "logprobs": st.booleans(),
    "thinking": shaped({"type": st.sampled_from(["enabled", "disabled", "odd"]), "token_budget": st.integers()}),
    "priority": st.integers(),
    "stream": st.booleans(),
}
REQUESTS = st.builds(
    lambda rest, messages, model: {**rest, "messages": messages, "model": model},
    shaped(KNOBS),
    st.lists(MESSAGES, max_size=4),
    WORDS | st.none(),
)


# Values of the pivot, as far as this dialect can say them.

OBJECTS = st.dictionaries(WORDS, JSON, min_size=1, max_size=2).map(raw)
ODD = st.dictionaries(st.sampled_from(["x_a", "x_b"]), JSON, max_size=2)
TELLING = st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.integers() | SAID, max_size=2)


def rests(
    *inside: str, values: st.SearchStrategy[dict[str, Any]] = ODD, binding: bool = False
) -> st.SearchStrategy[Rest]:
    """Members left over at this node, or within its member `inside`."""
    return values.map(lambda odd: tuple(Extra(US, (*inside, name), raw(odd[name]), binding) for name in sorted(odd)))


MAYBE = st.none() | WORDS
PLAN: Rest = (Extra(US, ("type",), raw("tool_plan")),)
INLINE = st.builds(Inline, st.sampled_from(["image/png", "image/webp"]), st.text("ABab01+/=", max_size=6))
TEXTS = st.builds(Text, WORDS, rests())
IMAGES = st.builds(Image, INLINE | st.just(Link("https://example.com/a")), MAYBE, rests() | rests("image_url"))
UNKNOWN = st.just(UnknownPart(US, "content", raw({"type": "video", "video": {}})))
DOCUMENTS = st.builds(
    lambda data, id_: Text(
        bytes(data).decode(),
        (Extra(US, ("document", "id"), raw(id_)), Extra(US, ("type",), raw("document"))),
    ),
    OBJECTS,
    WORDS,
)
PIVOT_CALLS = st.one_of(
    st.builds(ToolCall, WORDS, WORDS, WORDS, rest=rests("function") | rests()),
    st.just(UnknownPart(US, "tool_calls", raw({"type": "mcp", "id": "1"}))),
)


@st.composite
def cited(draw: st.DrawFn, text: str, *, plain: bool = False) -> tuple[Citation, ...]:
    """Citations of a text: with sources as Cohere tells them, or with facts of any origin."""
    found = []
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, len(text)))
        if draw(st.booleans()):
            source = {"type": "document", "id": draw(WORDS), "document": {"title": "T", "url": "https://e.x"}}
            rest = (Extra(US, ("sources",), raw([source])), *(() if plain else draw(rests())))
            found.append(Citation(url="https://e.x", title="T", start=start, end=end, rest=rest))
        else:
            found.append(Citation(draw(MAYBE), draw(MAYBE), draw(MAYBE), start, end))
    return tuple(found)


@st.composite
def said(draw: st.DrawFn, words: st.SearchStrategy[str] = WORDS, *, plain: bool = False) -> tuple[Any, ...]:
    """What a model says, in the order this dialect has; `plain`: nothing but what is documented."""
    texts = st.builds(Text, words, st.just(()) if plain else rests())
    kinds = texts | st.builds(Reasoning, words) if plain else texts | st.builds(Reasoning, words) | UNKNOWN
    content = draw(st.lists(kinds, max_size=3))
    content = [
        msgspec.structs.replace(part, citations=draw(cited(part.text, plain=plain))) if isinstance(part, Text) else part
        for part in content
    ]
    plans = draw(st.lists(st.builds(Reasoning, SAID, rest=st.just(PLAN)), max_size=1))
    calls = st.builds(ToolCall, WORDS, WORDS, WORDS) if plain else PIVOT_CALLS
    return (*content, *plans, *draw(st.lists(calls, max_size=2)))


TURNS = st.one_of(
    st.builds(Message, st.just(Role.SYSTEM), st.lists(TEXTS | UNKNOWN, max_size=3).map(tuple), rest=rests()),
    st.builds(Message, st.just(Role.USER), st.lists(TEXTS | IMAGES | UNKNOWN, max_size=3).map(tuple), rest=rests()),
    st.builds(Message, st.just(Role.ASSISTANT), said(), rest=rests()),
    st.builds(
        lambda result, rest: Message(Role.TOOL, (result,), None, rest),
        st.builds(ToolResult, WORDS, st.lists(TEXTS | DOCUMENTS | UNKNOWN, min_size=1, max_size=2).map(tuple)),
        rests(),
    ),
    st.just(UnknownMessage(US, raw({"role": "chatbot", "content": "c"}))),
)
FLAGS = st.none() | st.booleans()
COUNTS = st.none() | st.integers(0, 2**60)


@st.composite
def tools(draw: st.DrawFn) -> tuple[Tool | UnknownTool, ...]:
    strict = draw(FLAGS)
    known = st.builds(Tool, WORDS, MAYBE, st.none() | OBJECTS, st.just(strict), rests("function", binding=True))
    return tuple(draw(st.lists(known | st.just(UnknownTool(US, raw({"type": "web"}))), max_size=2)))


CONVERSATIONS = st.builds(
    Conversation,
    model=WORDS,
    messages=st.lists(TURNS, max_size=4).map(tuple),
    tools=tools(),
    tool_choice=st.none() | st.builds(ToolChoice, st.sampled_from([Call.NONE, Call.REQUIRED])),
    format=st.one_of(
        st.none(),
        st.builds(Format, st.sampled_from([Shape.TEXT, Shape.JSON]), rest=rests()),
        st.builds(Format, st.just(Shape.SCHEMA), schema=OBJECTS, rest=rests()),
    ),
    sampling=st.builds(Sampling, *[st.none() | NUMBERS] * 2, COUNTS, *[st.none() | NUMBERS] * 2, COUNTS),
    thinking=st.builds(Thinking, budget=COUNTS, on=FLAGS),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    max_output=COUNTS,
    stream=FLAGS,
    logprobs=FLAGS,
    rest=rests(),
)

TOKENS = st.integers(0, 10**9)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS)
FINISHES = st.one_of(
    st.sampled_from([Reason.STOP, Reason.LENGTH, Reason.TOOL_CALLS]).map(Finish),
    st.just(Finish(Reason.STOP, "STOP_SEQUENCE", US)),
    st.just(Finish(Reason.OTHER, "NEW_WORD", US)),
)
SCORES = st.builds(Score, st.builds(Chance, WORDS, st.floats(-100, 0)))


@st.composite
def replies(draw: st.DrawFn, *, plain: bool = False) -> Reply:
    parts = draw(said(plain=plain))
    has_content = any(isinstance(part, (Text, Reasoning)) and part.rest != PLAN for part in parts)
    scores = tuple(draw(st.lists(SCORES, max_size=2))) if has_content else ()
    rest = () if plain else draw(rests("message", values=TELLING))
    top = () if plain else draw(rests(values=TELLING))
    return Reply(
        choices=(Choice(0, parts, draw(FINISHES), rest, scores),),
        usage=draw(st.none() | USAGES),
        id="c-1",
        rest=top,
    )


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in one or more pieces."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@st.composite
def told(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The events that tell a reply; its parts one after another, or all open at once."""
    (choice,) = reply.choices
    events: list[Event] = [Opened(reply.id, reply.model), *(Aside(None, extra) for extra in reply.rest)]
    events += [Aside(0, extra) for extra in choice.rest]
    ends: list[Event] = []
    for number, part in enumerate(choice.parts):
        index = number * 7
        text = "" if isinstance(part, UnknownPart) else getattr(part, "arguments", getattr(part, "text", ""))
        empty: dict[str, Any] = {}
        if not isinstance(part, UnknownPart):
            empty = {"arguments" if isinstance(part, ToolCall) else "text": ""}
        empty |= {"citations": ()} if isinstance(part, Text) else {}
        events.append(PartStart(0, index, msgspec.structs.replace(part, **empty)))
        events += [PartDelta(0, index, piece) for piece in pieces(draw, text)]
        events += [Cited(0, index, citation) for citation in getattr(part, "citations", ())]
        (ends if draw(st.booleans()) else events).append(PartEnd(0, index))
    events += [Scored(0, (score,)) for score in choice.scores]
    events += [*ends, Finished(0, choice.finish)]
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> list[dict[str, Any]]:
    """The events in which a server would stream the answer of a body."""
    answer = json.loads(body)
    message = answer["message"]
    events: list[dict[str, Any]] = [
        {"type": "message-start", "id": answer["id"], "delta": {"message": {"role": "assistant", "content": []}}}
    ]
    scores = answer.get("logprobs", [])
    for index, item in enumerate(message.get("content", [])):
        name = item["type"]
        start = {"type": "content-start", "index": index, "delta": {"message": {"content": {"type": name, name: ""}}}}
        events.append(start)
        for piece in pieces(draw, item[name]):
            events.append({"type": "content-delta", "index": index, "delta": {"message": {"content": {name: piece}}}})
        if index == 0:
            for score in scores:
                delta = {"message": {"content": {name: ""}}}
                events.append({"type": "content-delta", "index": 0, "delta": delta, "logprobs": score})
        events.append({"type": "content-end", "index": index})
    for index, citation in enumerate(message.get("citations", [])):
        events.append({"type": "citation-start", "index": index, "delta": {"message": {"citations": citation}}})
        events.append({"type": "citation-end", "index": index})
    for piece in pieces(draw, message.get("tool_plan", "")):
        events.append({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}})
    for index, call in enumerate(message.get("tool_calls", [])):
        function = call["function"]
        begun = {**call, "function": {**function, "arguments": ""}}
        events.append({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": begun}}})
        for piece in pieces(draw, function["arguments"]):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            events.append({"type": "tool-call-delta", "index": index, "delta": delta})
        events.append({"type": "tool-call-end", "index": index})
    end = {"finish_reason": answer["finish_reason"], **({"usage": answer["usage"]} if "usage" in answer else {})}
    events.append({"type": "message-end", "id": answer["id"], "delta": end})
    return events


def sse(events: list[dict[str, Any]]) -> bytes:
    """Server-sent events, in the compact JSON that raw members are compared in."""
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n" for event in events
    )
