"""What the laws of the Responses dialect are tried on: requests as clients write them, and values of the pivot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
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
    Audio,
    Cache,
    Citation,
    Document,
    Image,
    Inline,
    Link,
    Part,
    Reasoning,
    Refusal,
    Seal,
    Stored,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Extra, Rest
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_responses.request import decode_request

T = TypeVar("T")
US = "openai_responses"
UNHURRIED = settings(deadline=None)  # thousands of pieces, or models built at their first use
WORDS = st.text(max_size=6)
SAID = st.text(min_size=1, max_size=6)
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=4
)
NAMES = st.sampled_from(["x_new", "namespace", "caller", "phase", "größe", "item", "is", ""])
PLACES = st.lists(st.integers(0, 20_000), max_size=10)


def body_of(value: object) -> bytes:
    """JSON as a client writes it that is not the codec."""
    return json.dumps(value).encode()


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def value_of(value: msgspec.Raw) -> object:
    return json.loads(bytes(value))


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
BREAKPOINTS = st.sampled_from([{"mode": "explicit"}, {"mode": "explicit", "ttl": "30m"}, {"mode": "x"}, {}])
INPUT_PARTS = st.one_of(
    exactly({"text": WORDS}, type="input_text"),
    shaped({"text": WORDS, "prompt_cache_breakpoint": BREAKPOINTS}, type="input_text"),
    shaped({"image_url": URLS, "file_id": WORDS, "detail": WORDS}, type="input_image"),
    exactly({"image_url": URLS}, type="input_image"),
    shaped({"file_data": URLS, "file_url": URLS, "file_id": WORDS, "filename": WORDS}, type="input_file"),
    exactly(
        {"input_audio": exactly({"data": WORDS, "format": st.sampled_from(["wav", "mp3", "ogg"])})}, type="input_audio"
    ),
    exactly({"text": WORDS}, type="output_text"),
    exactly({"refusal": WORDS}, type="refusal"),
    shaped({"type": WORDS, "text": WORDS}),
    JSON,
)
ANNOTATIONS = st.one_of(
    exactly(
        {"url": WORDS, "title": WORDS, "start_index": st.integers(), "end_index": st.integers()}, type="url_citation"
    ),
    exactly({"file_id": WORDS, "index": st.integers()}, type="file_citation"),
    st.integers(),
)
OUTPUT_PARTS = st.one_of(
    exactly({"text": WORDS}, type="output_text"),
    exactly({"text": WORDS, "annotations": st.lists(ANNOTATIONS, max_size=2)}, type="output_text"),
    shaped({"text": WORDS, "logprobs": JSON}, type="output_text"),
    exactly({"text": WORDS}, type="input_text"),
    exactly({"refusal": WORDS}, type="refusal"),
    JSON,
)
STATUSES = st.sampled_from(["completed", "incomplete"])
NAMED = {"id": WORDS, "status": STATUSES}
INPUTS = WORDS | st.lists(INPUT_PARTS, max_size=3)
PIECES = st.lists(exactly({"text": WORDS}, type="summary_text"), max_size=2)
RAW_PIECES = st.lists(exactly({"text": WORDS}, type="reasoning_text"), max_size=2)
CALL = {"call_id": st.sampled_from(["c1", "c2"]), "name": WORDS}
OUTPUTS = WORDS | st.lists(INPUT_PARTS, max_size=2)
ITEMS = st.one_of(
    exactly({"content": INPUTS, "role": st.sampled_from(["user", "system", "developer", "critic"])}),
    exactly({"content": INPUTS, "role": st.sampled_from(["user", "system", "developer"])}, type="message"),
    shaped({"content": INPUTS, **NAMED}, type="message", role="user"),
    exactly({"content": WORDS}, role="assistant"),
    exactly({"content": st.lists(OUTPUT_PARTS, max_size=3)}, role="assistant", type="message"),
    shaped({"content": st.lists(OUTPUT_PARTS, max_size=3), **NAMED}, role="assistant", type="message"),
    exactly({"summary": PIECES}, type="reasoning"),
    shaped({"summary": PIECES, "content": RAW_PIECES, "encrypted_content": WORDS, **NAMED}, type="reasoning"),
    exactly({**CALL, "arguments": WORDS}, type="function_call"),
    shaped({**CALL, "arguments": WORDS, **NAMED}, type="function_call"),
    exactly({**CALL, "input": WORDS}, type="custom_tool_call"),
    exactly({"call_id": CALL["call_id"], "output": OUTPUTS}, type="function_call_output"),
    exactly({"call_id": CALL["call_id"], "output": OUTPUTS}, type="custom_tool_call_output"),
    shaped({"call_id": WORDS, "output": OUTPUTS, **NAMED}, type="function_call_output"),
    exactly({"id": WORDS}, type="web_search_call"),
    exactly({"id": WORDS}, type="item_reference"),
    exactly({"id": WORDS}),
    exactly({"encrypted_content": WORDS}, type="compaction"),
    shaped({"role": WORDS, "type": WORDS}),
)
TOOLS = st.one_of(
    shaped({"name": WORDS, "description": WORDS, "parameters": JSON, "strict": st.booleans()}, type="function"),
    exactly({"name": WORDS}, type="function"),
    exactly({"name": WORDS}, type="custom"),
    exactly({}, type="web_search"),
    JSON,
)
FUNCTION = exactly({"name": WORDS}, type="function") | st.just({"type": "function", "name": "f"})
TOOL_CHOICES = st.one_of(
    st.sampled_from(["none", "auto", "required", "any"]),
    FUNCTION,
    exactly({}, type="web_search_preview"),
    exactly(
        {"mode": st.sampled_from(["auto", "required", "none", "odd"]), "tools": st.lists(FUNCTION | JSON, max_size=3)},
        type="allowed_tools",
    ),
)
FORMATS = st.one_of(
    exactly({}, type="text"),
    exactly({}, type="json_object"),
    exactly({"name": WORDS}, type="json_schema"),
    exactly({"name": WORDS, "description": WORDS, "schema": JSON, "strict": st.booleans()}, type="json_schema"),
    exactly({}, type="grammar"),
)
INCLUDES = st.lists(
    st.sampled_from(["reasoning.encrypted_content", "message.output_text.logprobs", "file_search_call.results"]),
    max_size=3,
)
KNOBS = {
    "instructions": WORDS,
    "tools": st.lists(TOOLS, max_size=3),
    "tool_choice": TOOL_CHOICES,
    "parallel_tool_calls": st.booleans(),
    "text": shaped({"format": FORMATS, "verbosity": st.sampled_from(["low", "high"])}),
    "reasoning": shaped({"effort": st.sampled_from(["none", "low", "high"]), "summary": WORDS}),
    "max_output_tokens": st.integers(),
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "top_logprobs": st.integers(),
    "include": INCLUDES,
    "metadata": st.dictionaries(WORDS, WORDS, max_size=2),
    "user": WORDS,
    "safety_identifier": WORDS,
    "prompt_cache_key": WORDS,
    "service_tier": WORDS,
    "store": st.booleans(),
    "previous_response_id": WORDS,
    "conversation": WORDS | shaped({"id": WORDS}),
    "background": st.booleans(),
    "truncation": st.sampled_from(["auto", "disabled"]),
    "max_tool_calls": st.integers(),
    "stream": st.booleans(),
    "stream_options": shaped({"include_obfuscation": st.booleans()}),
}
REQUESTS = st.builds(
    lambda rest, asked, model: {**rest, **asked, "model": model},
    shaped(KNOBS),
    st.fixed_dictionaries({}, optional={"input": st.none() | WORDS | st.lists(ITEMS, max_size=6)}),
    WORDS | st.none(),
)


# Values of the pivot, as far as this dialect can say them.

OBJECTS = st.dictionaries(WORDS, JSON, max_size=2).map(raw)
ODD = st.dictionaries(st.sampled_from(["x_a", "x_b"]), JSON, max_size=2)
TELLING = st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.integers() | SAID, max_size=2)


def rests(
    *inside: str, values: st.SearchStrategy[dict[str, Any]] = ODD, binding: bool = False
) -> st.SearchStrategy[Rest]:
    """Members left over at this node, or within its member `inside`."""
    return values.map(lambda odd: tuple(Extra(US, (*inside, name), raw(odd[name]), binding) for name in sorted(odd)))


def noted(name: str) -> Extra:
    """The mark that a later piece goes on in the item of the one before, or that it is raw reasoning."""
    return Extra(US, ("item", "is", name), msgspec.Raw(b"{}"))


MAYBE = st.none() | WORDS
BASE64 = st.text("ABCDabcd0189+/=", max_size=6)
INLINE = st.builds(Inline, st.sampled_from(["image/png", "application/pdf"]), BASE64)
CACHES = st.sampled_from([None, None, Cache(), Cache("12h")])
STORED = st.builds(Stored, WORDS, st.just(US))
TEXTS = st.builds(Text, WORDS, rests(), cache=CACHES)
IMAGES = st.builds(Image, INLINE | STORED | st.just(Link("https://example.com/a")), MAYBE, rests(), CACHES)
DOCUMENTS = st.builds(Document, INLINE | STORED | st.just(Link("https://example.com/a")), MAYBE, rests(), CACHES)
AUDIOS = st.builds(Audio, st.builds(Inline, st.sampled_from(["audio/wav", "audio/mpeg"]), BASE64), rests("input_audio"))
UNKNOWN_CONTENT = st.just(UnknownPart(US, "content", raw({"type": "input_video"})))
CONTENT = TEXTS | IMAGES | DOCUMENTS | AUDIOS | UNKNOWN_CONTENT
CITATIONS = st.one_of(
    st.builds(Citation, WORDS, WORDS, st.none(), st.integers(0, 99), st.integers(0, 99), rests()),
    st.just(Citation(rest=(Extra(US, ("file_id",), raw("f")), Extra(US, ("type",), raw("file_citation"))))),
)
SEALED = st.builds(Seal, st.just(US), SAID)
HOSTED = st.just(
    UnknownPart(
        US,
        "output",
        raw(
            {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
        ),
    )
)
ITEM_ID: Rest = (Extra(US, ("item", "id"), raw("rs_1"), moot=True),)


def thoughts(*seals: st.SearchStrategy[Seal | None]) -> st.SearchStrategy[tuple[Part, ...]]:
    """One item of reasoning: pieces of a summary and of raw reasoning, or nothing but a proof."""
    pieces = st.builds(
        lambda told, rough, seal: _pieces(told, rough, seal),
        st.lists(SAID, min_size=1, max_size=2),
        st.lists(SAID, max_size=1),
        st.one_of(*seals),
    )
    hidden = st.one_of(*seals).map(lambda seal: (Reasoning("", seal, hidden=True),) if seal is not None else ())
    return pieces | hidden


def _pieces(told: list[str], rough: list[str], seal: Seal | None) -> tuple[Part, ...]:
    out: list[Part] = []
    for number, text in enumerate([*told, *rough]):
        marks = [noted("more")] if number else []
        if number >= len(told):
            marks.append(noted("raw"))
        out.append(Reasoning(text, rest=tuple(marks)))
    out[-1] = msgspec.structs.replace(out[-1], seal=seal)
    return tuple(out)


OWN_THOUGHTS = thoughts(SEALED) | SAID.map(lambda text: (Reasoning(text, rest=ITEM_ID),))
SPOKEN = st.builds(Text, WORDS, rests(), st.lists(CITATIONS, max_size=2).map(tuple)) | st.builds(
    Refusal, WORDS, rests()
)
CALLS = st.builds(ToolCall, WORDS, WORDS, WORDS, st.booleans(), rests())
ASSISTANT = st.lists(
    OWN_THOUGHTS
    | SPOKEN.map(lambda part: (part,))
    | CALLS.map(lambda part: (part,))
    | HOSTED.map(lambda part: (part,)),
    min_size=1,
    max_size=4,
).map(lambda groups: tuple(part for group in groups for part in group))
TURNS = st.one_of(
    st.builds(
        Message,
        st.sampled_from([Role.SYSTEM, Role.DEVELOPER, Role.USER]),
        st.lists(CONTENT, max_size=3).map(tuple),
        rest=rests(),
    ),
    st.builds(Message, st.just(Role.ASSISTANT), ASSISTANT),
    st.builds(
        lambda result: Message(Role.TOOL, (result,)),
        st.builds(
            ToolResult,
            WORDS,
            st.lists(TEXTS | IMAGES | DOCUMENTS, max_size=2).map(tuple),
            rest=rests(),
        ),
    ),
    st.just(UnknownMessage(US, raw({"type": "item_reference", "id": "msg_1"}))),
)


def _alternating(turns: list[Message | UnknownMessage]) -> tuple[Message | UnknownMessage, ...]:
    """Turns in which the assistant never speaks twice in a row: for this dialect that is one turn."""
    spoken = [isinstance(turn, Message) and turn.role is Role.ASSISTANT for turn in turns]
    return tuple(turn for place, turn in enumerate(turns) if not (spoken[place] and place and spoken[place - 1]))


PIVOT_TOOLS = st.one_of(
    st.builds(Tool, WORDS, MAYBE, st.none() | OBJECTS, st.booleans(), rests()),
    st.just(UnknownTool(US, raw({"type": "web_search"}))),
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
    messages=st.lists(TURNS, max_size=4).map(_alternating),
    tools=st.lists(PIVOT_TOOLS, max_size=2).map(tuple),
    tool_choice=st.none() | st.builds(ToolChoice, st.sampled_from(Call)) | st.builds(
        ToolChoice, st.sampled_from([Call.AUTO, Call.REQUIRED]), st.lists(WORDS, min_size=1, max_size=2).map(tuple)
    ),
    parallel_calls=FLAGS,
    format=st.none() | PIVOT_FORMATS,
    sampling=st.builds(Sampling, *[st.none() | NUMBERS] * 2),
    thinking=st.builds(Thinking, MAYBE, shown=st.sampled_from([None, "auto", "detailed"])),
    max_output=COUNTS,
    stream=FLAGS,
    user=MAYBE,
    metadata=st.none() | st.dictionaries(WORDS, WORDS, max_size=2),
    logprobs=st.sampled_from([None, True]),
    top_logprobs=COUNTS,
    tier=MAYBE,
    store=FLAGS,
    previous=MAYBE,
    rest=rests(),
)  # fmt: skip

TOKENS = st.integers(0, 10**9)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
SEALS = SEALED | st.builds(Seal, st.sampled_from(["anthropic_messages", "gemini_generate"]), WORDS)
FOREIGN = st.builds(Seal, st.sampled_from(["anthropic_messages", "gemini_generate"]), WORDS)
CHANCES = st.builds(
    Chance, WORDS, st.floats(-9, 0, allow_nan=False), st.lists(st.integers(0, 255), max_size=2).map(tuple)
)
SCORES = st.lists(st.builds(Score, CHANCES, st.lists(CHANCES, max_size=2).map(tuple)), max_size=2).map(tuple)
STRICT_CITATIONS = st.builds(Citation, WORDS, WORDS, st.none(), st.integers(0, 99), st.integers(0, 99))


def spoken(citations: st.SearchStrategy[Citation]) -> st.SearchStrategy[Any]:
    texts = st.builds(
        lambda text, told, seal: Text(text, citations=tuple(told), seal=seal),
        SAID,
        st.lists(citations, max_size=2),
        st.none() | FOREIGN,
    )
    return texts | st.builds(Refusal, SAID)


MADE = st.builds(
    lambda name, arguments, free, seal: ToolCall(f"call_{name}", name, arguments, free, seal=seal),
    SAID,
    WORDS,
    st.booleans(),
    st.none() | FOREIGN,
)


@st.composite
def replies(draw: st.DrawFn, *, plain: bool = False) -> Reply:
    """A reply; `plain`: with nothing the official SDK has no type for."""
    words = spoken(STRICT_CITATIONS if plain else CITATIONS)
    groups = draw(
        st.lists(thoughts(SEALS, st.none()) | st.one_of(words, MADE, HOSTED).map(lambda part: (part,)), max_size=5)
    )
    parts = tuple(part for group in groups for part in group)
    called = any(isinstance(part, ToolCall) for part in parts)
    finish = draw(
        st.sampled_from(
            [
                Finish(Reason.TOOL_CALLS if called else Reason.STOP),
                Finish(Reason.LENGTH),
                Finish(Reason.CONTENT_FILTER),
                Finish(Reason.OTHER, "max_messages", US),
            ]
        )
    )
    scores = draw(SCORES) if any(isinstance(part, Text) for part in parts) else ()
    return Reply(
        choices=(Choice(0, parts, finish, scores=scores),),
        usage=draw(st.none() | USAGES),
        id="resp_1",
        model="m",
        rest=() if plain else draw(rests(values=TELLING)),
        tier=draw(st.sampled_from(["", "default", "flex"])),
    )


def answering(asked: Conversation | None = None) -> Answering:
    return Answering(id="1", created=7, model="m", asked=asked or Conversation(model="m", messages=()))


ASKED = st.sampled_from(
    [
        {},
        {
            "instructions": "be brief",
            "tools": [
                {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True, "description": "d"},
                {"type": "web_search"},
                {"type": "custom", "name": "c"},
            ],
            "tool_choice": {"type": "function", "name": "f"},
            "parallel_tool_calls": False,
            "temperature": 1,
            "top_p": 0.5,
            "max_output_tokens": 99,
            "metadata": {"a": "b"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
            "reasoning": {"effort": "high", "summary": "auto"},
            "truncation": "auto",
            "previous_response_id": "resp_0",
            "store": False,
            "safety_identifier": "s",
            "user": "u",
            "prompt_cache_key": "k",
            "max_tool_calls": 3,
            "background": False,
            "top_logprobs": 2,
        },
        {
            "input": [{"role": "system", "content": "x"}],
            "user": "u",
            "tool_choice": {"type": "web_search_preview"},
            "text": {"format": {"type": "json_object"}, "verbosity": "shouted"},
            "reasoning": {"effort": "enormous"},
            "truncation": "some",
        },
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
    ]
).map(lambda members: decode_request(body_of({"model": "m", "input": "hi", **members})))


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in one or more pieces."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@st.composite
def told(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The events that tell a reply: its parts one after another, some ending late, all at once where that is free."""
    events: list[Event] = [Opened(reply.id, reply.model, reply.tier), *(Aside(None, extra) for extra in reply.rest)]
    ends: list[Event] = []
    (choice,) = reply.choices
    scores = choice.scores
    for number, part in enumerate(choice.parts):
        index = number * 7
        begun, text = part, ""
        if isinstance(part, ToolCall):
            begun, text = msgspec.structs.replace(part, arguments=""), part.arguments
        elif isinstance(part, (Text, Refusal, Reasoning)):
            begun, text = msgspec.structs.replace(part, text=""), part.text
        seal = None
        if isinstance(begun, Reasoning):
            begun, seal = msgspec.structs.replace(begun, seal=None), begun.seal
        if isinstance(begun, Text):
            begun = msgspec.structs.replace(begun, citations=())
        events.append(PartStart(0, index, begun))
        events += [PartDelta(0, index, piece) for piece in pieces(draw, text)]
        if isinstance(part, Text):
            events += [Cited(0, index, citation) for citation in part.citations]
            events += [Scored(0, (score,)) for score in scores]
            scores = ()
        late = seal is None and draw(st.booleans())
        (ends if late else events).append(PartEnd(0, index, seal))
    events += [*ends, Finished(0, choice.finish)]
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]
