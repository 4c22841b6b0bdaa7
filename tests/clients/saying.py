"""What every client under test can be asked, and what it tells. It must not know a client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias


@dataclass
class Said:
    """What a client library made of an answer; None where the library does not tell.

    Tokens: `input` with those of the cache, `output` with those of thought.
    """

    text: str
    finish: str | None = None
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    thought: str | None = None


@dataclass(frozen=True)
class Failure:
    """How a failed call ended for the caller: the library's exception, and the status it tells."""

    error: Exception
    status: int | None


Seen: TypeAlias = Callable[[str], None]


class Client(Protocol):
    """One client library, used as its documentation shows.

    Attributes:
        name: for the test's id.
        dialect: the one it speaks.
        stop: its word for the end of an answer.
        carries: whether it keeps proofs of reasoning for the next turn.
        thinks: whether it can ask for reasoning and show it.
    """

    name: str
    dialect: str
    stop: str | None
    carries: bool
    thinks: bool

    def text(self, model: str, *, stream: bool) -> Said:
        """One question, one answer."""
        ...

    def loop(self, model: str, *, stream: bool, thinking: bool) -> Said:
        """The question, the calls of the tool, their results, and the final answer."""
        ...

    def failure(self, model: str, *, stream: bool, seen: Seen) -> Failure:
        """A question that ends with the library's own exception; `seen` is called with each text before.

        Raises:
            AssertionError: it ended without one.
        """
        ...

    def close(self) -> None:
        """Let go of its connections."""
        ...


def unknown_members(value: Any, where: str = "") -> Iterator[str]:
    """The places of members that a pydantic model had to keep without knowing them."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from unknown_members(item, f"{where}[]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from unknown_members(item, f"{where}.{name}")
    elif hasattr(value, "model_fields_set"):
        for name in value.model_extra or {}:
            yield f"{where}.{name}".lstrip(".")
        for name in type(value).model_fields:
            yield from unknown_members(getattr(value, name, None), f"{where}.{name}")
