"""What the laws of the Ollama codec are tried on: requests and answers as they stand on the wire, and pivot values."""

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
    Conversation,
    Format,
    Message,
    Role,
    Sampling,
    Shape,
    Thinking,
    Tool,
    UnknownMessage,
    UnknownTool,
)
from ostiary.wire.conversation.events import (
    Aside,
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
    Image,
    Inline,
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
US = "ollama_chat"
WORDS = st.text(max_size=6)
SAID = st.text(min_size=1, max_size=6)
NUMBERS = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=4
)
NAMES = st.sampled_from(["x_new", "truncate", "größe", ""])
ASKED = Conversation(model="m", messages=())
ANSWERING = Answering(id="o-1", created=1, model="m", asked=ASKED)


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


PNG = "iVBORw0KGgoAAA"
IMAGE_DATA = st.sampled_from([PNG, "/9j/4AAQ", "R0lGODlh", "UklGRg", "AAAA", ""])
CONTENT = {"content": WORDS, "images": st.lists(IMAGE_DATA | st.integers(), max_size=2)}
ARGUMENTS = st.dictionaries(WORDS, JSON, max_size=2)
CALLS = st.one_of(
    exactly({"function": exactly({"name": WORDS, "arguments": ARGUMENTS})}, type="function"),
    exactly({"id": SAID, "function": exactly({"name": WORDS, "arguments": ARGUMENTS})}, type="function"),
    shaped({"id": WORDS, "function": exactly({"name": WORDS, "arguments": JSON})}, type="function"),
    shaped({"id": WORDS}, type="mcp"),
    st.integers(),
)
MESSAGES = st.one_of(
    shaped(CONTENT, role="user"),
    shaped(CONTENT, role="system"),
    shaped({**CONTENT, "thinking": WORDS, "tool_calls": st.lists(CALLS, max_size=3)}, role="assistant"),
    exactly({"tool_call_id": WORDS, "tool_name": WORDS, "content": WORDS}, role="tool"),
    shaped({"content": WORDS}, role="control"),
    shaped({"role": WORDS}),
)
TOOLS = st.one_of(
    exactly({"function": shaped({"name": WORDS, "description": WORDS, "parameters": JSON})}, type="function"),
    exactly({}, type="web"),
    JSON,
)
OPTIONS = shaped(
    {
        "temperature": NUMBERS,
        "top_p": NUMBERS,
        "top_k": st.integers(),
        "num_predict": st.integers(),
        "stop": WORDS | st.lists(WORDS, max_size=3),
        "seed": st.integers(),
        "frequency_penalty": NUMBERS,
        "presence_penalty": NUMBERS,
        "num_ctx": st.integers(),
        "mirostat": st.integers(),
    }
)
KNOBS = {
    "tools": st.lists(TOOLS, max_size=3),
    "format": st.sampled_from(["json", "", "xml"]) | st.dictionaries(WORDS, JSON, max_size=2),
    "think": st.booleans() | st.sampled_from(["low", "medium", "high"]),
    "options": OPTIONS,
    "keep_alive": st.integers() | WORDS,
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(),
}
REQUESTS = st.builds(
    lambda rest, messages, model, stream: {**rest, "messages": messages, "model": model, "stream": stream},
    shaped(KNOBS),
    st.lists(MESSAGES, max_size=4),
    WORDS | st.none(),
    st.booleans() | st.just("odd"),
)


def normal(request: dict[str, Any]) -> dict[str, Any]:
    """A request with the members that say what saying nothing says: the content of every message the codec knows, and
    the arguments of a call that has none."""
    known = ("user", "system", "assistant", "tool")
    turns = [
        {"content": "", **turn} if isinstance(turn, dict) and turn.get("role") in known else turn
        for turn in request["messages"]
    ]
    return {**request, "messages": [_with_arguments(turn) for turn in turns]}


def _with_arguments(turn: Any) -> Any:
    calls = turn.get("tool_calls") if isinstance(turn, dict) else None
    if not isinstance(calls, list) or turn.get("role") != "assistant":
        return turn
    return {**turn, "tool_calls": [_called(each) for each in calls]}


def _called(call: Any) -> Any:
    inner = call.get("function") if isinstance(call, dict) else None
    if isinstance(inner, dict) and "arguments" in inner and inner["arguments"] is None and "name" in inner:
        return {**call, "function": {**inner, "arguments": {}}}
    return call


# Values of the pivot, as far as this dialect can say them.

OBJECTS = st.dictionaries(WORDS, JSON, max_size=2).map(raw)
ODD = st.dictionaries(st.sampled_from(["x_a", "x_b"]), JSON, max_size=2)
TELLING = st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.integers() | SAID, max_size=2)


def rests(
    *inside: str, values: st.SearchStrategy[dict[str, Any]] = ODD, binding: bool = False
) -> st.SearchStrategy[Rest]:
    """Members left over at this node, or within its member `inside`."""
    return values.map(lambda odd: tuple(Extra(US, (*inside, name), raw(odd[name]), binding) for name in sorted(odd)))


MAYBE = st.none() | WORDS
IMAGES = st.sampled_from([Image(Inline("image/png", PNG)), Image(Inline("image/jpeg", "/9j/4AAQ"))])
UNKNOWN_IMAGES = st.just(UnknownPart(US, "images", raw("AAAA")))
ARGUMENT_TEXTS = OBJECTS.map(lambda value: bytes(value).decode())
PIVOT_CALLS = st.one_of(
    st.builds(ToolCall, SAID, WORDS, ARGUMENT_TEXTS, rest=rests("function") | rests()),
    st.just(UnknownPart(US, "tool_calls", raw({"type": "mcp", "id": "1"}))),
)


@st.composite
def content(draw: st.DrawFn) -> tuple[Any, ...]:
    words = draw(st.lists(st.builds(Text, SAID), max_size=1))
    return (*words, *draw(st.lists(IMAGES | UNKNOWN_IMAGES, max_size=2)))


@st.composite
def said(draw: st.DrawFn, calls: st.SearchStrategy[Any] = PIVOT_CALLS) -> tuple[Any, ...]:
    """What a model says, in the order this dialect has."""
    thoughts = draw(st.lists(st.builds(Reasoning, SAID), max_size=1))
    return (*thoughts, *draw(content()), *draw(st.lists(calls, max_size=3)))


TURNS = st.one_of(
    st.builds(Message, st.sampled_from([Role.SYSTEM, Role.USER]), content(), rest=rests()),
    st.builds(Message, st.just(Role.ASSISTANT), said(), rest=rests()),
    st.builds(
        lambda result, rest: Message(Role.TOOL, (result,), None, rest),
        st.builds(ToolResult, WORDS, content()),
        rests(),
    ),
    st.just(UnknownMessage(US, raw({"role": "control", "content": "c"}))),
)
FLAGS = st.none() | st.booleans()
COUNTS = st.none() | st.integers(0, 2**60)
PIVOT_TOOLS = st.one_of(
    st.builds(Tool, WORDS, MAYBE, st.none() | OBJECTS, st.none(), rests("function", binding=True)),
    st.just(UnknownTool(US, raw({"type": "web"}))),
)
CONVERSATIONS = st.builds(
    Conversation,
    model=WORDS,
    messages=st.lists(TURNS, max_size=4).map(tuple),
    tools=st.lists(PIVOT_TOOLS, max_size=2).map(tuple),
    format=st.none() | st.just(Format(Shape.JSON)) | st.builds(Format, st.just(Shape.SCHEMA), schema=OBJECTS),
    sampling=st.builds(Sampling, *[st.none() | NUMBERS] * 2, COUNTS, *[st.none() | NUMBERS] * 2, COUNTS),
    thinking=st.builds(Thinking, on=FLAGS) | st.builds(Thinking, effort=st.sampled_from(["low", "medium", "high"])),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    max_output=COUNTS,
    stream=st.booleans(),
    logprobs=FLAGS,
    top_logprobs=COUNTS,
    rest=rests() | rests("options"),
)

TOKENS = st.integers(0, 10**9)
USAGES = st.builds(Usage, TOKENS, TOKENS)
CHANCES = st.builds(Chance, WORDS, st.floats(-100, 0), st.none() | st.just((104, 105)))
SCORES = st.builds(Score, CHANCES, st.lists(CHANCES, max_size=2).map(tuple))


@st.composite
def replies(draw: st.DrawFn, *, plain: bool = False) -> Reply:
    """A reply; `plain`: with nothing but what is documented."""
    calls = st.builds(ToolCall, SAID, WORDS, ARGUMENT_TEXTS)
    parts = draw(said(calls if plain else PIVOT_CALLS))
    ends = [Finish(Reason.STOP), Finish(Reason.LENGTH), Finish(Reason.OTHER, "load", US)]
    if any(isinstance(part, ToolCall) or getattr(part, "place", "") == "tool_calls" for part in parts):
        ends[0] = Finish(Reason.TOOL_CALLS)
    rest = () if plain else draw(rests("message", values=TELLING))
    top = () if plain else draw(rests(values=TELLING))
    scores = tuple(draw(st.lists(SCORES, max_size=3)))
    choice = Choice(0, parts, draw(st.sampled_from(ends)), rest, scores)
    return Reply(choices=(choice,), usage=draw(st.none() | USAGES), model="m", rest=top)


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
        grows = {Text: "text", Reasoning: "text", ToolCall: "arguments"}.get(type(part))
        begun = msgspec.structs.replace(part, **{grows: ""}) if grows else part
        events.append(PartStart(0, index, begun))
        events += [PartDelta(0, index, piece) for piece in pieces(draw, getattr(part, grows) if grows else "")]
        (ends if draw(st.booleans()) else events).append(PartEnd(0, index))
    events += [Scored(0, (score,)) for score in choice.scores]
    ends.sort(key=lambda end: getattr(end, "index", 0))
    events += [*ends, Finished(0, choice.finish)]
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]


@st.composite
def lines(draw: st.DrawFn, body: bytes) -> list[dict[str, Any]]:
    """The lines in which a server would stream the answer of a body."""
    answer = json.loads(body)
    message = answer.pop("message")
    head = {"model": answer["model"], "created_at": answer["created_at"]}
    end = {**answer, "message": {"role": "assistant", "content": ""}}
    scores = end.pop("logprobs", [])

    def line(**said: Any) -> dict[str, Any]:
        return {**head, "message": {"role": "assistant", "content": "", **said}, "done": False}

    found = [line(thinking=piece) for piece in pieces(draw, message.get("thinking", ""))]
    found += [line(content=piece) for piece in pieces(draw, message["content"])]
    found += [line(images=[image]) for image in message.get("images", [])]
    found += [line(tool_calls=[call]) for call in message.get("tool_calls", [])]
    found += [{**line(), "logprobs": [score]} for score in scores]
    return [*found, end]


def ndjson(found: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in found)


def respelled(reply: Reply) -> Reply:
    """The same reply with the JSON it keeps in its plainest spelling: a line escapes what a body need not."""

    def plain(rest: Rest) -> Rest:
        return tuple(msgspec.structs.replace(extra, value=raw(value_of(extra.value))) for extra in rest)

    def part_of(part: Any) -> Any:
        if isinstance(part, UnknownPart):
            return msgspec.structs.replace(part, value=raw(value_of(part.value)))
        if not isinstance(part, ToolCall):
            return part
        text = bytes(raw(json.loads(part.arguments))).decode()
        return msgspec.structs.replace(part, arguments=text, rest=plain(part.rest))

    choices = tuple(
        msgspec.structs.replace(choice, parts=tuple(map(part_of, choice.parts)), rest=plain(choice.rest))
        for choice in reply.choices
    )
    return msgspec.structs.replace(reply, choices=choices, rest=plain(reply.rest))
