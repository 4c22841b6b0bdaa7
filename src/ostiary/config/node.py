"""Values that know where they were written. It must not show them: a value may be a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, Union

from ostiary.config.problem import Place
from ostiary.core.secret import Secret

Scalar: TypeAlias = bool | int | float | str | Secret | None
Tree: TypeAlias = Union[Scalar, "dict[str, Node]", "list[Node]"]

SHOWN_LENGTH = 80


@dataclass(frozen=True, slots=True, repr=False)
class Node:
    """A value with its place. A mapping's member has the line of its key.

    `missing` names the environment variables the text refers to and that are not set; the value is then None.
    """

    value: Tree
    place: Place
    missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Node({kind_of(self.value)}, {self.place})"

    @property
    def members(self) -> dict[str, Node]:
        """The members of a mapping; nothing for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; nothing for any other value."""
        return self.value if isinstance(self.value, list) else []


def plain(node: Node) -> object:
    """The value without places: None, bool, int, float, str, list, dict."""
    if isinstance(node.value, dict):
        return {name: plain(member) for name, member in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def located(value: object, place: Place, depth: int = 40) -> Node:
    """A tree of a value that did not come from a file: JSON values and `Secret`.

    Raises:
        ValueError: anything else in it, text with half a surrogate pair, or nested deeper than `depth`.
    """
    if depth < 0:
        raise ValueError("nested too deep")
    if isinstance(value, Mapping):
        return Node({_text(name): located(member, place, depth - 1) for name, member in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node([located(item, place, depth - 1) for item in value], place)
    if isinstance(value, str):
        return Node(_text(value), place)
    if value is None or isinstance(value, bool | int | float | Secret):
        return Node(value, place)
    raise ValueError("not a JSON value")


def _text(value: object) -> str:
    if not isinstance(value, str) or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("not text")
    return value


def missing_in(node: Node) -> tuple[str, ...]:
    """The variables that are missing anywhere in the tree."""
    found = list(node.missing)
    for child in [*node.members.values(), *node.items]:
        found.extend(missing_in(child))
    return tuple(found)


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:
    """A copy of the tree with `change` applied to every scalar."""
    if isinstance(node.value, dict):
        return Node({name: mapped(member, change) for name, member in node.value.items()}, node.place)
    if isinstance(node.value, list):
        return Node([mapped(item, change) for item in node.value], node.place)
    return change(node)


def kind_of(value: object) -> str:
    """What a value is, in the words of a person who writes YAML."""
    if value is None:
        return "nothing"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Secret: "text",
        dict: "a mapping",
    }
    return names.get(type(value), "a list")


def shown(name: str) -> str:
    """A name fit for one line of a report: printable, and cut when long."""
    clean = "".join(char if char.isprintable() else "?" for char in name)
    return clean if len(clean) <= SHOWN_LENGTH else f"{clean[: SHOWN_LENGTH - 1]}…"
