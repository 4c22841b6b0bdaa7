"""Legacy text completions as a dialect of their own: a prompt is one turn of the user's, the completion the answer's
text. Where a request names no cap there is none: the API's own default of 16 tokens is for models of its time.

It shares the envelope of errors, the usage and the framing with chat. Source: OpenAI API reference, create completion
(official Python SDK 3.54, `CompletionCreateParams`, `types.Completion`). It must not say what a text cannot hold.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import Endpoint, Operation
from ostiary.core.usage import Usage
from ostiary.wire.conversation.conversation import Conversation, Message, Role, Sampling
from ostiary.wire.conversation.events import (
    Aside,
    Cited,
    Event,
    Failed,
    Finished,
    Metered,
    Opened,
    PartDelta,
    PartEnd,
    PartStart,
    Scored,
)
from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Text
from ostiary.wire.conversation.reply import Choice, Reply
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialect import Answering, Dialect
from ostiary.wire.dialects.openai_chat.faults import decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.openai_chat.reply import (
    encode_usage,
    error_of,
    finish_of,
    readable,
    take_usage,
    truncated,
    word_of,
)
from ostiary.wire.dialects.openai_chat.usage import bad_answer, hidden_error, read_usage
from ostiary.wire.dialects.openai_chat.values import COMPLETIONS as NAME
from ostiary.wire.dialects.openai_chat.values import INTEGER, RAWS, STRING
from ostiary.wire.framing.sse import SseFramer, event_data, sse_event
from ostiary.wire.governed import peek_openai
from ostiary.wire.profile import Profile

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "completions", Operation.CHAT, "POST", "/completions", mode="completion", streams=True, dialect=NAME
    ),
)  # fmt: skip
_BINDING = frozenset({"prompt", "suffix", "echo", "best_of", "stop", "n", "max_tokens"})
_NUMBER = msgspec.json.Decoder(int | float)
_FLAG = msgspec.json.Decoder(bool)
_STRINGS = msgspec.json.Decoder(list[str])
_DONE = b"[DONE]"
_MOST_CHOICES = 128
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes) -> Conversation:
    """The conversation a request body asks for.

    Raises:
        Fault: MALFORMED for what is no JSON object in UTF-8; INVALID_REQUEST where the prompt is not one text.
    """
    members = readable(body)
    if members is None:
        raise Fault(Kind.MALFORMED, "the request body is not a valid JSON object")
    options = members.inside("stream_options")
    best = members.take("best_of", INTEGER)
    if best is not None and best > 1:
        members.put_back("best_of", msgspec.Raw(_encode(best)))
    if members.take("echo", _FLAG):
        members.put_back("echo", msgspec.Raw(b"true"))
    chances = members.take("logprobs", INTEGER)
    return Conversation(
        model=members.take("model", STRING) or "",
        messages=(Message(Role.USER, (Text(_prompt(members)),)),),
        sampling=Sampling(
            temperature=members.take("temperature", _NUMBER),
            top_p=members.take("top_p", _NUMBER),
            frequency_penalty=members.take("frequency_penalty", _NUMBER),
            presence_penalty=members.take("presence_penalty", _NUMBER),
            seed=members.take("seed", INTEGER),
        ),
        stop=_stop(members),
        max_text=members.take("max_tokens", INTEGER),
        choices=members.take("n", INTEGER),
        stream=members.take("stream", _FLAG),
        stream_usage=options.take("include_usage", _FLAG),
        user=members.take("user", STRING),
        logprobs=None if chances is None else True,
        top_logprobs=chances or None,
        rest=members.rest(NAME, _BINDING),
    )


def _prompt(members: Members) -> str:
    text = members.take("prompt", STRING)
    if text is not None:
        return text
    several = members.take("prompt", _STRINGS)
    if several is not None and len(several) == 1:
        return several[0]
    raise Fault(
        Kind.INVALID_REQUEST, "'prompt' must be one text where a chat model completes it", param="prompt"
    )  # fmt: skip


def _stop(members: Members) -> tuple[str, ...]:
    one = members.take("stop", STRING)
    if one is not None:
        return (one,)
    several = members.take("stop", _STRINGS)
    return tuple(several or ())


def encode_request(conversation: Conversation, profile: Profile) -> Encoded:
    """The body for a conversation of one turn of words.

    Raises:
        Fault: INVALID_REQUEST for whatever is more than that.
    """
    losses = losses_of(conversation.rest, NAME, "")
    said = conversation.messages
    if conversation.tools or conversation.format is not None or conversation.previous is not None:
        raise inexpressible("tools" if conversation.tools else "format" if conversation.format else "previous")
    if len(said) != 1 or not isinstance(said[0], Message) or said[0].role is not Role.USER:
        raise inexpressible("messages")
    words = []
    for index, part in enumerate(said[0].parts):
        if not isinstance(part, Text):
            raise inexpressible(f"messages.0.parts.{index}")
        losses += losses_of(part.rest, NAME, f"messages.0.parts.{index}")
        words.append(part.text)
    losses += losses_of(said[0].rest, NAME, "messages.0")
    sampling = conversation.sampling if profile.sampling else Sampling(seed=conversation.sampling.seed)
    asked = {
        "temperature": sampling.temperature, "top_p": sampling.top_p,
        "frequency_penalty": sampling.frequency_penalty, "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed, "stop": conversation.stop or None,
        "max_tokens": conversation.max_text if conversation.max_text is not None else conversation.max_output,
        "n": conversation.choices, "stream": conversation.stream, "user": conversation.user,
        "logprobs": (conversation.top_logprobs or 0) if conversation.logprobs else None,
    }  # fmt: skip
    losses += [Loss(LossKind.KNOB, f"sampling.{name}") for name in _unsaid(conversation, profile)]
    losses += [Loss(LossKind.KNOB, name) for name in ("tier", "store", "metadata") if getattr(conversation, name)]
    document: dict[str, Any] = {"model": conversation.model, "prompt": "".join(words)}
    document |= {name: value for name, value in asked.items() if value is not None}
    if conversation.stream_usage is not None and profile.stream_usage:
        document["stream_options"] = {"include_usage": conversation.stream_usage}
    return Encoded(_encode(with_rest(document, conversation.rest, NAME)), tuple(losses))


def _unsaid(conversation: Conversation, profile: Profile) -> list[str]:
    names = ("top_k",) if profile.sampling else ("temperature", "top_p", "top_k")
    return [name for name in names if getattr(conversation.sampling, name) is not None]


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no completion; the provider's error where the body is one.
    """
    members = readable(body)
    if members is None:
        raise bad_answer()
    raws = members.take("choices", RAWS)
    if raws is None:
        raise hidden_error(body) if error_of(members) else bad_answer()
    choices = []
    for place, raw in enumerate(raws):
        choice = Members.of(raw)
        if choice is None:
            raise bad_answer()
        text, index = choice.take("text", STRING), choice.take("index", INTEGER)
        finish = finish_of(choice.take("finish_reason", STRING))
        choices.append(Choice(place if index is None else index, (Text(text),) if text else (), finish))
    return Reply(
        choices=tuple(sorted(choices, key=lambda choice: choice.index)),
        usage=take_usage(members),
        id=members.take("id", STRING) or "",
        model=members.take("model", STRING) or "",
    )


def encode_reply(reply: Reply, answering: Answering) -> Encoded:
    """The body of an answer, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST for content that is no text.
    """
    losses = losses_of(reply.rest, NAME, "")
    choices = []
    for choice in reply.choices:
        where = f"choices.{choice.index}"
        losses += losses_of(choice.rest, NAME, where)
        text = "".join(_words(part, f"{where}.parts.{n}", losses) for n, part in enumerate(choice.parts))
        losses += [Loss(LossKind.KNOB, f"{where}.logprobs")] if choice.scores else []
        choices.append(_choice(choice.index, text, word_of(choice.finish)))
    document = {**_frame(answering), "choices": choices}
    if reply.usage is not None:
        document["usage"] = encode_usage(reply.usage)
    return Encoded(_encode(document), tuple(losses))


def _words(part: Part, where: str, losses: list[Loss]) -> str:
    match part:
        case Text(text) | Refusal(text):
            return text
        case Reasoning():  # a completion has no place for thoughts
            losses.append(Loss(LossKind.SHAPE, where))
            return ""
    raise inexpressible(where)


def _frame(answering: Answering) -> dict[str, Any]:
    return {
        "id": f"cmpl-{answering.id}", "object": "text_completion", "created": answering.created,
        "model": answering.model,
    }  # fmt: skip


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = SseFramer()
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._named = ("", "")
        self._over = False

    @property
    def over(self) -> bool:
        """`[DONE]` or a failure has come."""
        return self._over

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        for frame in self._framer.feed(data):
            said = event_data(frame)
            if said is not None and not self._over:
                events += self._event(said)
        return events

    def finish(self) -> list[Event]:
        """The stream is over: what is left, and `Failed` where it was cut."""
        rest = event_data(self._framer.flush())
        events = self._event(rest) if rest is not None and not self._over and readable(rest) is not None else []
        if not self._over:
            self._over = True
            if not self._finished or self._open - self._finished:
                events.append(Failed.of(truncated()))
        return events

    def _event(self, said: bytes) -> list[Event]:
        if said.strip() == _DONE:
            self._over = True
            left = sorted(self._open - self._finished)
            return [event for index in left for event in self._end(index, None)]
        members = readable(said)
        if members is None or error_of(members):
            self._over = True
            return [Failed.of(bad_answer() if members is None else hidden_error(said))]
        events: list[Event] = []
        named = members.take("id", STRING) or self._named[0], members.take("model", STRING) or self._named[1]
        if named != self._named:
            self._named = named
            events.append(Opened(*named))
        for raw in members.take("choices", RAWS) or []:
            choice = Members.of(raw)
            index = (choice.take("index", INTEGER) or 0) if choice is not None else -1
            if choice is None or not 0 <= index < _MOST_CHOICES:
                self._over = True
                return [*events, Failed.of(bad_answer())]
            events += self._told(index, choice)
        usage = take_usage(members)
        return [*events, Metered(usage)] if usage is not None else events

    def _told(self, index: int, choice: Members) -> list[Event]:
        if index in self._finished:
            return []
        events: list[Event] = []
        text, word = choice.take("text", STRING), choice.take("finish_reason", STRING)
        if text:
            if index not in self._open:
                self._open.add(index)
                events.append(PartStart(index, 0, Text("")))
            events.append(PartDelta(index, 0, text))
        return [*events, *self._end(index, word)] if word is not None else events

    def _end(self, index: int, word: str | None) -> list[Event]:
        self._finished.add(index)
        end: list[Event] = [PartEnd(index, 0)] if index in self._open else []
        return [*end, Finished(index, finish_of(word))]


class StreamEncoder:
    """Writes one stream: events in, server-sent events out."""

    def __init__(self, answering: Answering) -> None:
        self.losses: list[Loss] = []
        self._frame = _frame(answering)
        self._include_usage = answering.asked.stream_usage is True
        self._silent: set[tuple[int, int]] = set()  # parts that are not told
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._usage: Usage | None = None
        self._failed = False

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content that is no text.
        """
        if self._failed:
            return b""
        match event:
            case PartDelta(choice, index, text):
                return b"" if (choice, index) in self._silent else self._chunk([_choice(choice, text, None)])
            case PartStart(choice, index, part):
                self._begun.add(choice)
                text = _words(part, f"choices.{choice}.parts.{index}", self.losses)
                if isinstance(part, Reasoning):
                    self._silent.add((choice, index))
                return self._chunk([_choice(choice, text, None)]) if text else b""
            case PartEnd(choice, index, seal) if seal is not None:
                self.losses.append(Loss(LossKind.SEAL, f"choices.{choice}.parts.{index}"))
            case Cited(choice, index):
                self.losses.append(Loss(LossKind.MARK, f"choices.{choice}.parts.{index}.citations"))
            case Scored(choice):
                self.losses.append(Loss(LossKind.KNOB, f"choices.{choice}.logprobs"))
            case Aside(choice, extra):
                self.losses += losses_of((extra,), NAME, "" if choice is None else f"choices.{choice}")
            case Metered(usage):
                self._usage = usage
            case Finished(choice, finish):
                self._finished.add(choice)
                return self._chunk([_choice(choice, "", word_of(finish))])
            case Failed():
                self._failed = True
                return encode_fault_event(event.to_fault())
        return b""

    def end(self) -> bytes:
        """The end of the stream; an error event where a choice has not finished."""
        if self._failed:
            return b""
        if not self._finished or self._begun - self._finished:
            self._failed = True
            return encode_fault_event(truncated())
        last = b""
        if self._include_usage and self._usage is not None:
            last = self._chunk([], encode_usage(self._usage))
        return last + b"data: [DONE]\n\n"

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        document: dict[str, Any] = {**self._frame, "choices": choices}
        if self._include_usage:
            document["usage"] = usage
        return sse_event(_encode(document))


def _path(model: str, stream: bool) -> str:
    del model, stream  # the body says both
    return "/completions"


DIALECT: Dialect = Dialect(
    name=NAME,
    endpoints=ENDPOINTS,
    path=_path,
    peek=peek_openai,
    decode_request=decode_request,
    encode_request=encode_request,
    decode_reply=decode_reply,
    encode_reply=encode_reply,
    usage_of=read_usage,
    decoder=StreamDecoder,
    encoder=StreamEncoder,
    encode_fault=encode_fault,
    encode_fault_event=encode_fault_event,
    decode_fault=decode_fault,
    ping=b": ping\n\n",
)
