"""What the laws of the Gemini dialect are tried on: values of the pivot, and the chunks that tell an answer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
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
from ostiary.wire.conversation.reply import Chance, Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Extra, Rest
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.gemini_generate.calls import invented

T = TypeVar("T")
US = "gemini_generate"
WORDS = st.text(max_size=6)
SAID = st.text(min_size=1, max_size=6)
NAMES = st.sampled_from(["f", "get_weather", "größe"])
NUMBERS = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
PLACES = st.lists(st.integers(0, 5000), max_size=10)
PNG = Inline("image/png", "iVBORw0KGgo=")


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def value_of(document: msgspec.Raw | bytes) -> Any:
    return json.loads(bytes(document))


def body_of(value: object) -> bytes:
    """JSON as a client writes it that is not the codec."""
    return json.dumps(value).encode()


def outcome(decode: Callable[[bytes], T], body: bytes) -> tuple[T | None, Kind | None]:
    """What decoding gives: a value, or the kind of its fault. Anything else it raises is an error."""
    try:
        return decode(body), None
    except Fault as fault:
        return None, fault.kind


def answering(**more: Any) -> Answering:
    asked = Conversation(model="m", messages=())
    return Answering(**{"id": "1", "created": 1, "model": "m", "asked": asked, **more})


def asked(*messages: Message | UnknownMessage, **more: Any) -> Conversation:
    return Conversation(model="", messages=messages, **more)


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def extra(*path: str, value: object, binding: bool = False) -> Extra:
    return Extra(US, path, raw(value), binding)


# Parts.

META: st.SearchStrategy[Rest] = st.sampled_from([(), (extra("partMetadata", value={"a": 1}),)])
OWN = st.sampled_from([None, Seal(US, "QUJD"), Seal(US, "EqQBCqEB")])
FOREIGN = st.sampled_from([None, Seal(US, "QUJD"), Seal("anthropic_messages", "ErUBCkYI…/+"), Seal("openai", "")])
BYTES = st.sampled_from(["", "AAAA", "iVBORw0KGgo=", "a+b/"])
SHOWN = st.sampled_from([(), (extra("inlineData", "displayName", value="n", binding=True),)])
KNOWN_LINKS = st.sampled_from(["https://example.com/a.png?size=2", "gs://bucket/a.PNG#x"])
ODD_TYPE = (extra("fileData", "mimeType", value="image/webp", binding=True),)
NO_TYPE = (extra("fileData", "mimeType", value=None, binding=True),)
MEDIA = st.one_of(
    st.builds(Image, st.builds(Inline, st.just("image/png"), BYTES), rest=SHOWN),
    st.builds(Audio, st.builds(Inline, st.just("audio/wav"), BYTES), rest=META),
    st.builds(Document, st.builds(Inline, st.sampled_from(["application/pdf", "video/mp4"]), BYTES), rest=SHOWN),
    st.builds(Image, KNOWN_LINKS.map(Link), rest=META),
    st.just(Image(Link("https://example.com/a"), rest=ODD_TYPE)),
    st.just(Document(Link("https://www.youtube.com/watch?v=x"), rest=NO_TYPE)),
    st.just(Document(Stored("https://generativelanguage.googleapis.com/v1beta/files/abc", US), rest=())),
)
RAN = UnknownPart(US, "parts", raw({"executableCode": {"language": "PYTHON", "code": "1"}}))
RESULT = UnknownPart(US, "parts", raw({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}))
ASKED = st.one_of(st.builds(Text, SAID, META), MEDIA, st.sampled_from([RAN, RESULT]))


def spoken(seals: st.SearchStrategy[Seal | None]) -> st.SearchStrategy[list[Part]]:
    """What a model says but for calls, so divided that it comes back in the same parts."""
    parts = st.one_of(
        st.builds(Text, SAID, META, seal=seals),
        st.builds(Reasoning, SAID, seals, META),
        st.builds(Reasoning, st.just(""), seals.filter(bool), META, st.just(value=True)),
        st.just(RAN),
        st.builds(Image, st.just(PNG), rest=META),
    )
    return st.lists(parts, max_size=4).map(divided)


def divided(parts: Iterable[Part]) -> list[Part]:
    kept: list[Part] = []
    for part in parts:
        last = kept[-1] if kept else None
        words = isinstance(last, Text | Reasoning) and isinstance(part, Text | Reasoning)
        if words and getattr(last, "seal", None) is None:
            continue
        kept.append(part)
    return kept


ARGUMENTS = st.sampled_from(["{}", '{"a":1}', '{"größe":[1,2]}'])
CALL_REST = st.sampled_from([(), (extra("functionCall", "odd", value=1, binding=True),)])


@st.composite
def calls(
    draw: st.DrawFn, turn: str, seals: st.SearchStrategy[Seal | None] = OWN, *, named: bool = True
) -> list[ToolCall]:
    """The calls of one turn, all with ids of their own or all without."""
    made = []
    for position in range(draw(st.integers(0, 3))):
        name = draw(NAMES)
        call_id = f"call-{turn}-{position}" if named else invented(turn, position, name)
        made.append(ToolCall(call_id, name, draw(ARGUMENTS), rest=draw(CALL_REST), seal=draw(seals)))
    return made


WHOLE = (Extra(US, ("functionResponse", "response"), msgspec.Raw(b"{}")),)
RESULTS = st.one_of(
    st.builds(ToolResult, st.just(""), st.builds(Text, WORDS).map(lambda part: (part,)), st.booleans()),
    st.just(ToolResult("", (Text('{"a":1}'),), rest=WHOLE)),
    st.just(ToolResult("", (Text('{"result":[1]}'),), rest=WHOLE)),
    st.just(ToolResult("", ())),
    st.just(ToolResult("", (Text("see"), Image(PNG), Document(Inline("application/pdf", "AAAA"))))),
    st.just(
        ToolResult("", (Image(PNG),), rest=(extra("functionResponse", "willContinue", value=False, binding=True),))
    ),
)


@st.composite
def messages(draw: st.DrawFn) -> list[Message | UnknownMessage]:
    told: list[Message | UnknownMessage] = []
    if draw(st.booleans()):
        told.append(
            Message(Role.SYSTEM, tuple(draw(st.lists(st.builds(Text, SAID, META), max_size=2))), rest=draw(ODD))
        )
    named, open_calls = draw(st.booleans()), []
    for turn in range(draw(st.integers(0, 3))):
        results = [
            Message(Role.TOOL, (msgspec.structs.replace(draw(RESULTS), call_id=call.id),)) for call in open_calls
        ]
        words = Message(Role.USER, tuple(draw(st.lists(ASKED, min_size=1, max_size=3))))
        group = draw(st.sampled_from([[words, *results], [*results, words], results or [words]]))
        told += [msgspec.structs.replace(group[0], rest=draw(ODD)), *group[1:]]
        open_calls = draw(calls(str(turn), named=named))
        parts = divided([*draw(spoken(OWN)), *open_calls])
        told.append(Message(Role.ASSISTANT, tuple(parts), rest=draw(ODD)))
    if draw(st.booleans()):
        told.append(UnknownMessage(US, raw({"role": "critic", "parts": []})))
    return told


ODD: st.SearchStrategy[Rest] = st.sampled_from([(), (extra("oddMember", value=[1]),)])
SCHEMA = st.sampled_from([{}, {"type": "object", "properties": {"a": {"type": "string"}}}]).map(raw)
FUNCTIONS = st.builds(
    Tool,
    NAMES,
    st.none() | WORDS,
    st.none() | SCHEMA,
    rest=st.sampled_from([(), (extra("behavior", value="BLOCKING"),)]),
)
HOSTED = st.sampled_from([{"googleSearch": {}}, {"codeExecution": {}}]).map(lambda tool: UnknownTool(US, raw(tool)))
CHOICES = st.one_of(
    st.builds(ToolChoice, st.sampled_from(Call)),
    st.builds(ToolChoice, st.sampled_from([Call.AUTO, Call.REQUIRED]), st.lists(NAMES, min_size=1).map(tuple)),
)
FORMATS = st.one_of(
    st.builds(Format, st.sampled_from([Shape.TEXT, Shape.JSON])),
    st.builds(Format, st.just(Shape.SCHEMA), schema=SCHEMA),
)
THOUGHTS = st.one_of(
    st.builds(Thinking, st.sampled_from([None, "minimal", "low", "medium", "high", "xhigh"])),
    st.integers(1, 30_000).map(lambda budget: Thinking(budget=budget, on=True)),
    st.just(Thinking(budget=0, on=False)),
    st.just(Thinking(on=True, adaptive=True)),
)
SHOWINGS = st.sampled_from([None, "auto", "none"])
COUNTS = st.none() | st.integers(0, 2**40)
TOP = st.sampled_from(
    [
        (),
        (extra("safetySettings", value=[{"category": "X"}], binding=True),),
        (extra("cachedContent", value="cachedContents/1", binding=True),),
        (
            extra("generationConfig", "responseModalities", value=["IMAGE"], binding=True),
            extra("generationConfig", "speechConfig", value={"voice": 1}),
            extra("toolConfig", "functionCallingConfig", "odd", value=1),
        ),
    ]
)
CONVERSATIONS = st.builds(
    Conversation,
    model=st.just(""),
    messages=messages().map(tuple),
    tools=st.builds(lambda own, hosted: (*own, *hosted), st.lists(FUNCTIONS, max_size=2), st.lists(HOSTED, max_size=1)),
    tool_choice=st.none() | CHOICES,
    format=st.none() | FORMATS,
    sampling=st.builds(Sampling, *[st.none() | NUMBERS] * 2, COUNTS, *[st.none() | NUMBERS] * 2, COUNTS),
    thinking=st.builds(lambda thinking, shown: msgspec.structs.replace(thinking, shown=shown), THOUGHTS, SHOWINGS),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    max_output=COUNTS,
    choices=COUNTS,
    logprobs=st.none() | st.booleans(),
    top_logprobs=COUNTS,
    metadata=st.none() | st.dictionaries(st.sampled_from(["team", "größe", "a_b-1"]), st.just("x"), max_size=2),
    tier=st.sampled_from([None, "default", "flex", "priority"]),
    rest=TOP,
)

# Answers.

TOKENS = st.integers(0, 10**9)
USAGES = st.builds(
    lambda prompt, made, cached, thought, heard, spoke: Usage(
        prompt, made + thought, min(cached, prompt), 0, thought, min(heard, prompt), min(spoke, made)
    ),
    *[TOKENS] * 6,
)
CHANCES = st.builds(Chance, WORDS, st.floats(-100, 0))
SCORES = st.lists(st.builds(Score, CHANCES, st.lists(CHANCES, max_size=2).map(tuple)), max_size=2).map(tuple)
WITH_WORD = [("SAFETY", Reason.CONTENT_FILTER), ("SPII", Reason.CONTENT_FILTER), ("LANGUAGE", Reason.OTHER),
             ("MALFORMED_FUNCTION_CALL", Reason.OTHER), ("CONTINUATION", Reason.LENGTH)]  # fmt: skip
CANDIDATE_REST = st.sampled_from(
    [
        (),
        (
            extra("avgLogprobs", value=-0.5),
            extra("safetyRatings", value=[{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]),
        ),
        (extra("finishMessage", value="because"), extra("groundingMetadata", "webSearchQueries", value=["q"])),
    ]
)
ANSWER_REST = st.sampled_from(
    [(), (extra("modelStatus", value={"message": "m"}),), (extra("promptFeedback", value={"blockReasonMessage": "m"}),)]
)


@st.composite
def citations(draw: st.DrawFn, text: str) -> tuple[Citation, ...]:
    """What grounds a text: first what has a place in it, then what has none, then what it recites."""
    url, title = st.none() | st.just("https://example.com"), st.none() | SAID
    placed, loose, recited = [], [], []
    for _ in range(draw(st.integers(0, 3))):
        start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        rest = draw(
            st.sampled_from(
                [(), (extra("confidenceScores", value=[0.5]),), (extra("web", "domain", value="example.com"),)]
            )
        )
        placed.append(Citation(draw(url), draw(title), start=start, end=end, rest=rest))
        start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        said = draw(st.sampled_from([{}, {"license": "mit"}]))
        recited.append(Citation(draw(url), draw(title), start=start, end=end, rest=(extra("citations", value=said),)))
        loose.append(Citation(draw(url), draw(title)))
    return (*placed, *draw(st.sampled_from([[], loose])), *draw(st.sampled_from([[], recited])))


@st.composite
def choices(draw: st.DrawFn, index: int, turn: str, seals: st.SearchStrategy[Seal | None]) -> Choice:
    parts = divided([*draw(spoken(seals)), *draw(calls(turn, seals, named=draw(st.booleans())))])
    if parts and isinstance(last := parts[-1], Text):
        parts[-1] = msgspec.structs.replace(last, citations=draw(citations(last.text)))
    called = any(isinstance(part, ToolCall) for part in parts)
    word, reason = draw(st.sampled_from(WITH_WORD))
    plain = Reason.TOOL_CALLS if called else Reason.STOP
    finish = draw(
        st.sampled_from([Finish(plain), Finish(Reason.LENGTH), Finish(Reason.OTHER), Finish(reason, word, US)])
    )
    return Choice(index, tuple(parts), finish, draw(CANDIDATE_REST), draw(SCORES))


@st.composite
def replies(draw: st.DrawFn, seals: st.SearchStrategy[Seal | None] = FOREIGN) -> Reply:
    answer = draw(st.sampled_from(["r-1", "xyz"]))
    found = tuple(draw(choices(index, answer, seals)) for index in range(draw(st.integers(1, 3))))
    usage = draw(st.none() | USAGES)
    tier = draw(st.sampled_from(["", "default", "flex", "PROVISIONED_THROUGHPUT"])) if usage is not None else ""
    return Reply(choices=found, usage=usage, id=answer, model="gemini-3", rest=draw(ANSWER_REST), tier=tier)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in one or more pieces."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@st.composite
def told(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The events that tell a reply; the parts of a choice one after another, as this dialect has them."""
    events: list[Event] = [Opened(reply.id, reply.model, reply.tier), *(Aside(None, extra) for extra in reply.rest)]
    for choice in reply.choices:
        events += [Aside(choice.index, extra) for extra in choice.rest]
        for number, part in enumerate(choice.parts):
            events += draw(_part_told(choice.index, number * 7, part))
        events += [Scored(choice.index, choice.scores)] if choice.scores else []
        events.append(Finished(choice.index, choice.finish))
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]


@st.composite
def _part_told(draw: st.DrawFn, choice: int, index: int, part: Part) -> list[Event]:
    match part:
        case ToolCall(arguments=text, seal=seal):
            empty: dict[str, Any] = {"arguments": ""}
        case Text(text=text, seal=seal):
            empty = {"text": "", "citations": ()}
        case Reasoning(text=text, seal=seal):
            empty = {"text": ""}
        case _:
            return [PartStart(choice, index, part), PartEnd(choice, index)]
    early = draw(st.booleans()) or (isinstance(part, Reasoning) and part.hidden)
    begun = msgspec.structs.replace(part, **empty, seal=seal if early else None)
    deltas: list[Event] = [PartDelta(choice, index, piece) for piece in pieces(draw, text)]
    cited: list[Event] = [Cited(choice, index, one) for one in getattr(part, "citations", ())]
    return [PartStart(choice, index, begun), *deltas, *cited, PartEnd(choice, index, None if early else seal)]


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> list[dict[str, Any]]:
    """The chunks in which a provider would stream the answer that `body` is, candidates interleaved."""
    answer = json.loads(body)
    frame = {"responseId": answer["responseId"], "modelVersion": answer["modelVersion"]}
    top = {name: value for name, value in answer.items() if name not in ("candidates", *frame)}
    threads = []
    for candidate in answer.get("candidates", ()):
        content, index = candidate["content"], candidate["index"]
        parts = [piece for part in content["parts"] for piece in draw(_cut(part))]
        end = {**candidate, "content": {"role": "model", "parts": draw(st.sampled_from([[], [{"text": ""}]]))}}
        threads.append([{"index": index, "content": {"role": "model", "parts": [part]}} for part in parts] + [end])
    interleaved = draw(_interleaved(threads))
    whole = [{**frame, "candidates": [candidate]} for candidate in interleaved]
    if draw(st.booleans()) or not whole:
        return [*whole, {**frame, **top}]
    whole[-1] |= top
    return whole


@st.composite
def _cut(draw: st.DrawFn, part: dict[str, Any]) -> list[dict[str, Any]]:
    """A part of words in pieces, its proof with the last or after it."""
    if not part.get("text") or not part.keys() <= {"text", "thought", "thoughtSignature"}:
        return [part]
    thought = {"thought": True} if part.get("thought") else {}
    found: list[dict[str, Any]] = [{"text": piece, **thought} for piece in pieces(draw, part["text"])]
    if "thoughtSignature" in part:
        if draw(st.booleans()):
            found.append({"text": "", **thought})
        found[-1]["thoughtSignature"] = part["thoughtSignature"]
    return found


@st.composite
def _interleaved(draw: st.DrawFn, threads: list[list[Any]]) -> list[Any]:
    left = [list(thread) for thread in threads if thread]
    out = []
    while left:
        thread = left[draw(st.integers(0, len(left) - 1))]
        out.append(thread.pop(0))
        left = [thread for thread in left if thread]
    return out


def sse(events: Iterable[dict[str, Any]], end: bytes = b"\r\n") -> bytes:
    """Events as Google frames them; its lines end in CRLF."""
    return b"".join(b"data: " + msgspec.json.encode(event) + end * 2 for event in events)
