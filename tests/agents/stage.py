"""What a scripted provider makes an agent do, and how it judges what comes back. It must not know a dialect nor agent.

Five turns of tools: a file is written, read, then two calls at once, then two files are joined and the sum is read;
then a last word. Every turn is thought over, with a proof that has to come back. Requests beside the loop (a title, a
classification) get a short text.
"""

from __future__ import annotations

import json
import shlex
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TASK = "Please run the five steps of the house test."
FIRST_TEXT = 'alpha — "quoted" ☂\n'
SECOND_TEXT = "beta\n"
LAST_WORD = "All five steps are done — both.txt holds the two ☂."
ASIDE = "Five steps"
TURNS = 5
_WRITERS, _READERS = ("Write", "write_file", "write"), ("Read", "read_file", "read")
_SHELLS = ("Bash", "exec_command", "shell_command", "shell", "run_shell_command", "bash")
_PATHS, _COMMANDS = ("file_path", "absolute_path", "filePath", "path"), ("command", "cmd")


class WrongRequestError(Exception):
    """What a provider finds wrong with a request."""


def expect(condition: object, complaint: str) -> None:
    """Complain unless the condition holds.

    Raises:
        WrongRequestError: it does not hold.
    """
    if not condition:
        raise WrongRequestError(complaint)


@dataclass(frozen=True)
class Stated:
    """What a provider states of one answer, in tokens. `input` includes what was cached and what was written to the
    cache; `output` includes what was thought."""

    input: int = 0
    cached: int = 0
    created: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Stated) -> Stated:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Stated(*(mine + its for mine, its in pairs))


@dataclass(frozen=True)
class Call:
    """A call of one of the agent's tools."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One answer: thought with a proof, then calls, or a text."""

    thought: str = ""
    proof: str = ""
    calls: tuple[Call, ...] = ()
    text: str = ""


@dataclass
class Asked:
    """A request in plain words, as a voice has read it.

    `fixed` are the bytes of the system's words and of the tools, `turns` those of each message. `results` are the ids
    (empty where the dialect has none) and texts of the results; `proofs` all proofs in order. `marks`: how many marks
    for the prompt cache there are.
    """

    model: str
    stream: bool
    words: str
    tools: dict[str, dict[str, Any]]
    fixed: tuple[bytes, ...]
    turns: list[bytes]
    results: list[tuple[str, str]] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    marks: int = 0
    size: int = 0


def steps(tools: dict[str, dict[str, Any]], folder: Path) -> list[list[tuple[str, dict[str, Any]]]]:
    """The calls of each turn, with the tools that are offered and the members that their schemas name."""
    kit = _Kit(tools, folder)
    return [
        [kit.write("first.txt", FIRST_TEXT)],
        [kit.read("first.txt")],
        [kit.shell("wc -c first.txt"), kit.write("second.txt", SECOND_TEXT)],
        [kit.shell("cat first.txt second.txt > both.txt")],
        [kit.read("both.txt")],
    ]


class _Kit:
    def __init__(self, tools: dict[str, dict[str, Any]], folder: Path) -> None:
        self._tools = tools
        self._folder = folder
        self._shell = next((name for name in _SHELLS if name in tools), "")

    def write(self, name: str, text: str) -> tuple[str, dict[str, Any]]:
        writer = next((tool for tool in _WRITERS if tool in self._tools), None)
        if writer is None:
            return self.shell(f"printf %s {shlex.quote(text)} > {name}")
        return writer, {self._member(writer, _PATHS): str(self._folder / name), "content": text}

    def read(self, name: str) -> tuple[str, dict[str, Any]]:
        reader = next((tool for tool in _READERS if tool in self._tools), None)
        if reader is None:
            return self.shell(f"cat {name}")
        return reader, {self._member(reader, _PATHS): str(self._folder / name)}

    def shell(self, command: str) -> tuple[str, dict[str, Any]]:
        expect(self._shell, f"no tool to run commands among {sorted(self._tools)}")
        member = self._member(self._shell, _COMMANDS)
        schema = self._tools[self._shell]
        whole: dict[str, Any] = {}
        whole[member] = ["bash", "-c", command] if schema["properties"][member].get("type") == "array" else command
        if "description" in schema.get("required", ()):
            whole["description"] = "A step of the house test"
        return self._shell, whole

    def _member(self, tool: str, names: tuple[str, ...]) -> str:
        properties = self._tools[tool].get("properties", {})
        found = next((name for name in names if name in properties), "")
        expect(found, f"the schema of {tool} names none of {names}: {sorted(properties)}")
        return found


class Stage:
    """The play for one agent and one provider.

    Args:
        folder: where the agent works.
        spell: the id of a call in the dialect's form, from its number; empty where it has none.
        proven: the dialect wants its proofs back.
        creates: it counts what is written to the cache.
        thinks: it counts what is thought.
        marked: the agent marks what to cache, and the dialect has such marks.
    """

    def __init__(self, folder: Path, *, ids: str, proven: bool, creates: bool, thinks: bool, marked: bool) -> None:
        self.folder = folder
        self.stated: list[Stated] = []
        self.turns = 0
        self.asides = 0
        self.complaints: list[str] = []
        self._ids, self._proven, self._creates = ids, proven, creates
        self._thinks, self._marked = thinks, marked
        self._plan: list[Turn] = []
        self._before: Asked | None = None
        self._lock = threading.Lock()

    @property
    def total(self) -> Stated:
        """All that was stated."""
        return sum(self.stated, Stated())

    def play(self, asked: Asked) -> tuple[Turn, Stated, int]:
        """The answer to a request, what it cost, and its number.

        Raises:
            WrongRequestError: something is wrong with it.
        """
        with self._lock:
            turn = self._turn(asked) if asked.tools and TASK in asked.words else None
            stated = self._cost(asked, turn)
            self.stated.append(stated)
            if turn is None:
                self.asides += 1
                return Turn(text=ASIDE), stated, len(self.stated)
            self._before = asked
            return turn, stated, len(self.stated)

    def _turn(self, asked: Asked) -> Turn:
        if not self._plan:
            self._plan = self._planned(asked)
        made = [call for turn in self._plan[: self.turns] for call in turn.calls]
        answered = asked.results
        expect(len(answered) == len(made), f"{len(answered)} results for {len(made)} calls")
        for call, (name, text) in zip(made, answered, strict=True):
            expect(name == call.id, f"a result for {name!r} where {call.id!r} was called")
            if "both.txt" in json.dumps(call.arguments) and self.turns == TURNS and call is made[-1]:
                expect("alpha" in text and "beta" in text, f"both.txt was not read: {text!r}")
        wanted = [turn.proof for turn in self._plan[: self.turns]]
        expect(not self._proven or asked.proofs == wanted, f"proofs {asked.proofs} where {wanted} were given")
        self._check_prefix(asked)
        expect(asked.marks or not self._marked, "no mark for the prompt cache")
        turn = self._plan[self.turns]
        self.turns += 1
        return turn

    def _planned(self, asked: Asked) -> list[Turn]:
        turns = []
        number = 0
        for index, calls in enumerate(steps(asked.tools, self.folder)):
            made = []
            for name, arguments in calls:
                made.append(Call(f"{self._ids}{number:04d}" if self._ids else "", name, arguments))
                number += 1
            proof = f"EqQBCkYIBRgCKkD+step/{index}+0123456789abcdefABCDEF{index}=="
            turns.append(Turn(f"Step {index + 1} ☀ of five: the tool has to run.", proof, tuple(made)))
        return [*turns, Turn("That was all.", "EqQBCkYIBRgCKkD+last/word+0123456789==", text=LAST_WORD)]

    def _check_prefix(self, asked: Asked) -> None:
        """What came before stands byte for byte where it stood, or the provider's prompt cache is of no use."""
        before = self._before
        if before is None:
            return
        for old, new in zip(before.fixed, asked.fixed, strict=True):
            expect(old == new, f"system or tools changed: {_difference(old, new)}")
        expect(len(asked.turns) > len(before.turns), "no new message")
        for index, (old, new) in enumerate(zip(before.turns, asked.turns, strict=False)):
            expect(old == new, f"message {index} changed: {_difference(old, new)}")

    def _cost(self, asked: Asked, turn: Turn | None) -> Stated:
        size = 40 + asked.size // 4
        thought = 17 if turn is not None and self._thinks else 0
        if turn is None or self._before is None:
            return Stated(size, 0, size - 30 if self._creates else 0, 20 + thought, thought)
        cached = 40 + self._before.size // 4
        return Stated(size, cached, size - cached - 7 if self._creates else 0, 60 + self.turns + thought, thought)


def _difference(old: bytes, new: bytes) -> str:
    place = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(place - 60, 0)
    return f"{old[start : place + 60]!r} became {new[start : place + 60]!r}"
