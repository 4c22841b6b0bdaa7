"""Configuration files to one tree of located values. It must not print a value, nor read outside its directory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

import msgspec

from ostiary.config.node import Node, mapped, shown
from ostiary.config.parse import UnreadableError, parse
from ostiary.config.problem import Place, Problem, error
from ostiary.config.shapes import Environment

MAX_FILE_BYTES = 1024 * 1024
MAX_FILES = 32

_PREFIX = "os.environ/"
_WHOLE_REFERENCE = re.compile(r"os\.environ/([A-Za-z0-9_.-]+)\Z")
_REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


class Document(msgspec.Struct, frozen=True):
    """The merged tree, the files it came from (the main one first), and the variables texts were resolved with."""

    root: Node
    files: tuple[str, ...]
    environment: Environment
    problems: tuple[Problem, ...]


def read(path: str, process: Mapping[str, str]) -> Document:
    """Read `path` and all it includes, and resolve every `os.environ/NAME`. Never raises."""
    files = _Files(path)
    root = files.read(path, Place(path))
    declared, environment = _declared(root, process)
    members = dict(root.members)
    if declared is not None:
        members["environment_variables"] = declared
    resolved = mapped(Node(members, root.place), lambda node: _resolved(node, environment))
    return Document(resolved, tuple(files.names), environment, tuple(files.problems))


class _Files:
    """Reads files, follows `include`, and merges."""

    def __init__(self, main: str) -> None:
        self.names: list[str] = []
        self.problems: list[Problem] = []
        self._directory = os.path.dirname(main) or "."
        self._root = os.path.realpath(self._directory) if "\0" not in main else ""
        self._seen: set[str] = set()

    def read(self, path: str, origin: Place) -> Node:
        """The tree of one file with its includes merged in; an empty mapping where it cannot be read."""
        empty = Node({}, Place(path, 1))
        self.names.append(path)
        text, reason = _text_of(path)
        if text is None:
            place = origin if origin.line else Place(path)
            self.problems.append(error(place, "include" if origin.line else "", f"{_name(path)} {reason}"))
            return empty
        try:
            node, problems = parse(text, path)
        except UnreadableError as failure:
            self.problems.append(failure.problem)
            return empty
        self.problems.extend(problems)
        if not isinstance(node.value, dict):
            self.problems.append(error(node.place, "", "a configuration is a mapping of settings"))
            return empty
        self._seen.add(os.path.realpath(path))
        members = dict(node.value)
        include = members.pop("include", None)
        if include is not None:
            self._include(include, members)
        return Node(members, node.place)

    def _include(self, include: Node, members: dict[str, Node]) -> None:
        names = [include] if isinstance(include.value, str) else include.items
        if not names and include.value not in (None, []):
            self.problems.append(error(include.place, "include", "expected a list of relative file names"))
        for name in names:
            if not isinstance(name.value, str):
                self.problems.append(error(name.place, "include", "expected a list of relative file names"))
                continue
            path = self._inside(name.value, name.place)
            if path is not None:
                self._merge(members, self.read(path, name.place).members, "")

    def _inside(self, name: str, place: Place) -> str | None:
        """The path of an included file, or None with a problem: links are followed before the check."""
        reason = ""
        path = os.path.join(self._directory, name)
        if not name or "\0" in name or os.path.isabs(name):
            reason = "expected a relative file name"
        elif os.path.commonpath([self._root, os.path.realpath(path)]) != self._root:
            reason = "lies outside the directory of the configuration"
        elif os.path.realpath(path) in self._seen:
            reason = "is included already: includes may not go in a circle"
        elif len(self.names) >= MAX_FILES:
            reason = f"is one file too many: at most {MAX_FILES}"
        if not reason:
            return path
        self.problems.append(error(place, "include", f"{shown(name) or 'an empty name'} {reason}"))
        return None

    def _merge(self, into: dict[str, Node], other: Mapping[str, Node], path: str) -> None:
        """Mappings are merged, lists joined; one setting written in two files is an error."""
        for name, node in other.items():
            mine = into.get(name)
            if mine is None:
                into[name] = node
            elif isinstance(mine.value, dict) and isinstance(node.value, dict):
                members = dict(mine.value)
                self._merge(members, node.value, f"{path}{name}.")
                into[name] = Node(members, mine.place)
            elif isinstance(mine.value, list) and isinstance(node.value, list):
                into[name] = Node([*mine.value, *node.value], mine.place)
            else:
                self.problems.append(
                    error(node.place, shown(f"{path}{name}"), f"written twice, first in {mine.place}", "keep one")
                )


def _text_of(path: str) -> tuple[str | None, str]:
    """The text of a file, or why there is none."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None, "is not a regular file"
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else "not a file name"
        return None, f"cannot be read: {reason}"
    if len(raw) > MAX_FILE_BYTES:
        return None, f"is larger than {MAX_FILE_BYTES // 1024} KiB"
    try:
        return raw.decode("utf-8-sig"), ""
    except UnicodeDecodeError as failure:
        line = raw.count(b"\n", 0, failure.start) + 1
        return None, f"is not UTF-8 text (line {line})"


def _without_waiting(path: str, flags: int) -> int:
    """Opening a FIFO must not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _name(path: str) -> str:
    return shown(os.path.basename(path)) or "the file"


def _declared(root: Node, process: Mapping[str, str]) -> tuple[Node | None, Environment]:
    """`environment_variables`, resolved from the process, and the environment they make together with it."""
    block = root.members.get("environment_variables")
    if block is None:
        return None, Environment(process)
    before = Environment(process)
    block = mapped(block, lambda node: _resolved(node, before))
    values = {name: node.value for name, node in block.members.items()}
    texts = {name: _variable_text(value) for name, value in values.items() if isinstance(value, str | int | float)}
    return block, Environment(process, texts)


def _variable_text(value: str | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _resolved(node: Node, environment: Environment) -> Node:
    """The node with references replaced. What comes from the environment is not looked at again."""
    if not isinstance(node.value, str) or _PREFIX not in node.value:
        return node
    whole = _WHOLE_REFERENCE.match(node.value)
    names = [whole[1]] if whole else _REFERENCE.findall(node.value)
    missing = tuple(name for name in names if environment.get(name) is None)
    if missing:
        return Node(None, node.place, missing)
    if whole:
        return Node(environment.get(whole[1]), node.place)
    return Node(_REFERENCE.sub(lambda match: environment.get(match[1]) or "", node.value), node.place)
