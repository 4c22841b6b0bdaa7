"""The items of a request, to the pivot's turns. It must not reorder what they say.

Source: official Python SDK 3.54, `types.responses.ResponseInputItem`. What a model made and nothing came between is one
turn of the assistant. An item of any other kind is kept whole as an `UnknownMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.parts import Text, ToolCall, ToolResult
from ostiary.wire.dialects.openai_responses.items import ARGUMENTS, NAMED, Run
from ostiary.wire.dialects.openai_responses.marks import DIALECT, mark, ordered
from ostiary.wire.dialects.openai_responses.parts import CONTENT, RAWS, STRING, decode_part, is_plain

_TURNS = {"user": Role.USER, "system": Role.SYSTEM, "developer": Role.DEVELOPER}
RESULTS = {"function_call_output": False, "custom_tool_call_output": True}  # whether the call was free
# Items that a model makes beside those whose name ends in "_call".
_MADE = frozenset({"reasoning", "mcp_list_tools", "mcp_approval_request", "program"})


def decode_items(raws: Sequence[msgspec.Raw]) -> list[Message | UnknownMessage]:
    """The turns of a list of items.

    Raises:
        Fault: INVALID_REQUEST for what is no object.
    """
    reader = _Reader()
    for place, raw in enumerate(raws):
        reader.take(raw, f"input.{place}")
    reader.end_run()
    return reader.turns


class _Reader:
    """The turns so far, and the items of the assistant's turn that is being read."""

    def __init__(self) -> None:
        self.turns: list[Message | UnknownMessage] = []
        self._run = Run(keep=True)
        self._free: set[str] = set()

    def take(self, raw: msgspec.Raw, where: str) -> None:
        members = Members.of(raw)
        if members is None:
            raise Fault(Kind.INVALID_REQUEST, f"{where!r} must be an object", param=where)
        untyped = "type" not in members
        kind, role = members.take("type", STRING) or "", members.take("role", STRING)
        spoken = kind == "message" or (untyped and role is not None)
        if spoken and role != "assistant":
            self.end_run()
            self.turns.append(_turn(_TURNS.get(role or ""), members, raw, untyped=untyped))
        elif kind in RESULTS:
            self.end_run()
            self.turns.append(self._result(kind, members, raw))
        elif spoken or kind in _MADE or kind.endswith("_call"):
            self._run.add(raw)
            if kind in ARGUMENTS and isinstance(call := self._run.parts[-1], ToolCall) and call.free:
                self._free.add(call.id)
        else:
            self.end_run()
            self.turns.append(UnknownMessage(DIALECT, raw))

    def end_run(self) -> None:
        """The assistant has spoken."""
        if self._run.parts:
            self.turns.append(Message(Role.ASSISTANT, tuple(self._run.parts)))
        self._run = Run(keep=True)

    def _result(self, kind: str, members: Members, raw: msgspec.Raw) -> Message | UnknownMessage:
        call_id = members.take("call_id", STRING)
        words = members.take("output", STRING)
        raws = members.take("output", RAWS) if words is None else None
        if call_id is None or (words is None and raws is None):
            return UnknownMessage(DIALECT, raw)
        parts = (Text(words),) if words is not None else tuple(decode_part(item, "input_text") for item in raws or ())
        marks = [mark("list")] if words is None and is_plain(parts) else []
        if RESULTS[kind] != (call_id in self._free):
            marks.append(mark("custom" if RESULTS[kind] else "function"))
        rest = ordered(members.rest(DIALECT, moot=NAMED), marks)
        return Message(Role.TOOL, (ToolResult(call_id, parts, rest=rest),))


def _turn(role: Role | None, members: Members, raw: msgspec.Raw, *, untyped: bool) -> Message | UnknownMessage:
    words = members.take(CONTENT, STRING)
    raws = members.take(CONTENT, RAWS) if words is None else None
    if role is None or (words is None and raws is None):
        return UnknownMessage(DIALECT, raw)
    parts = (Text(words),) if words is not None else tuple(decode_part(item, "input_text") for item in raws or ())
    marks = [mark("untyped")] if untyped else []
    if words is None and is_plain(parts):
        marks.append(mark("list"))
    return Message(role, parts, rest=ordered(members.rest(DIALECT, moot=NAMED), marks))
