"""YAML text to located values, in bounded time and memory. It must not build anything but plain data.

PyYAML only composes the node graph here; turning it into values is ours, because that is where the trouble sits:
arbitrary tags, alias bombs, duplicate keys that silently win, `no` as a key, numbers of a million digits.
"""

from __future__ import annotations

import math
import re
from typing import NoReturn

import yaml

from ostiary.config.node import Node, Scalar, shown
from ostiary.config.problem import Place, Problem, error, warning

MAX_DEPTH = 40
MAX_NODES = 100_000
MAX_ALIASES = 1_000
MAX_NUMBER_LENGTH = 40

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({_TAG + "str", _TAG + "timestamp", _TAG + "value", _TAG + "merge"})
_TRUE, _FALSE = frozenset({"yes", "true", "on"}), frozenset({"no", "false", "off"})
# Seen in published examples: `content_policy_fallbacks=[{"a": ["b"]}]` in place of a YAML member.
_EQUALS_SIGN = re.compile(r"^(\s+)(\w*fallbacks)=(?=[\[{])", re.MULTILINE)
_QUOTED = re.compile(r"'(?!<)[^']*'|\"[^\"]*\"")


class UnreadableError(Exception):
    """The text is not a configuration. Carries the one problem that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def parse(text: str, file: str) -> tuple[Node, list[Problem]]:
    """The document in `text` and what is wrong with it, short of being unreadable.

    Raises:
        UnreadableError: not YAML, or beyond the bounds of this module.
    """
    try:
        return _parse(text, file)
    except UnreadableError:
        repaired = _EQUALS_SIGN.sub(r"\1\2: ", text)
        if repaired == text:
            raise
        node, problems = _parse(repaired, file)
        for match in _EQUALS_SIGN.finditer(text):
            place = Place(file, text.count("\n", 0, match.start(2)) + 1)
            problems.append(warning(place, match[2], "not YAML: read as if '=' were ':'", f"write '{match[2]}: …'"))
        return node, problems


def _parse(text: str, file: str) -> tuple[Node, list[Problem]]:
    try:
        composer = _Composer(text, file)
    except yaml.reader.ReaderError as failure:
        line = text.count("\n", 0, failure.position) + 1
        raise UnreadableError(
            error(Place(file, line), "", "not valid YAML: a character that text may not hold")
        ) from None
    try:
        graph = composer.get_single_node()
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        # PyYAML quotes aliases and tags in its messages: a password that begins with `*` would be shown.
        reason = shown(_QUOTED.sub("…", failure.problem or failure.context or "malformed"))
        raise UnreadableError(
            error(Place(file, mark.line + 1 if mark else 0), "", f"not valid YAML: {reason}")
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError, IndexError):
        raise UnreadableError(error(Place(file, composer.line + 1), "", "not valid YAML: malformed text")) from None
    finally:
        composer.dispose()
    if graph is None:
        return Node({}, Place(file, 1)), []
    reading = _Reading(file)
    return reading.node(graph, Place(file, graph.start_mark.line + 1), 0), reading.problems


class _Composer(yaml.SafeLoader):
    """PyYAML's composer with bounds on depth and aliases."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self._file = file
        self._depth = 0
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                _refuse(self._file, self.line, f"more than {MAX_ALIASES} aliases")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(self._file, self.line, f"nested more than {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _refuse(file: str, line: int, reason: str) -> NoReturn:
    raise UnreadableError(error(Place(file, line + 1), "", f"refused: {reason}"))


class _Reading:
    """One pass over a node graph. Aliases are expanded, hence the count."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._count = 0

    def node(self, graph: yaml.Node, place: Place, depth: int) -> Node:
        self._count += 1
        line = graph.start_mark.line
        if self._count > MAX_NODES:
            _refuse(self.file, line, f"more than {MAX_NODES} values, aliases expanded")
        if depth > MAX_DEPTH:
            _refuse(self.file, line, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(graph, yaml.MappingNode) and graph.tag == _TAG + "map":
            return Node(self._members(graph, depth), place)
        if isinstance(graph, yaml.SequenceNode) and graph.tag == _TAG + "seq":
            items = [self.node(item, Place(self.file, item.start_mark.line + 1), depth + 1) for item in graph.value]
            return Node(items, place)
        if isinstance(graph, yaml.ScalarNode):
            return Node(self._scalar(graph), place)
        return _refuse(self.file, line, "a YAML tag that makes objects")

    def _members(self, graph: yaml.MappingNode, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in graph.value:
            place = Place(self.file, key.start_mark.line + 1)
            if not isinstance(key, yaml.ScalarNode):
                _refuse(self.file, key.start_mark.line, "a key that is not text")
            name = self._text(key)
            if key.tag == _TAG + "merge":
                for inherited, member in self._merge(value, place, depth).items():
                    merged.setdefault(inherited, member)
            elif name in members:
                first = members[name].place.line
                self.problems.append(error(place, shown(name), f"written twice, first on line {first}", "keep one"))
            else:
                members[name] = self.node(value, place, depth + 1)
        return {**merged, **members}

    def _merge(self, value: yaml.Node, place: Place, depth: int) -> dict[str, Node]:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        merged: dict[str, Node] = {}
        for source in sources:
            node = self.node(source, place, depth + 1)
            if not isinstance(node.value, dict):
                _refuse(self.file, place.line - 1, "'<<' merges mappings only")
            for name, member in node.members.items():
                merged.setdefault(name, member)
        return merged

    def _text(self, graph: yaml.ScalarNode) -> str:
        text: str = graph.value
        if any("\ud800" <= char <= "\udfff" for char in text):
            _refuse(self.file, graph.start_mark.line, "text with half a surrogate pair")
        return text

    def _scalar(self, graph: yaml.ScalarNode) -> Scalar:
        text = self._text(graph)
        if graph.tag in _TEXT_TAGS:
            return text
        if graph.tag == _TAG + "null":
            return None
        if graph.tag == _TAG + "bool":
            return _flag(text)
        if graph.tag == _TAG + "int":
            return _whole(text)
        if graph.tag == _TAG + "float":
            return _number(text)
        return _refuse(self.file, graph.start_mark.line, "a YAML tag that makes objects")


def _flag(text: str) -> Scalar:
    lower = text.lower()
    return True if lower in _TRUE else False if lower in _FALSE else text


def _whole(text: str) -> Scalar:
    """A number only where no reader could see another one: `010` and `1:30` stay text."""
    if len(text) > MAX_NUMBER_LENGTH:
        return text
    try:
        return int(text.replace("_", ""), 0)
    except ValueError:
        return text


def _number(text: str) -> Scalar:
    if len(text) > MAX_NUMBER_LENGTH:
        return text
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        return text
    return number if math.isfinite(number) else text
