"""What the laws of this dialect are tried on: bodies after botocore's service model, and values of the pivot."""

from __future__ import annotations

import base64
import copy
import itertools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import botocore.session
import msgspec
from botocore.model import Shape
from botocore.parsers import RestJSONParser
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
    Thinking,
    Tool,
    ToolChoice,
    UnknownTool,
)
from ostiary.wire.conversation.conversation import Shape as Form
from ostiary.wire.conversation.events import Aside, Event, Finished, Metered, Opened, PartDelta, PartEnd, PartStart
from ostiary.wire.conversation.parts import (
    Audio,
    Cache,
    Citation,
    Document,
    Image,
    Inline,
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
from ostiary.wire.framing.event_stream import write_message

T = TypeVar("T")
US = "bedrock_converse"
SERVICE = botocore.session.Session().get_service_model("bedrock-runtime")
ANSWERING = Answering(id="1", created=1, model="m", asked=Conversation(model="m", messages=()))
WORDS = st.text(max_size=6)
SAID = st.text(min_size=1, max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
JSON_OBJECTS = st.dictionaries(SAID, JSON, max_size=2)
BASE64 = st.binary(min_size=1, max_size=6).map(lambda data: base64.b64encode(data).decode())
LABELS = st.text("abc :/", min_size=1, max_size=5)
NAMES = st.text("abcXYZ019-()[]", min_size=1, max_size=9)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def outcome(decode: Callable[[], T]) -> tuple[T | None, Kind | None]:
    """What comes of it: a value, or the kind of its fault. Anything else it raises is an error."""
    try:
        return decode(), None
    except Fault as fault:
        return None, fault.kind


def bare(node: Any) -> Any:
    """A value of the pivot without the members that only these tests know."""
    if isinstance(node, tuple):
        return tuple(bare(inner) for inner in node if not (isinstance(inner, Extra) and inner.path[-1][:2] == "x_"))
    if isinstance(node, msgspec.Struct):
        changed = {name: bare(getattr(node, name)) for name in node.__struct_fields__}
        return msgspec.structs.replace(node, **changed)
    return node


# Bodies after the service model. What has more than one form on the wire stands here in the form that is written.
FORMS: dict[str, st.SearchStrategy[Any]] = {
    "Document": JSON_OBJECTS,
    "DocumentBlockNameString": NAMES,
    "RequestMetadataKeyString": LABELS,
    "RequestMetadataValueString": LABELS,
    "OutputConfigEffortString": st.nothing(),
    "ConverseTrace": st.just({"promptRouter": {"invokedModelId": "m"}}),
    "JsonSchemaDefinition": st.fixed_dictionaries(
        {"schema": JSON_OBJECTS.map(json.dumps) | SAID}, optional={"name": SAID, "description": SAID}
    ),
    "ReasoningTextBlock": st.fixed_dictionaries({"text": WORDS, "signature": SAID}),
    "CitationGeneratedContentList": st.lists(SAID.map(lambda text: {"text": text}), min_size=1, max_size=1),
    "CitationsContentBlock": st.deferred(
        lambda: st.fixed_dictionaries(
            {
                "content": FORMS["CitationGeneratedContentList"],
                "citations": st.lists(of("Citation"), min_size=1, max_size=2),
            }
        )
    ),
    "Messages": st.deferred(lambda: turns()),
    "ConverseOutput": st.deferred(
        lambda: st.lists(of("ContentBlock"), max_size=3).map(
            lambda content: {"message": {"role": "assistant", "content": content}}
        )
    ),
    "ConverseMetrics": st.fixed_dictionaries({"latencyMs": st.integers(0, 9)}),
    "TokenUsage": st.deferred(lambda: usages()),
}  # fmt: skip


def of(name: str) -> st.SearchStrategy[Any]:
    """JSON of the shape with this name."""
    return FORMS[name] if name in FORMS else json_of(SERVICE.shape_for(name))


def json_of(shape: Shape) -> st.SearchStrategy[Any]:
    match shape.type_name:
        case "structure":
            members = {
                name: of(inner.name)
                for name, inner in shape.members.items()
                if inner.serialization.get("location") is None and not of(inner.name).is_empty
            }
            if getattr(shape, "is_tagged_union", False):
                return st.one_of([st.fixed_dictionaries({name: inner}) for name, inner in members.items()])
            needed = {name: members[name] for name in shape.required_members if name in members}
            return st.fixed_dictionaries(
                needed, optional={name: inner for name, inner in members.items() if name not in needed}
            )
        case "list":
            return st.lists(of(shape.member.name), min_size=1, max_size=2)
        case "map":
            return st.dictionaries(of(shape.key.name), of(shape.value.name), max_size=2)
        case "blob":
            return BASE64
        case "boolean":
            return st.booleans()
        case "integer" | "long":
            return st.integers(1, 10**6)
        case "float" | "double":
            return st.floats(0, 1)
    return st.sampled_from(shape.enum) if getattr(shape, "enum", None) else SAID


def usages() -> st.SearchStrategy[Any]:
    def usage(into: int, made: int, read: int, written: int) -> dict[str, int]:
        said = {"inputTokens": into, "outputTokens": made, "totalTokens": into + made + read + written}
        return {**said, "cacheReadInputTokens": read, "cacheWriteInputTokens": written} if read or written else said

    # a usage of nothing stands for none
    return st.builds(usage, st.integers(1, 1000), *[st.integers(0, 1000)] * 3)


@st.composite
def turns(draw: st.DrawFn) -> list[Any]:
    """Messages whose roles alternate."""
    found: list[Any] = []
    for role in draw(st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=4)):
        if not found or found[-1]["role"] != role:
            found.append({"role": role, "content": draw(st.lists(of("ContentBlock"), min_size=1, max_size=3))})
    return found


BAD_TURN = {"role": "user", "content": 1}
NODES = st.sampled_from(
    [
        None,
        5,
        -1,
        "x",
        [],
        {},
        [5],
        [{}],
        [None],
        {"text": 1},
        {"x": [1]},
        {"message": {"content": [1]}},
        [BAD_TURN],
    ]
).map(copy.deepcopy)


@st.composite
def broken(draw: st.DrawFn, bodies: st.SearchStrategy[Any]) -> Any:
    """A body in which a node or several are something else."""
    body = copy.deepcopy(draw(bodies))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = body
        while isinstance(place, (dict, list)) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
            if draw(st.integers(0, 3)) == 0 or not isinstance(place[key], (dict, list)) or not place[key]:
                place[key] = draw(NODES)
                break
            place = place[key]
    return body


# Values of the pivot, as far as this dialect can say them.


def rests(*inside: str, binding: bool = False) -> st.SearchStrategy[Rest]:
    odd = st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.integers() | SAID, max_size=2)
    return odd.map(lambda said: tuple(Extra(US, (*inside, name), raw(said[name]), binding) for name in sorted(said)))


def inline(*types: str) -> st.SearchStrategy[Inline]:
    return st.builds(Inline, st.sampled_from(types), BASE64)


CACHES = st.none() | st.builds(Cache, st.sampled_from([None, "5m", "1h"]))
OWN = st.builds(Seal, st.just(US), SAID)
OWN_HIDDEN = st.builds(Seal, st.just(US), BASE64)
FORMAT = Extra(US, ("image", "format"), raw("png"))
VIDEO_FORMAT = Extra(US, ("video", "format"), raw("mp4"))
STORED = st.builds(Stored, SAID.map("s3://{}".format), st.just(US))
CITATIONS = st.builds(Citation, st.none() | SAID, st.none() | SAID, st.none() | SAID, rest=rests())
TEXTS = st.builds(Text, SAID, rests(), cache=CACHES)
CITED = st.builds(Text, SAID, rests("citationsContent"), st.lists(CITATIONS, min_size=1, max_size=2).map(tuple), CACHES)
IMAGES = st.one_of(
    st.builds(Image, inline("image/png", "image/jpeg"), st.none(), rests() | rests("image"), CACHES),
    st.builds(Image, STORED, rest=st.just((FORMAT,)), cache=CACHES),
)
AUDIOS = st.builds(Audio, inline("audio/wav", "audio/mpeg"), rests("audio"), CACHES)
DOCUMENTS = st.one_of(
    st.builds(Document, inline("application/pdf", "text/plain", "text/csv"), NAMES, rests("document"), CACHES),
    st.builds(Document, STORED, NAMES, st.just(()), CACHES),
    st.builds(Document, inline("video/mp4", "video/mpeg"), st.none(), rests("video"), CACHES),
    st.builds(Document, STORED, st.none(), st.just((VIDEO_FORMAT,)), CACHES),
)
GUARDED = UnknownPart(US, "content", raw({"guardContent": {"text": {"text": "t"}}}))
ARGUMENTS = JSON_OBJECTS.map(json.dumps)
CALLS = st.builds(
    ToolCall, SAID, SAID, ARGUMENTS, st.just(False), rests("toolUse", binding=True) | rests(), CACHES
)  # fmt: skip
IN_JSON = JSON.filter(lambda value: value is not None).map(
    lambda value: Text(json.dumps(value), (Extra(US, ("json",), raw({})),))
)
RESULTS = st.builds(
    ToolResult,
    SAID,
    st.lists(
        IN_JSON | st.builds(Text, WORDS) | IMAGES.map(lambda part: msgspec.structs.replace(part, cache=None)),
        max_size=2,
    ).map(tuple),
    st.booleans(),
    rests("toolResult", binding=True),
    CACHES,
)
REASONINGS = st.one_of(
    st.builds(Reasoning, WORDS, OWN, rests("reasoningContent")),
    st.builds(Reasoning, st.just(""), OWN_HIDDEN, st.just(()), st.just(True)),
)
USER_PARTS = TEXTS | IMAGES | AUDIOS | DOCUMENTS | st.just(GUARDED)
SAID_PARTS = TEXTS | CITED | CALLS | REASONINGS | st.just(GUARDED)
TURN = st.one_of(
    st.builds(Message, st.just(Role.USER), st.lists(USER_PARTS, min_size=1, max_size=3).map(tuple)),
    st.builds(Message, st.just(Role.ASSISTANT), st.lists(SAID_PARTS, min_size=1, max_size=3).map(tuple), rest=rests()),
    st.builds(lambda result: Message(Role.TOOL, (result,)), RESULTS),
)
SYSTEM = st.builds(Message, st.just(Role.SYSTEM), st.lists(TEXTS | st.just(GUARDED), min_size=1, max_size=2).map(tuple))
TOOLS = st.one_of(
    st.builds(
        Tool, SAID, st.none() | SAID, JSON_OBJECTS.map(raw), st.none() | st.booleans(),
        rests("toolSpec", binding=True), CACHES,
    ),
    st.just(UnknownTool(US, raw({"systemTool": {"name": "nova_grounding"}}))),
)  # fmt: skip

GUARDRAILS = st.just((Extra(US, ("guardrailConfig",), raw({"guardrailIdentifier": "g"}), binding=True),))


@st.composite
def conversations(draw: st.DrawFn, thinking: st.SearchStrategy[Thinking]) -> Conversation:
    messages = draw(st.lists(SYSTEM, max_size=1))
    for turn in draw(st.lists(TURN, max_size=4)):
        if not messages or messages[-1].role is not turn.role or turn.role is Role.TOOL:
            messages.append(turn)
    tools = tuple(draw(st.lists(TOOLS, max_size=2)))
    choices = st.sampled_from([Call.AUTO, Call.REQUIRED]).map(ToolChoice) | st.builds(
        lambda name: ToolChoice(Call.REQUIRED, (name,)), SAID
    )
    return Conversation(
        model="",
        messages=tuple(messages),
        tools=tools,
        tool_choice=draw(st.none() | choices) if tools else None,
        format=draw(
            st.none()
            | st.builds(Format, st.just(Form.SCHEMA), st.none() | SAID, st.none() | SAID, JSON_OBJECTS.map(raw))
        ),
        sampling=Sampling(*draw(st.tuples(*[st.none() | st.floats(0, 1)] * 2, st.none() | st.integers(0, 99)))),
        thinking=draw(thinking),
        stop=draw(st.lists(SAID, max_size=2).map(tuple)),
        max_output=draw(st.none() | st.integers(1, 10**6)),
        metadata=draw(st.none() | st.dictionaries(LABELS, LABELS, max_size=2)),
        tier=draw(st.sampled_from([None, "priority", "default", "flex", "reserved"])),
        rest=draw(rests() | GUARDRAILS | rests("additionalModelRequestFields", binding=True)),
    )


TOKENS = st.integers(0, 10**6)
USAGES = st.builds(
    lambda into, made, read, written: Usage(into + read + written, made, read, written), *[TOKENS] * 4
).filter(
    lambda usage: usage != Usage()  # a usage of nothing stands for none
)
FINISHES = st.one_of(
    st.sampled_from([reason for reason in Reason if reason is not Reason.OTHER]).map(Finish),
    st.just(Finish(Reason.STOP, "stop_sequence", US)),
    st.just(Finish(Reason.OTHER, "malformed_tool_use", US)),
    st.just(Finish(Reason.LENGTH, "model_context_window_exceeded", US)),
)
SEALS = st.none() | st.builds(Seal, st.sampled_from(["gemini_generate", "openai_responses"]), WORDS)
SEALED_CALLS = st.builds(ToolCall, SAID, SAID, ARGUMENTS, seal=SEALS)
SEALED_TEXTS = st.builds(Text, SAID, seal=SEALS)
CITED_TEXTS = st.builds(Text, SAID, citations=st.lists(CITATIONS, min_size=1, max_size=2).map(tuple), seal=SEALS)
THOUGHTS = st.one_of(
    st.builds(Reasoning, SAID, SEALS | OWN),
    st.builds(Reasoning, st.just(""), SEALS.filter(bool) | OWN_HIDDEN, st.just(()), st.just(True)),
)
PICTURES = st.builds(Image, inline("image/png"))
REPLY_REST = st.dictionaries(
    st.sampled_from([("x_trace",), ("metrics", "latencyMs"), ("x_b",)]),
    st.integers(1, 9), max_size=2,
).map(lambda said: tuple(Extra(US, path, raw(said[path])) for path in sorted(said)))  # fmt: skip
REPLIES = st.builds(
    lambda parts, finish, usage, rest, tier: Reply(
        choices=(Choice(0, tuple(parts), finish),), usage=usage, rest=rest, tier=tier
    ),
    st.lists(SEALED_CALLS | SEALED_TEXTS | CITED_TEXTS | THOUGHTS | PICTURES, max_size=4),
    FINISHES,
    st.none() | USAGES,
    REPLY_REST,
    st.sampled_from(["", "priority"]),
)  # fmt: skip


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text in one or more pieces."""
    marks = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@st.composite
def told(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The events that tell a reply; texts and calls end at once, or all together at the end."""
    (choice,) = reply.choices
    events: list[Event] = [Opened("", "", reply.tier), *(Aside(None, extra) for extra in reply.rest)]
    ends: list[Event] = []
    for number, part in enumerate(choice.parts):
        index = number * 7
        text, empty, seal = getattr(part, "text", ""), {"text": ""}, None
        if isinstance(part, ToolCall):
            text, empty = part.arguments, {"arguments": ""}
        elif isinstance(part, Image):
            text, empty = "", {}
        elif isinstance(part, Reasoning) and not part.hidden:
            seal, empty = part.seal, {"text": "", "seal": None}
        events.append(PartStart(0, index, msgspec.structs.replace(part, **empty)))
        events += [PartDelta(0, index, piece) for piece in pieces(draw, text)]
        late = draw(st.booleans()) and not isinstance(part, Reasoning)
        (ends if late else events).append(PartEnd(0, index, seal))
    events += [*ends, Finished(0, choice.finish)]
    return [*events, *([Metered(reply.usage)] if reply.usage is not None else [])]


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def frame(kind: str, document: object, **headers: str) -> bytes:
    named = {f":{name.replace('_', '-')}": value for name, value in headers.items()}
    return write_message(
        {":message-type": "event", ":event-type": kind, ":content-type": "application/json", **named},
        msgspec.json.encode(document),
    )


@st.composite
def provider_stream(draw: st.DrawFn, answer: dict[str, Any]) -> list[bytes]:
    """The messages in which a provider would stream the answer."""
    frames = [frame("messageStart", {"role": "assistant", "p": "abc"})]
    for index, block in enumerate(answer["output"]["message"]["content"]):
        start, deltas = _spelled(draw, block)
        if start is not None:
            frames.append(frame("contentBlockStart", {"start": start, "contentBlockIndex": index, "p": "ab"}))
        frames += [frame("contentBlockDelta", {"delta": delta, "contentBlockIndex": index}) for delta in deltas]
        frames.append(frame("contentBlockStop", {"contentBlockIndex": index, "p": ""}))
    last = {
        name: value
        for name, value in answer.items()
        if name not in ("output", "stopReason", "additionalModelResponseFields")
    }
    stop = {name: answer[name] for name in ("stopReason", "additionalModelResponseFields") if name in answer}
    return [*frames, frame("messageStop", stop), frame("metadata", last)]


def _spelled(draw: st.DrawFn, block: dict[str, Any]) -> tuple[Any, list[Any]]:
    ((kind, value),) = block.items()
    if kind == "text":
        return None, [{"text": piece} for piece in pieces(draw, value)]
    if kind == "toolUse":
        said = msgspec.json.encode(value["input"]).decode()
        given = [{"toolUse": {"input": piece}} for piece in pieces(draw, said)]
        return {"toolUse": {name: value[name] for name in value if name != "input"}}, given
    if kind == "toolResult":
        items = [{"toolResult": [item]} for item in value["content"]]
        return {"toolResult": {name: value[name] for name in value if name != "content"}}, items
    if kind == "citationsContent":
        texts = [{"text": item["text"]} for item in value["content"]]
        return None, texts + [{"citation": citation} for citation in value["citations"]]
    if kind == "image":
        return {"image": {"format": value["format"]}}, [{"image": {"source": value["source"]}}]
    inner = value.get("reasoningText")
    if inner is None:
        return None, [{"reasoningContent": value}]
    signature = [{"reasoningContent": {"signature": inner["signature"]}}]
    return None, [{"reasoningContent": {"text": piece}} for piece in pieces(draw, inner["text"])] + signature


def botocore_reads(body: bytes, status: int = 200, operation: str = "Converse") -> dict[str, Any]:
    """What botocore makes of an answer."""
    response = {"body": body, "headers": {}, "status_code": status, "context": {"operation_name": operation}}
    parsed: dict[str, Any] = RestJSONParser().parse(response, SERVICE.operation_model(operation).output_shape)
    return parsed


class Body:
    """A streaming body as botocore's HTTP layer hands it over."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def stream(self) -> list[bytes]:
        return self._pieces


def botocore_streams(pieces: list[bytes]) -> list[dict[str, Any]]:
    """The events botocore makes of a stream; raises its error where the stream ends with one."""
    response = {
        "body": Body(pieces),
        "headers": {},
        "status_code": 200,
        "context": {"operation_name": "ConverseStream"},
    }
    parsed = RestJSONParser().parse(response, SERVICE.operation_model("ConverseStream").output_shape)
    return list(parsed["stream"])


def plain(value: Any) -> Any:
    """What botocore parsed, as the JSON it came from."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name != "ResponseMetadata"}
    return [plain(inner) for inner in value] if isinstance(value, list) else value
