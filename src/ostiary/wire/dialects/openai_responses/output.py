"""The output of a response as it grows: items one after another, and the events that tell of them.

It must not know how events are framed. Whole answers are written through it too, so that a stream tells the same.

Source: official Python SDK 3.54, `types.responses` (`ResponseOutputItem`, `Response…Event`). A message and an item of
reasoning stay open until something else follows, since their next piece may be another part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Score
from ostiary.wire.conversation.seals import carry, unproven
from ostiary.wire.conversation.unknown import Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialects.openai_responses.items import ARGUMENTS, OUTPUT, PIECES, RAW_MARK, REASONED, SUMMARY
from ostiary.wire.dialects.openai_responses.marks import DIALECT, item_marked, of_item, put
from ostiary.wire.dialects.openai_responses.parts import CONTENT, encode_citation
from ostiary.wire.dialects.openai_responses.scores import encode_scores, encode_scores_of_delta

Emit = Callable[[str, dict[str, Any]], None]
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_STATES = frozenset({"message", "function_call"})  # items that have a status
_TEXT, _REFUSAL, _SUMMARY, _RAW, _CALL, _WHOLE = range(6)
# The event of more text, for each kind of part that grows.
_DELTAS = {
    _TEXT: "response.output_text.delta",
    _REFUSAL: "response.refusal.delta",
    _SUMMARY: "response.reasoning_summary_text.delta",
    _RAW: "response.reasoning_text.delta",
}


class Output:
    """Writes parts, each from start to end before the next.

    Attributes:
        items: what has been written, the last one perhaps unfinished.

    Args:
        id: what the items' names are made of.
        emit: takes each event's type and members.
        losses: grows by what could not be said.
        proven: reasoning always has something in place of a proof, because the client keeps it itself.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002  # the wire's word
        emit: Emit,
        losses: list[Loss],
        proven: bool = False,
    ) -> None:
        self.items: list[Any] = []
        self._proven = proven
        self._id = id
        self._emit = emit
        self._losses = losses
        self._item: dict[str, Any] | None = None  # the one that is open
        self._kind = _TEXT
        self._part: dict[str, Any] | None = None  # of the open item, where it has several
        self._place: dict[str, Any] = {}  # what every event of the open part begins with
        self._pieces: list[str] = []
        self._citations: list[Citation] = []
        self._scores: list[Score] = []
        self._told_scores = 0
        self._hidden = False
        self._where = ""

    def start(self, part: Part, where: str) -> None:
        """A part begins.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        self._where, self._pieces, self._citations, self._part = where, [], [], None
        match part:
            case UnknownPart():
                self._unknown(part, where)
                return
            case Text() | Refusal():
                self._words(part)
            case Reasoning():
                self._reasoning(part)
            case ToolCall():
                self._call(part)
            case _:
                raise inexpressible(where)
        self._losses += losses_of(part.rest, DIALECT, where)
        text = part.arguments if isinstance(part, ToolCall) else part.text
        if isinstance(part, Text):
            self._citations += part.citations
        if text:
            self.more(text)

    def more(self, text: str) -> None:
        """More of the part that has begun."""
        if self._item is None or self._kind == _WHOLE:
            return
        if self._hidden:
            self._show()
        self._pieces.append(text)
        event = {**self._place, "delta": text}
        if self._kind == _TEXT:
            event["logprobs"] = encode_scores_of_delta(self._scores[self._told_scores :])
            self._told_scores = len(self._scores)
        self._emit(_DELTAS.get(self._kind) or f"response.{_written(self._item)}.delta", event)

    def cite(self, citation: Citation) -> None:
        """Where words of the part that has begun come from."""
        self._citations.append(citation)

    def score(self, scores: tuple[Score, ...]) -> None:
        """The chances of words of the message that is open, or of the next."""
        self._scores += scores

    def end(self, seal: Seal | None) -> None:
        """The part that has begun is whole."""
        item, text = self._item, "".join(self._pieces)
        if item is None or self._kind == _WHOLE:
            return
        if self._kind == _CALL:
            item[ARGUMENTS[item["type"]]] = text
            name = ARGUMENTS[item["type"]]
            self._emit(f"response.{_written(item)}.done", {**self._place, name: text})
            if seal is not None:
                self._losses.append(Loss(LossKind.SEAL, self._where))
        elif self._kind in (_SUMMARY, _RAW):
            self._end_reasoning(item, text, seal)
        else:
            self._end_words(text)
            if seal is not None:
                self._late_proof(seal)

    def close(self, status: str = "completed") -> None:
        """The open item, if there is one, is whole."""
        item, self._item = self._item, None
        if item is None:
            return
        if item["type"] in _STATES:
            item["status"] = status
        if self._proven and item["type"] == "reasoning":
            item.setdefault("encrypted_content", unproven())
        self._emit("response.output_item.done", {"output_index": len(self.items) - 1, "item": item})

    def abandon(self) -> None:
        """Nothing more will be written: what was keeps its place, and no event tells of it."""
        item, text = self._item, "".join(self._pieces)
        if item is None or self._kind == _WHOLE:
            return
        if self._kind == _CALL:
            item[ARGUMENTS[item["type"]]] = text
        elif self._part is not None:
            self._part["refusal" if self._kind == _REFUSAL else "text"] = text
        if item["type"] in _STATES:
            item["status"] = "incomplete"

    def finish(self, status: str) -> None:
        """Nothing follows."""
        self.close(status)
        if len(self._scores) > 0:
            self._losses.append(Loss(LossKind.MARK, "choices.0.scores"))
            self._scores = []

    def _open(self, item: dict[str, Any]) -> dict[str, Any]:
        """A new item."""
        self.close()
        kind = item["type"]
        item = {"id": f"{_PREFIXES[kind]}_{self._id}_{len(self.items)}", **item}
        if kind in _STATES:
            item["status"] = "in_progress"
        self._item = item
        self._emit("response.output_item.added", {"output_index": len(self.items), "item": item})
        self.items.append(item)
        return item

    def _proof(self, seal: Seal) -> None:
        """An item that carries the proof of the part that follows."""
        self._open({"type": "reasoning", SUMMARY: [], "encrypted_content": carry(seal, ahead=True)})
        self.close()

    def _late_proof(self, seal: Seal) -> None:
        """A proof that came after its text: it travels with a text that says no more."""
        self._losses.append(Loss(LossKind.SHAPE, self._where))
        self.start(Text("", seal=seal), self._where)
        self._end_words("")

    def _words(self, part: Text | Refusal) -> None:
        item = self._item
        sealed = isinstance(part, Text) and part.seal is not None
        if isinstance(part, Text) and part.seal is not None:
            self._proof(part.seal)
        if item is None or item["type"] != "message" or sealed or item_marked(part.rest, "next"):
            item = self._open(put({"type": "message", "role": "assistant", CONTENT: []}, of_item(part.rest)))
        if isinstance(part, Text):
            self._kind = _TEXT
            said: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            self._kind = _REFUSAL
            said = {"type": "refusal", "refusal": ""}
        self._part = put(said, part.rest)
        self._add_part(item)

    def _add_part(self, item: dict[str, Any]) -> None:
        assert self._part is not None
        self._place = {
            "item_id": item["id"],
            "output_index": len(self.items) - 1,
            "content_index": len(item[CONTENT]),
        }
        self._emit("response.content_part.added", {**self._place, "part": self._part})
        item[CONTENT].append(self._part)

    def _end_words(self, text: str) -> None:
        part = self._part
        assert part is not None
        if self._kind == _REFUSAL:
            part["refusal"] = text
            self._emit("response.refusal.done", {**self._place, "refusal": text})
        else:
            part["text"] = text
            for number, citation in enumerate(self._citations):
                self._annotate(part, citation, len(text), f"{self._where}.citations.{number}")
            part["logprobs"] = encode_scores(self._scores)
            self._emit(
                "response.output_text.done",
                {**self._place, "text": text, "logprobs": encode_scores_of_delta(self._scores)},
            )
            self._scores, self._told_scores = [], 0
        self._emit("response.content_part.done", {**self._place, "part": part})

    def _annotate(self, part: dict[str, Any], citation: Citation, length: int, where: str) -> None:
        annotation = encode_citation(citation, length, where, self._losses)
        if annotation is not None:
            event = {**self._place, "annotation_index": len(part["annotations"]), "annotation": annotation}
            self._emit("response.output_text.annotation.added", event)
            part["annotations"].append(annotation)

    def _reasoning(self, part: Reasoning) -> None:
        item = self._item
        if item is None or item["type"] != "reasoning" or not item_marked(part.rest, "more"):
            item = self._open(put({"type": "reasoning", SUMMARY: []}, of_item(part.rest)))
        raw = item_marked(part.rest, RAW_MARK)
        self._kind = _RAW if raw else _SUMMARY
        self._hidden = True
        self._part = put({"type": PIECES[REASONED if raw else SUMMARY], "text": ""}, part.rest)
        if part.seal is not None:
            item["encrypted_content"] = _proof_text(part.seal)
        if not part.hidden:
            self._show()

    def _show(self) -> None:
        """Begin the piece of reasoning that was hidden so far."""
        self._hidden = False
        item = self._item
        assert item is not None
        if self._kind == _RAW:
            item.setdefault(REASONED, [])
            self._add_part(item)
            return
        self._place = {
            "item_id": item["id"],
            "output_index": len(self.items) - 1,
            "summary_index": len(item[SUMMARY]),
        }
        self._emit("response.reasoning_summary_part.added", {**self._place, "part": self._part})
        item[SUMMARY].append(self._part)

    def _end_reasoning(self, item: dict[str, Any], text: str, seal: Seal | None) -> None:
        part = self._part
        assert part is not None
        if seal is not None:
            item["encrypted_content"] = _proof_text(seal)
        if self._hidden:
            self._hidden = False
            return
        part["text"] = text
        if self._kind == _RAW:
            self._emit("response.reasoning_text.done", {**self._place, "text": text})
            self._emit("response.content_part.done", {**self._place, "part": part})
        else:
            self._emit("response.reasoning_summary_text.done", {**self._place, "text": text})
            self._emit("response.reasoning_summary_part.done", {**self._place, "part": part})

    def _call(self, part: ToolCall) -> None:
        if part.seal is not None:
            self._proof(part.seal)
        kind = "custom_tool_call" if part.free else "function_call"
        item = self._open(put({"type": kind, "call_id": part.id, "name": part.name, ARGUMENTS[kind]: ""}, part.rest))
        self._kind = _CALL
        self._place = {"item_id": item["id"], "output_index": len(self.items) - 1}

    def _unknown(self, part: UnknownPart, where: str) -> None:
        if part.said_by != DIALECT:
            raise inexpressible(where)
        self._kind = _WHOLE
        if part.place != OUTPUT:
            if self._item is None or self._item["type"] != "message":
                self._open({"type": "message", "role": "assistant", CONTENT: []})
            assert self._item is not None
            place = {
                "item_id": self._item["id"],
                "output_index": len(self.items) - 1,
                "content_index": len(self._item[CONTENT]),
            }
            for event in ("added", "done"):
                self._emit(f"response.content_part.{event}", {**place, "part": part.value})
            self._item[CONTENT].append(part.value)
            return
        self.close()
        for event in ("added", "done"):
            self._emit(f"response.output_item.{event}", {"output_index": len(self.items), "item": part.value})
        self.items.append(part.value)


def _written(item: dict[str, Any]) -> str:
    """The name of what is written within a call, in the events that tell of it."""
    return f"{item['type']}_{ARGUMENTS[item['type']]}"


def _proof_text(seal: Seal) -> str:
    return seal.value if seal.issuer == DIALECT else carry(seal)
