"""Writes what became of a file as text that people can read. It must not leave out what makes a difference.

Left out are: of answers, what every answer of the dialect says in the same words (`plain_text` shows it); of a stream's
messages, members that every one of them repeats, and the copies of the whole answer that the Responses dialect sends
before its end. Texts beyond 400 characters are given by length and digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import golden_matrix as matrix
import msgspec
from golden_corpus import NAMES, PROFILES, File
from golden_matrix import Told

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.registry import DIALECTS

_WIDTH = 120
_LONGEST_LINE = 250  # of one message of a stream
_LONGEST = 400
_FULL = "plain_text"
_TOLD = frozenset({"choices", "candidates", "content", "message", "output", "usage", "stopReason"})
_UNFINISHED = frozenset({"response.created", "response.in_progress", "response.queued"})


def snapshot(file: File) -> str:
    """The text of a snapshot: the head, and a section for each target."""
    head = [f"# {file.case}: {file.about['title']}", f"# {file.path.name}"]
    return "\n".join([*head, "", *_SECTIONS[file.kind](file)]) + "\n"


def _request(file: File) -> Iterable[str]:
    conversation = matrix.asked(file)
    named = file.about.get("profile", "any")
    for target in NAMES:
        usual = matrix.request(conversation, target)
        yield from _section(target, usual, _body(usual))
        if named == "any":
            continue
        fitted = matrix.request(conversation, target, PROFILES[named])
        same = (fitted.body, fitted.losses, repr(fitted.refused)) == (usual.body, usual.losses, repr(usual.refused))
        yield from _section(f"{target}, {named}", fitted, ["the same"] if same else _body(fitted))


def _reply(file: File) -> Iterable[str]:
    answer = DIALECTS[file.dialect].decode_reply(file.wire())
    yield f"usage: {_usage(answer.usage)}"
    yield ""
    for target in NAMES:
        told = matrix.reply(answer, target)
        stated = [] if told.refused else [f"usage: {_usage(DIALECTS[target].usage_of(told.body))}"]
        usual = {} if file.case == _FULL else _usual(target)
        yield from _section(target, told, [*stated, *_body(told, usual)])


def _stream(file: File) -> Iterable[str]:
    events = matrix.events(file.dialect, file.wire())
    answer = matrix.folded(events)
    yield f"usage: {_usage(None if isinstance(answer, Fault) else answer.usage)}"
    yield ""
    for target in NAMES:
        told = matrix.stream(events, target)
        back = matrix.folded(matrix.events(target, told.body))
        stated = [] if isinstance(back, Fault) else [f"usage: {_usage(back.usage)}"]
        usual = {} if file.case == _FULL else _usual(target)
        yield from _section(target, told, [*stated, *_messages(target, told.body, usual)])


def _error(file: File) -> Iterable[str]:
    for target in NAMES:
        told = matrix.error(matrix.fault_of(file), file.dialect, target)
        yield from _section(target, told, [f"status: {told.status}", *_body(told)])


_SECTIONS = {"request": _request, "reply": _reply, "stream": _stream, "error": _error}


def _section(title: str, told: Told, lines: Iterable[str]) -> Iterable[str]:
    yield f"== {title}"
    if told.refused is not None:
        yield f"refused: {told.refused.param}"
    if told.losses:
        yield "lost: " + ", ".join(f"{loss.kind} {loss.where}" for loss in told.losses)
    yield from lines
    yield ""


def _usage(usage: Usage | None) -> str:
    if usage is None:
        return "none"
    stated = {name: getattr(usage, name) for name in usage.__struct_fields__}
    return ", ".join(f"{name} {count}" for name, count in stated.items() if count or name in ("input", "output"))


@cache
def _usual(target: str) -> dict[str, Any]:
    """What every answer of a dialect says in the same words."""
    nothing = Reply(choices=(Choice(0, (), Finish(Reason.STOP)),))
    document: dict[str, Any] = msgspec.json.decode(matrix.reply(nothing, target).body)
    return {name: value for name, value in document.items() if name not in _TOLD}


def _unusual(document: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in usual or usual[name] != value}


def _body(told: Told, usual: dict[str, Any] | None = None) -> list[str]:
    return pretty(_unusual(msgspec.json.decode(told.body), usual or {})).split("\n") if told.body else []


def _messages(dialect: str, data: bytes, usual: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    before: dict[str, Any] = {name: usual[name] for name in _REPEATED if name in usual}
    for name, message in matrix.frames(dialect, data):
        shown = message
        if isinstance(message, dict):
            shown = {key: value for key, value in message.items() if key not in before or before[key] != value}
            before |= {key: message[key] for key in _REPEATED if key in message}
            if name in _UNFINISHED:
                shown["response"] = {"status": message["response"]["status"]}
            elif isinstance(message.get("response"), dict):
                shown["response"] = _unusual(message["response"], usual)
            shown.pop("sequence_number", None)
            if shown.get("type") == name:
                del shown["type"]
        line = f"{name} {json.dumps(_short(shown), ensure_ascii=False, sort_keys=True)}".strip()
        lines += [line] if len(line) <= _LONGEST_LINE else f"{name} {pretty(shown)}".strip().split("\n")
    return lines


_REPEATED = ("id", "object", "created", "model", "responseId", "modelVersion", "created_at", "system_fingerprint")


def pretty(value: Any, before: int = 0, indent: int = 0) -> str:
    """JSON with sorted keys, in as few lines as fit. `before` characters stand on the line already."""
    line = json.dumps(_short(value), ensure_ascii=False, sort_keys=True)
    if len(line) + before <= _WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    inner = indent + 2
    if isinstance(value, dict):
        named = [(f"{json.dumps(key)}: ", one) for key, one in sorted(value.items())]
        left, right = "{", "}"
    else:
        named = [("", one) for one in value]
        left, right = "[", "]"
    items = [" " * inner + name + pretty(one, inner + len(name), inner) for name, one in named]
    return left + "\n" + ",\n".join(items) + "\n" + " " * indent + right


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST:
        digest = hashlib.sha256(value.encode()).hexdigest()[:12]
        return f"{value[:40]}… ({len(value)} characters, {digest})"
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list) else value
