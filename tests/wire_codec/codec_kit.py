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
MARKS = st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral", "ttl": None}])
WRITTEN = st.one_of(
    exactly({"text": WORDS}, type="text"),
    exactly({"text": WORDS, "cache_control": MARKS}, type="text"),
    exactly({"refusal": WORDS}, type="refusal"),
    shaped({"type": st.just("video_url"), "text": WORDS}),
)
CONTENT_PARTS = st.one_of(
    WRITTEN,
    exactly({"image_url": exactly({"url": URLS}), "cache_control": MARKS}, type="image_url"),
    exactly({"image_url": exactly({"url": URLS})}, type="image_url"),
    shaped({"image_url": shaped({"url": URLS, "detail": WORDS})}, type="image_url"),
    exactly({"input_audio": exactly({"data": WORDS, "format": FORMAT_NAMES})}, type="input_audio"),
    shaped({"file": shaped({"file_data": URLS, "file_id": WORDS, "filename": WORDS})}, type="file"),
    shaped({"type": WORDS, "text": WORDS}),
    JSON,
)  # fmt: skip
CONTENTS = WORDS | st.lists(CONTENT_PARTS, max_size=3)
RESULTS = WORDS | st.lists(WRITTEN, max_size=3)  # what a tool answered, as far as it is words
PROOFS = st.one_of(
    exactly({"google": exactly({"thought_signature": WORDS})}),
    exactly({"ostiary": exactly({"seal": WORDS})}),
    shaped({"google": JSON, "ostiary": JSON}),
)
FUNCTION = exactly({"name": WORDS, "arguments": WORDS})
CALLS = st.one_of(
    exactly({"id": WORDS, "function": FUNCTION, "extra_content": PROOFS}, type="function"),
    exactly({"id": WORDS, "function": FUNCTION, "cache_control": MARKS}, type="function"),
    exactly({"id": WORDS, "function": exactly({"name": WORDS, "arguments": WORDS})}, type="function"),
    exactly({"id": WORDS, "custom": exactly({"name": WORDS, "input": WORDS})}, type="custom"),
    shaped({"id": WORDS, "function": shaped({"name": WORDS, "arguments": WORDS})}, type="function"),
    shaped({"id": WORDS}, type="mcp"),
    st.integers(),
)
ANNOTATIONS_WRITTEN = st.one_of(
    exactly(
        {"url_citation": shaped({"url": WORDS, "title": WORDS, "start_index": st.integers()})}, type="url_citation"
    ),
    shaped({"url_citation": JSON}, type="url_citation"),
    exactly({"file_citation": JSON}, type="file_citation"),
    JSON,
)
PICTURES_WRITTEN = exactly({"image_url": exactly({"url": URLS})}, type="image_url")
MESSAGES = st.one_of(
    shaped({"content": CONTENTS, "name": WORDS, "cache_control": MARKS}, role="user"),
    exactly({"content": WORDS, "cache_control": MARKS}, role="system"),
    shaped(
        {
            "content": CONTENTS,
            "annotations": st.lists(ANNOTATIONS_WRITTEN, max_size=2),
            "extra_content": PROOFS,
            "images": st.lists(PICTURES_WRITTEN, max_size=2),
            "thinking_blocks": JSON,
        },
        role="assistant",
    ),
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
    shaped({"content": RESULTS, "tool_call_id": WORDS, "cache_control": MARKS}, role="tool"),
    shaped({"content": WORDS, "name": WORDS}, role="function"),
    shaped({"role": WORDS}),
)
TOOLS = st.one_of(
    exactly(
        {"function": shaped({"name": WORDS, "description": WORDS, "parameters": JSON, "strict": st.booleans()})},
        type="function",
    ),
    exactly({"function": exactly({"name": WORDS}), "cache_control": MARKS}, type="function"),
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
        {"json_schema": shaped({"description": WORDS, "schema": JSON, "strict": st.booleans()}, name="n")},
        type="json_schema",
    ),
    # one without a name is given one
    JSON.filter(lambda said: not isinstance(said, dict) or "name" in said).map(
        lambda said: {"type": "json_schema", "json_schema": said}
    ),
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
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(),
    "service_tier": WORDS,
    "store": st.booleans(),
    "prompt_cache_key": WORDS,
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
CACHES = st.none() | st.builds(Cache, st.sampled_from([None, "5m", "1h"]))
TEXTS = st.builds(Text, WORDS, rests(), cache=CACHES)
IMAGES = st.builds(Image, INLINE | st.just(Link("https://example.com/a")), MAYBE, rests() | rests("image_url"), CACHES)
AUDIO_BYTES = st.builds(Inline, st.sampled_from(["audio/wav", "audio/mpeg"]), BASE64)
AUDIOS = st.builds(Audio, AUDIO_BYTES, rests("input_audio"), CACHES)
DOCUMENTS = st.builds(Document, INLINE | st.builds(Stored, WORDS, st.just(US)), MAYBE, rests("file"), CACHES)
UNKNOWN = st.just(UnknownPart(US, "content", raw({"type": "video_url", "video_url": {}})))
CONTENT = TEXTS | IMAGES | AUDIOS | DOCUMENTS | UNKNOWN
OWN_SEALS = st.builds(Seal, st.just(US), SAID)
SEALS = OWN_SEALS | st.builds(Seal, st.sampled_from(["anthropic_messages", "gemini_generate"]), WORDS)
PLACES_IN_TEXT = st.integers(0, 10**6)
WEB_CITATIONS = st.builds(Citation, SAID, WORDS, MAYBE, PLACES_IN_TEXT, PLACES_IN_TEXT, rests("url_citation") | rests())
OTHER_CITATIONS = st.just(Citation(rest=(Extra(US, ("file",), raw({})), Extra(US, ("type",), raw("file_citation")))))
CITATIONS = st.lists(WEB_CITATIONS | OTHER_CITATIONS, max_size=2).map(tuple)


def thoughts(seals: st.SearchStrategy[Seal]) -> st.SearchStrategy[list[Reasoning]]:
    """One piece of reasoning without a proof, or several of which at least one has one or is hidden."""
    proven = st.builds(Reasoning, WORDS, seals)
    hidden = st.builds(Reasoning, st.just(""), seals, st.just(()), st.just(True))
    bare = st.builds(Reasoning, SAID)
    several = st.builds(lambda one, more: [one, *more], proven | hidden, st.lists(proven | hidden | bare, max_size=2))
    return st.lists(bare, max_size=3) | several | several.map(lambda found: found[::-1])


GOOGLES = st.builds(
    lambda call, proof: msgspec.structs.replace(
        call, seal=Seal("gemini_generate", proof), rest=(Extra("", ("google",), raw(None)), *call.rest)
    ),
    st.builds(ToolCall, WORDS, WORDS, WORDS, st.just(False), rests()),
    WORDS,
)
PIVOT_CALLS = st.one_of(
    GOOGLES,
    st.builds(
        ToolCall, WORDS, WORDS, WORDS, st.just(False), rests("function") | rests(), CACHES, st.none() | OWN_SEALS
    ),
    st.builds(ToolCall, WORDS, WORDS, WORDS, st.just(True), rests("custom")),
    st.just(UnknownPart(US, "tool_calls", raw({"type": "mcp", "id": "1"}))),
)
ASSISTANT = st.builds(
    lambda *kinds: tuple(part for kind in kinds for part in kind),
    thoughts(OWN_SEALS),
    st.lists(TEXTS | AUDIOS | DOCUMENTS | UNKNOWN, max_size=3)
    | st.lists(st.builds(Text, WORDS, rests(), CITATIONS, CACHES, st.none() | OWN_SEALS), max_size=1),
    st.lists(IMAGES, max_size=2),
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
        st.builds(ToolResult, WORDS, st.lists(TEXTS | UNKNOWN, max_size=2).map(tuple), cache=CACHES),
        MAYBE,
        rests(),
    ),
    st.just(UnknownMessage(US, raw({"role": "function", "name": "f", "content": "c"}))),
)
PIVOT_TOOLS = st.one_of(
    st.builds(
        Tool, WORDS, MAYBE, st.none() | OBJECTS, st.none() | st.booleans(), rests("function", binding=True), CACHES
    ),
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
    logprobs=FLAGS,
    top_logprobs=COUNTS,
    tier=MAYBE,
    store=FLAGS,
    rest=rests(),
)  # fmt: skip

TOKENS = st.integers(0, 10**9)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
FINISHES = st.one_of(
    st.sampled_from([reason for reason in Reason if reason is not Reason.OTHER]).map(Finish),
    st.just(Finish(Reason.OTHER, "eos", US)),
    st.just(Finish(Reason.TOOL_CALLS, "function_call", US)),
)


CHANCES = st.builds(
    Chance,
    WORDS,
    st.floats(-9999, 0),
    st.none() | st.binary(max_size=3).map(tuple),
)
SCORES = st.lists(st.builds(Score, CHANCES, st.lists(CHANCES, max_size=2).map(tuple)), max_size=3).map(tuple)


def answers(calls: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    proven = st.builds(Text, WORDS, citations=CITATIONS, seal=SEALS)
    return st.builds(
        lambda *kinds: tuple(part for kind in kinds for part in kind),
        thoughts(SEALS),
        st.lists(st.builds(Text, SAID, citations=CITATIONS) | proven, max_size=1),
        st.lists(UNKNOWN, max_size=1),
        st.lists(st.builds(Image, INLINE), max_size=2),
        st.lists(st.builds(Refusal, SAID), max_size=1),
        st.lists(calls, max_size=3),
    )


FUNCTIONS = st.builds(ToolCall, SAID, SAID, WORDS, st.just(False), rests("function") | rests(), seal=st.none() | SEALS)
CUSTOMS = st.builds(ToolCall, SAID, SAID, WORDS, st.just(True))


@st.composite
def replies(draw: st.DrawFn, calls: st.SearchStrategy[Any] = FUNCTIONS | CUSTOMS, *, plain: bool = False) -> Reply:
    """A reply; `plain`: with nothing the official SDK has no type for."""
    choices = []
    for index in range(draw(st.integers(1, 3))):
        parts = draw(answers(calls))
        if plain:
            parts = tuple(_documented(part) for part in parts if not isinstance(part, UnknownPart))
        finish = draw(FINISHES)
        rest: Rest = () if plain else draw(rests(values=TELLING))
        finish = Finish(finish.reason) if plain and finish.word else finish
        choices.append(Choice(index, parts, finish, rest, draw(SCORES)))
    top: Rest = () if plain else draw(rests(values=TELLING))
    usage = draw(st.none() | USAGES)
    tier = draw(st.sampled_from(["", "default", "flex"]))
    return Reply(choices=tuple(choices), usage=usage, id="chatcmpl-1", model="m", rest=top, tier=tier)


def _documented(part: Any) -> Any:
    """A part without citations of a kind that the official SDK has no type for."""
    if not isinstance(part, Text):
        return part
    return msgspec.structs.replace(part, citations=tuple(cited for cited in part.citations if cited.url is not None))


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in one or more pieces."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@st.composite
def told(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The events that tell a reply; the parts of a choice one after another, or all open at once."""
    events: list[Event] = [Opened(reply.id, reply.model, reply.tier), *(Aside(None, extra) for extra in reply.rest)]
    for choice in reply.choices:
        events += [Aside(choice.index, extra) for extra in choice.rest]
        events += [Scored(choice.index, (score,)) for score in choice.scores]
        ends: list[Event] = []
        for number, part in enumerate(choice.parts):
            index = number * 7
            text = getattr(part, "arguments", getattr(part, "text", ""))
            events.append(PartStart(choice.index, index, _begun(part, sealed=(early := draw(st.booleans())))))
            events += [PartDelta(choice.index, index, piece) for piece in pieces(draw, text)]
            events += [Cited(choice.index, index, citation) for citation in getattr(part, "citations", ())]
            end = PartEnd(choice.index, index, None if early else getattr(part, "seal", None))
            # reasoning ends before the next begins
            (ends if draw(st.booleans()) and not isinstance(part, Reasoning) else events).append(end)
        events += [*ends, Finished(choice.index, choice.finish)]
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]


def _begun(part: Any, *, sealed: bool) -> Any:
    """A part as it begins, before anything is told of it; `sealed`: with its proof."""
    names = {"text": "", "arguments": "", "citations": (), **({} if sealed else {"seal": None})}
    if isinstance(part, UnknownPart):
        return part
    return msgspec.structs.replace(part, **{name: value for name, value in names.items() if hasattr(part, name)})


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> list[dict[str, Any]]:
    """The chunks in which a provider would stream the answer that `body` is, choices and members interleaved."""
    answer = json.loads(body)
    frame = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    if "service_tier" in answer:
        frame["service_tier"] = answer["service_tier"]
    told: list[list[dict[str, Any]]] = []
    for choice in answer["choices"]:
        message, index = choice["message"], choice["index"]
        threads = [
            [{name: piece} for piece in pieces(draw, message[name])]
            for name in ("content", "refusal")
            if isinstance(message.get(name), str)
        ]
        threads.append(_reasoned(draw, message))
        for name in ("annotations", "images"):
            threads.append([{name: [{**item, "index": n}]} for n, item in enumerate(message.get(name, ()))])
        if "extra_content" in message:
            threads.append([{"extra_content": message["extra_content"]}])
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
        pieces_of = [{"content": [score], "refusal": None} for score in (choice["logprobs"] or {}).get("content", ())]
        scored = [{"index": index, "delta": {}, "logprobs": piece, "finish_reason": None} for piece in pieces_of]
        told.append([opening, *draw(interleaved([middle, scored])), closing])
    events = [{**frame, "choices": [choice], "usage": None} for choice in draw(interleaved(told))]
    return [*events, {**frame, "choices": [], "usage": answer["usage"]}] if "usage" in answer else events


def _reasoned(draw: st.DrawFn, message: dict[str, Any]) -> list[dict[str, Any]]:
    """The deltas that tell the reasoning of a message: its text, and each block once all of its text is told."""
    deltas: list[dict[str, Any]] = []
    for n, block in enumerate(message.get("thinking_blocks", ())):
        deltas += [{"reasoning_content": piece} for piece in pieces(draw, block.get("thinking", ""))]
        deltas.append({"thinking_blocks": [{**block, "index": n}]})
    return deltas or [{"reasoning_content": piece} for piece in pieces(draw, message.get("reasoning_content", ""))]


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
