"""Calls of functions and their results, from and to the pivot. It must not need an order of turns.

Source: official Python SDK 3.4, `types.FunctionCall`, `FunctionResponse` and `FunctionResponsePart`. Ids are optional:
a call without one gets one that is made of where it stands, has a form nobody else uses, and is left out again.

A result is an object here, and parts in the pivot. {"result": text} and {"error": text} are that text; any other
object is its own JSON as text, told apart by what is left over at `response`.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import (
    Audio,
    Content,
    Document,
    Image,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, find, inexpressible, losses_of
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, OBJECT, STRING, Fields, take_seal
from ostiary.wire.dialects.gemini_generate.parts import BINDING, CALL, PARTS, RESULT, decode_part, encode_media

RESULT_PARTS = "functionResponse.parts"
_WHOLE = Extra(DIALECT, (RESULT, "response"), msgspec.Raw(b"{}"))  # the text is the object itself
_INVENTED = re.compile(r"gemini-[0-9a-f]{24}")


def invented(turn: str, position: int, name: str) -> str:
    """The id of a call that has none: the same for the same turn, position and name."""
    return "gemini-" + hashlib.sha256(f"{turn}\n{position}\n{name}".encode()).hexdigest()[:24]


def decode_call(members: Fields, turn: str, position: int) -> ToolCall | None:
    """The call that a part of this kind holds, whose place is given; None for pieces of a call."""
    seal, inner = take_seal(members), members.inside(CALL)
    name, named, args = inner.take("name", STRING), inner.take("id", STRING), inner.object("args")
    if name is None or any(piece in inner for piece in ("args", "partialArgs", "willContinue")):
        return None
    rest = members.rest(DIALECT, BINDING)
    arguments = bytes(args).decode() if args is not None else "{}"
    return ToolCall(named or invented(turn, position, name), name, arguments, rest=rest, seal=seal)


def encode_call(call: ToolCall, where: str, losses: list[Loss]) -> dict[str, Any]:
    """A call, without its proof.

    Raises:
        Fault: INVALID_REQUEST for arguments that are no JSON object.
    """
    losses += losses_of(call.rest, DIALECT, where)
    if call.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    args = call.arguments.encode("utf-8", "replace")
    if not args.strip():
        losses.append(Loss(LossKind.SHAPE, f"{where}.arguments"))
        args = b"{}"
    if call.free or Members.of(args) is None:
        raise inexpressible(f"{where}.arguments")
    function: dict[str, Any] = {} if _INVENTED.fullmatch(call.id) else {"id": call.id}
    function |= {"name": call.name, "args": msgspec.Raw(args)}
    return with_rest({CALL: function}, call.rest, DIALECT)


class Ledger:
    """Which calls of a conversation await their results, so that one without an id finds its own."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._order: dict[str, deque[str]] = {}  # of the calls of each name
        self._waiting: set[str] = set()
        self._stray = 0

    def called(self, call: ToolCall) -> None:
        """A call was made."""
        self.names[call.id] = call.name
        self._order.setdefault(call.name, deque()).append(call.id)
        self._waiting.add(call.id)

    def answered(self, name: str, call_id: str | None) -> str:
        """The id of the call that a result answers: its own, or that of the oldest call of this name."""
        order = self._order.get(name)
        while call_id is None and order:
            oldest = order.popleft()
            call_id = oldest if oldest in self._waiting else None
        if call_id is None:
            self._stray += 1
            return invented("stray", self._stray, name)
        self._waiting.discard(call_id)
        return call_id


def decode_result(members: Fields, ledger: Ledger) -> ToolResult | None:
    """The result that a part of this kind holds; None for one that is not of the documented shape."""
    inner = members.inside(RESULT)
    name, named, response = inner.take("name", STRING), inner.take("id", STRING), inner.object("response")
    raws = inner.items(PARTS)
    if name is None or "response" in inner or PARTS in inner:
        return None
    call_id = ledger.answered(name, named or None)
    if ledger.names.get(call_id) != name:
        inner.put_back("name", msgspec.Raw(msgspec.json.encode(name)))
    rest = members.rest(DIALECT, BINDING)
    text, failed, whole = _text(response)
    parts: list[Content] = [] if text is None else [Text(text)]
    parts += [_enclosed(part) for part in raws or ()]
    return ToolResult(call_id, tuple(parts), failed, tuple(sorted((*rest, _WHOLE), key=_path)) if whole else rest)


def _path(extra: Extra) -> tuple[str, ...]:
    return extra.path


def _text(response: msgspec.Raw | None) -> tuple[str | None, bool, bool]:
    """What a result says, whether it is a failure, and whether the text is the object itself."""
    if response is None:
        return None, False, False
    said = OBJECT.decode(response)
    if not said:
        return None, False, False
    for name in ("result", "error"):
        if set(said) == {name}:
            try:
                return STRING.decode(said[name]), name == "error", False
            except msgspec.DecodeError:
                break
    return bytes(response).decode(), False, True


def _enclosed(raw: msgspec.Raw) -> Content:
    part = decode_part(raw, Fields.of(raw), RESULT_PARTS)
    return part if isinstance(part, (Image, Audio, Document)) else UnknownPart(DIALECT, RESULT_PARTS, raw)


def encode_result(result: ToolResult, names: dict[str, str], where: str, losses: list[Loss]) -> dict[str, Any]:
    """A result; `names` are those of the calls made before, by id.

    Raises:
        Fault: INVALID_REQUEST for a result of no call, and for content a result cannot hold.
    """
    losses += losses_of(result.rest, DIALECT, where)
    if result.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    name = names.get(result.call_id)
    if name is None and find(result.rest, DIALECT, RESULT, "name") is None:
        raise inexpressible(f"{where}.call_id")
    function: dict[str, Any] = {} if _INVENTED.fullmatch(result.call_id) else {"id": result.call_id}
    if name is not None and find(result.rest, DIALECT, RESULT, "name") is None:
        function["name"] = name
    words = [part.text for part in result.parts if isinstance(part, (Text, Refusal))]
    others = [part for part in result.parts if not isinstance(part, (Text, Refusal))]
    if len(words) > 1 or (words and not isinstance(result.parts[0], (Text, Refusal))):
        losses.append(Loss(LossKind.SHAPE, where))
    function["response"] = _response(result, "".join(words) if words else None, where, losses)
    if others:
        function[PARTS] = [_enclose(part, f"{where}.parts.{index}", losses) for index, part in enumerate(others)]
    return with_rest({RESULT: function}, result.rest, DIALECT)


def _response(result: ToolResult, text: str | None, where: str, losses: list[Loss]) -> Any:
    losses += [
        Loss(LossKind.MARK, f"{where}.parts.{index}")
        for index, part in enumerate(result.parts)
        if isinstance(part, Refusal) or (isinstance(part, Text) and (part.cache or part.citations or part.seal))
    ]
    if text is None:
        if result.failed:
            losses.append(Loss(LossKind.MARK, f"{where}.failed"))
        return {}
    data = text.encode("utf-8", "replace")
    if find(result.rest, DIALECT, *_WHOLE.path) is not None and Members.of(data) is not None:
        return msgspec.Raw(data)
    return {"error" if result.failed else "result": text}


def _enclose(part: Content, where: str, losses: list[Loss]) -> Any:
    if isinstance(part, (Image, Audio, Document)):
        return encode_media(part, where, losses)
    if isinstance(part, UnknownPart) and part.said_by == DIALECT and part.place == RESULT_PARTS:
        return part.value
    raise inexpressible(where)
