"""What the laws of the Messages dialect are tried on: requests as clients write them, and values of the pivot."""

from __future__ import annotations

import base64
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
)
from ostiary.wire.conversation.parts import (
    Cache,
    Citation,
    Document,
    Image,
    Inline,
    Link,
    Part,
    Reasoning,
    Seal,
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
US = "anthropic_messages"
WORDS = st.text(max_size=6)
SAID = st.text(min_size=1, max_size=6)
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=4
)
NAMES = st.sampled_from(["x_new", "betas", "größe", ""])


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def answering(**more: Any) -> Answering:
    """An answer under way to a client."""
    asked = Conversation(model="m", messages=())
    return Answering(**{"id": "1", "created": 1, "model": "m", "asked": asked, **more})


def body_of(value: object) -> bytes:
    """JSON as a client writes it that is not the codec."""
    return json.dumps(value).encode()


def value_of(value: msgspec.Raw) -> Any:
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


def exactly(
    known: Mapping[str, st.SearchStrategy[Any]], maybe: Mapping[str, st.SearchStrategy[Any]] | None = None, **fixed: Any
) -> st.SearchStrategy[dict[str, Any]]:
    """An object with all of the known members as documented, some of those in `maybe`, and unknown ones."""
    every = st.fixed_dictionaries(dict(known))
    return st.builds(lambda more, usual: {**more, **usual, **fixed}, shaped(maybe or {}), every)


MARKS = st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}, {"type": "new"}, "yes"])
CITED = st.one_of(
    exactly({"cited_text": WORDS, "document_index": JSON}, {"document_title": WORDS}, type="char_location"),
    exactly({"cited_text": WORDS, "url": SAID, "encrypted_index": SAID}, {"title": WORDS},
            type="web_search_result_location"),
    exactly({"cited_text": WORDS, "source": WORDS}, {"title": WORDS}, type="search_result_location"),
)  # fmt: skip
FILES = st.one_of(
    st.fixed_dictionaries({"type": st.just("base64"), "media_type": st.just("application/pdf"), "data": WORDS}),
    st.fixed_dictionaries({"type": st.just("text"), "media_type": st.just("text/plain"), "data": WORDS}),
    st.fixed_dictionaries({"type": st.just("url"), "url": WORDS}),
    st.fixed_dictionaries({"type": st.just("file"), "file_id": WORDS}),
    st.fixed_dictionaries({"type": st.just("content"), "content": st.just([{"type": "text", "text": "a"}])}),
    JSON,
)
PICTURES = st.one_of(
    st.fixed_dictionaries({"type": st.just("base64"), "media_type": st.just("image/png"), "data": WORDS}),
    st.fixed_dictionaries({"type": st.just("url"), "url": WORDS}),
    st.fixed_dictionaries({"type": st.just("file"), "file_id": WORDS}),
    JSON,
)
WORDS_BLOCK = exactly({"text": SAID}, {"cache_control": MARKS, "citations": st.lists(CITED, max_size=2)}, type="text")
CONTENT_BLOCKS = st.one_of(
    WORDS_BLOCK,
    exactly({"source": PICTURES}, {"cache_control": MARKS, "transformations": JSON}, type="image"),
    exactly({"source": FILES}, {"title": WORDS, "context": WORDS, "citations": JSON}, type="document"),
    exactly({"source": WORDS, "title": WORDS}, type="search_result"),
    shaped({"type": SAID}),
)
RESULTS = exactly(
    {"tool_use_id": WORDS},
    {
        "content": WORDS | st.lists(CONTENT_BLOCKS | JSON, max_size=2),
        "is_error": st.booleans(),
        "cache_control": MARKS,
    },
    type="tool_result",
)
OBJECT = st.dictionaries(WORDS, JSON, max_size=2)
SAID_BLOCKS = st.one_of(
    WORDS_BLOCK,
    exactly({"thinking": WORDS, "signature": SAID}, type="thinking"),
    exactly({"data": SAID}, type="redacted_thinking"),
    exactly({"id": WORDS, "name": WORDS, "input": OBJECT}, {"cache_control": MARKS, "caller": JSON}, type="tool_use"),
    shaped({"id": WORDS, "name": WORDS, "input": JSON}, type="server_tool_use"),
    exactly({"tool_use_id": WORDS, "content": JSON}, type="web_search_tool_result"),
    JSON.filter(lambda value: not isinstance(value, dict)),
)
USER_CONTENT = st.one_of(
    SAID,
    st.builds(lambda results, others: [*results, *others], st.lists(RESULTS, max_size=2),
              st.lists(CONTENT_BLOCKS, max_size=3)),
    SCALARS,
)  # fmt: skip
USER = exactly({"content": USER_CONTENT}, role="user")
ASSISTANT = exactly({"content": SAID | st.lists(SAID_BLOCKS, max_size=3)}, role="assistant")
OTHER = st.one_of(
    exactly({"content": SAID | st.lists(WORDS_BLOCK, max_size=2)}, role="system"),
    shaped({"role": SAID, "content": WORDS}),
)
TOOLS = st.one_of(
    exactly({"name": WORDS, "input_schema": OBJECT}, {"description": WORDS, "strict": st.booleans(),
            "cache_control": MARKS, "defer_loading": st.booleans(), "type": st.just("custom")}),
    exactly({"name": WORDS}, {"max_uses": st.integers()}, type="web_search_20260318"),
    JSON,
)  # fmt: skip
CHOICES = st.one_of(
    exactly({"type": st.sampled_from(["auto", "any", "none", "new"])}, {"disable_parallel_tool_use": st.booleans()}),
    exactly({"name": WORDS}, {"disable_parallel_tool_use": st.booleans()}, type="tool"),
    shaped({"name": WORDS}, type="tool"),
)
MODES = st.one_of(
    exactly({"budget_tokens": st.integers()}, {"display": st.sampled_from(["summarized", "omitted"])}, type="enabled"),
    shaped({"display": st.sampled_from(["summarized", "omitted", "new"])}, type="adaptive"),
    exactly({}, type="disabled"),
    exactly({}, type="between_tools"),
)
OUTPUT = shaped(
    {
        "effort": st.sampled_from(["low", "medium", "high", "xhigh", "max", "new"]),
        "format": exactly({"schema": OBJECT}, type="json_schema") | shaped({"type": WORDS}),
    }
)
KNOBS = {
    "system": SAID | st.lists(WORDS_BLOCK, max_size=3),
    "tools": st.lists(TOOLS, max_size=3),
    "tool_choice": CHOICES,
    "thinking": MODES,
    "output_config": OUTPUT,
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "top_k": st.integers(),
    "stop_sequences": st.lists(WORDS, max_size=3),
    "stream": st.booleans(),
    "metadata": shaped({"user_id": WORDS}),
    "service_tier": st.sampled_from(["auto", "standard_only", "new"]),
    "mcp_servers": st.lists(JSON, max_size=2),
    "container": WORDS,
    "context_management": JSON,
    "cache_control": MARKS,
}


def _turns(start: bool, users: list[Any], assistants: list[Any], others: list[Any]) -> list[Any]:
    """Turns that alternate, as this dialect has them, with odd ones between."""
    found: list[Any] = []
    for user, assistant in itertools.zip_longest(users, assistants):
        pair = [turn for turn in (user, assistant) if turn is not None]
        found += pair if start else pair[::-1] if len(pair) == 2 else []
    return [*others, *found]


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    turns = _turns(draw(st.booleans()), draw(st.lists(USER, max_size=2)), draw(st.lists(ASSISTANT, max_size=2)),
                   draw(st.lists(OTHER, max_size=1)))  # fmt: skip
    alternating: list[Any] = []
    for turn in turns:
        if not alternating or alternating[-1].get("role") != turn.get("role"):
            alternating.append(turn)
    knobs = draw(shaped(KNOBS))
    if alternating and isinstance(alternating[-1].get("content"), list):
        alternating.append({"role": "critic"})  # so that no result of a tool is answered with reasoning
    return {
        **knobs,
        "messages": alternating,
        "model": draw(WORDS | st.none()),
        "max_tokens": draw(st.integers(0, 9999)),
    }


REQUESTS = requests()

# Values of the pivot, as far as this dialect can say them.

OBJECTS = OBJECT.map(raw)
ODD = st.dictionaries(st.sampled_from(["x_a", "x_b"]), JSON, max_size=2)
TELLING = st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.integers() | SAID, max_size=2)


def rests(*inside: str, values: st.SearchStrategy[dict[str, Any]] = ODD) -> st.SearchStrategy[Rest]:
    """Members left over at this node, or within its member `inside`."""
    return values.map(lambda odd: tuple(Extra(US, (*inside, name), raw(odd[name])) for name in sorted(odd)))


MAYBE = st.none() | WORDS
CACHES = st.none() | st.sampled_from([Cache(), Cache("5m"), Cache("1h")])
BASE64 = st.binary(max_size=6).map(lambda data: base64.b64encode(data).decode())
PLAIN = WORDS.map(lambda text: Inline("text/plain", base64.b64encode(text.encode()).decode()))
STORED = st.builds(Stored, WORDS, st.just(US))
CITATIONS = st.one_of(
    st.builds(Citation, url=SAID, title=MAYBE, quote=WORDS, rest=st.builds(
        lambda index: (Extra(US, ("encrypted_index",), raw(index)),
                       Extra(US, ("type",), raw("web_search_result_location"))), SAID)),
    st.builds(Citation, title=MAYBE, quote=WORDS, rest=st.builds(
        lambda start: tuple(Extra(US, (name,), raw(value)) for name, value in [
            ("document_index", 0), ("end_char_index", start + 5), ("start_char_index", start),
            ("type", "char_location")]),
        st.integers(0, 9))),
)  # fmt: skip
CITING = st.lists(CITATIONS, max_size=2).map(tuple)
TEXTS = st.builds(Text, SAID, rests(), CITING, CACHES)
IMAGES = st.builds(Image, st.builds(Inline, st.just("image/png"), BASE64) | STORED | st.builds(Link, WORDS), st.none(),
                   rests(), CACHES)  # fmt: skip
DOCUMENTS = st.builds(
    Document,
    st.builds(Inline, st.just("application/pdf"), BASE64) | PLAIN | STORED | st.builds(Link, WORDS),
    MAYBE,
    rests(),
    CACHES,
)
UNKNOWN = st.just(UnknownPart(US, "content", raw({"type": "search_result", "source": "s"})))
CONTENT = TEXTS | IMAGES | DOCUMENTS | UNKNOWN
CALLS = st.builds(ToolCall, WORDS, WORDS, OBJECTS.map(lambda value: bytes(value).decode()), st.just(False), rests(),
                  CACHES)  # fmt: skip
OWN = st.builds(Seal, st.just(US), SAID)
PROVEN = st.builds(Reasoning, WORDS, OWN, rests()) | st.builds(Reasoning, st.just(""), OWN, rests(), st.just(True))
TOLD = st.builds(
    Message,
    st.just(Role.TOOL),
    st.builds(ToolResult, WORDS, st.lists(CONTENT, max_size=2).map(tuple), st.booleans(), rests(), CACHES).map(
        lambda result: (result,)
    ),
)
ASKED = st.builds(Message, st.just(Role.USER), st.lists(CONTENT, min_size=1, max_size=3).map(tuple))
GROUPS = st.builds(
    lambda told, asked: [*told, *asked], st.lists(TOLD, max_size=2), st.lists(ASKED, min_size=1, max_size=1)
)
ANSWERS = st.builds(
    lambda parts: [Message(Role.ASSISTANT, tuple(parts))],
    st.lists(TEXTS | PROVEN | CALLS | UNKNOWN, min_size=1, max_size=3),
)
INSTRUCTIONS = st.builds(
    Message, st.just(Role.SYSTEM), st.lists(st.builds(Text, SAID, rests(), st.just(()), CACHES), min_size=1, max_size=3)
    .map(tuple),
)  # fmt: skip
ODD_TURN = st.just(UnknownMessage(US, raw({"role": "critic", "content": "c"})))
TURNS = st.builds(
    lambda system, pairs, odd: (*system, *(m for pair in pairs for group in pair for m in group), *odd),
    st.lists(INSTRUCTIONS, max_size=1),
    st.lists(st.tuples(GROUPS, ANSWERS), max_size=2),
    st.lists(ODD_TURN, max_size=1),
)
PIVOT_TOOLS = st.one_of(
    st.builds(Tool, WORDS, MAYBE, OBJECTS, st.none() | st.booleans(), rests(), CACHES),
    st.just(UnknownTool(US, raw({"type": "web_search_20260318", "name": "web_search"}))),
)
FLAGS = st.none() | st.booleans()
CHOSEN = st.one_of(
    st.just((None, None)),
    st.just((ToolChoice(Call.NONE), None)),
    st.tuples(st.sampled_from([ToolChoice(Call.AUTO), ToolChoice(Call.REQUIRED)]), FLAGS),
    st.tuples(st.builds(ToolChoice, st.just(Call.REQUIRED), WORDS.map(lambda name: (name,))), FLAGS),
)
EFFORTS = st.none() | st.sampled_from(["low", "medium", "high", "xhigh", "max"])
DISPLAYS = st.none() | st.sampled_from(["auto", "none"])
THINKING = st.one_of(
    st.just(Thinking()),
    st.builds(Thinking, EFFORTS, st.integers(0, 99999), st.just(True), st.none(), DISPLAYS),
    st.builds(Thinking, EFFORTS, st.none(), st.just(True), st.just(True), DISPLAYS),
    st.builds(Thinking, EFFORTS, st.none(), st.just(False)),
)
CONVERSATIONS = st.builds(
    lambda chosen, **more: Conversation(tool_choice=chosen[0], parallel_calls=chosen[1], **more),
    CHOSEN,
    model=WORDS,
    messages=TURNS,
    tools=st.lists(PIVOT_TOOLS, max_size=2).map(tuple),
    format=st.none() | st.builds(Format, st.just(Shape.SCHEMA), schema=OBJECTS, rest=rests()),
    sampling=st.builds(Sampling, st.none() | NUMBERS, st.none() | NUMBERS, st.none() | st.integers(0, 99)),
    thinking=THINKING,
    stop=st.lists(WORDS, max_size=2).map(tuple),
    max_output=st.integers(0, 2**62),
    stream=FLAGS,
    user=MAYBE,
    tier=st.none() | st.sampled_from(["auto", "default"]),
    rest=rests(),
)

# Answers.

TOKENS = st.integers(0, 10**9)


def used(fresh: int, output: int, read: int, written: int, thought: int) -> Usage:
    return Usage(fresh + read + written, output, read, written, thought)


USAGES = st.builds(used, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
FINISHES = st.one_of(
    st.sampled_from([reason for reason in Reason if reason is not Reason.OTHER]).map(Finish),
    st.builds(Finish, st.just(Reason.STOP), stop=SAID),
    st.just(Finish(Reason.OTHER, "pause_turn", US)),
    st.just(Finish(Reason.LENGTH, "model_context_window_exceeded", US)),
)
SEALS = OWN | st.builds(Seal, st.just("gemini_generate"), WORDS)
FOREIGN = st.none() | st.builds(Seal, st.just("gemini_generate"), WORDS)
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
WHOLE = st.sampled_from([SEARCH, FOUND]).map(lambda block: UnknownPart(US, "content", raw(block)))
SAID_PARTS = st.one_of(
    st.builds(Text, SAID, st.just(()), CITING, st.none(), FOREIGN),
    st.builds(Reasoning, WORDS, st.none() | SEALS),
    st.builds(Reasoning, st.just(""), SEALS, st.just(()), st.just(True)),
    st.builds(ToolCall, SAID, SAID, OBJECTS.map(lambda value: bytes(value).decode()), st.just(False),
              rests(values=TELLING), st.none(), FOREIGN),
    WHOLE,
)  # fmt: skip


@st.composite
def replies(draw: st.DrawFn, *, plain: bool = False) -> Reply:
    """A reply; `plain`: with nothing the official SDK has no type for."""
    parts = draw(st.lists(SAID_PARTS, max_size=4))
    searched = raw({"web_fetch_requests": 0, "web_search_requests": draw(st.integers(1, 9))})
    usage_rest = draw(st.sampled_from([(), (Extra(US, ("usage", "server_tool_use"), searched),)]))
    rest: Rest = () if plain else draw(rests(values=TELLING))
    if plain:
        parts = [msgspec.structs.replace(part, rest=()) if isinstance(part, ToolCall) else part for part in parts]
    choice = Choice(0, tuple(parts), draw(FINISHES))
    tier = draw(st.sampled_from(["", "default", "priority", "batch"]))
    return Reply(
        choices=(choice,), usage=draw(USAGES), id="msg_1", model="m", rest=(*usage_rest, *rest), tier=tier
    )  # fmt: skip


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in one or more pieces."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


def emptied(part: Part, *, sealed: bool) -> Part:
    """A part as it begins."""
    seal = {} if sealed else {"seal": None}
    match part:
        case Text():
            return msgspec.structs.replace(part, text="", citations=(), **seal)
        case Reasoning():
            return msgspec.structs.replace(part, text="", **seal)
        case ToolCall():
            return msgspec.structs.replace(part, arguments="", **seal)
    return part


@st.composite
def told(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The events that tell a reply; the parts of a choice one after another, or all open at once."""
    (choice,) = reply.choices
    events: list[Event] = [Opened(reply.id, reply.model, reply.tier), *(Aside(None, extra) for extra in reply.rest)]
    ends: list[Event] = []
    for number, part in enumerate(choice.parts):
        index = number * 7
        late = draw(st.booleans())
        sealed = late or not isinstance(part, Reasoning)  # reasoning is sealed at its end, if it is to be soon
        events.append(PartStart(0, index, emptied(part, sealed=sealed)))
        text = part.arguments if isinstance(part, ToolCall) else getattr(part, "text", "")
        events += [PartDelta(0, index, piece) for piece in pieces(draw, text)]
        events += [Cited(0, index, citation) for citation in (part.citations if isinstance(part, Text) else ())]
        seal = part.seal if isinstance(part, Reasoning) and not sealed else None
        (ends if late else events).append(PartEnd(0, index, seal))
    events += [*ends, Finished(0, choice.finish)]
    metered = [Metered(reply.usage)] if reply.usage is not None else []
    return [*metered, *events] if draw(st.booleans()) else [*events, *metered]


@st.composite
def wire_events(draw: st.DrawFn, body: bytes) -> list[dict[str, Any]]:
    """The events in which a provider would stream the answer that `body` is."""
    answer = json.loads(body)
    usage = answer.pop("usage")
    early = {**usage, "output_tokens": 1}
    blocks, answer["content"] = answer["content"], []
    late = {"stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"]}
    answer |= {"stop_reason": None, "stop_sequence": None, "usage": early}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": answer}]
    for index, block in enumerate(blocks):
        start, deltas = _grown(draw, block)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        if draw(st.booleans()):
            events.append({"type": "ping"})
        events.append({"type": "content_block_stop", "index": index})
    totals = {name: value for name, value in usage.items() if name != "service_tier"}
    some = totals if draw(st.booleans()) else {
        name: totals[name] for name in ("output_tokens", "output_tokens_details") if name in totals
    }  # fmt: skip
    return [*events, {"type": "message_delta", "delta": late, "usage": some}, {"type": "message_stop"}]


def _grown(draw: st.DrawFn, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and what comes after."""
    match block["type"]:
        case "text":
            more = [{"type": "text_delta", "text": piece} for piece in pieces(draw, block["text"])]
            cited = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations", ())]
            start = {name: value for name, value in block.items() if name != "citations"}
            return {**start, "text": ""}, [*more, *cited]
        case "thinking":
            more = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(draw, block["thinking"])]
            signed = [{"type": "signature_delta", "signature": block["signature"]}] if block["signature"] else []
            return {**block, "thinking": "", "signature": ""}, [*more, *signed]
        case "tool_use" | "server_tool_use":
            text = msgspec.json.encode(block["input"]).decode()
            more = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(draw, text)]
            return {**block, "input": {}}, [] if text == "{}" and draw(st.booleans()) else more
    return block, []


def sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n" for event in events
    )
