"""Wildcard names such as `openai/*`: what the stars stand for. It must not take longer than the texts are long."""

from __future__ import annotations


def matched(pattern: str, name: str) -> tuple[str, ...] | None:
    """What the stars of a pattern stand for in `name`; None where it does not match. Linear in both lengths.

    Each star but the last takes as little as it can.
    """
    literals = pattern.split("*")
    if not name.startswith(literals[0]) or len(name) < sum(map(len, literals)):
        return None
    position = len(literals[0])
    stars: list[str] = []
    for literal in literals[1:-1]:
        at = name.find(literal, position)
        if at < 0:
            return None
        stars.append(name[position:at])
        position = at + len(literal)
    last = literals[-1]
    if len(literals) == 1:
        return () if name == pattern else None
    end = len(name) - len(last)
    if end < position or not name.endswith(last):
        return None
    stars.append(name[position:end])
    return tuple(stars)


def filled(upstream: str, pattern: str, name: str) -> str:
    """`upstream` with its stars filled with what those of `pattern` stand for in `name`."""
    if "*" not in upstream or "*" not in pattern:
        return upstream
    stars = matched(pattern, name) or ()
    literals = upstream.split("*")
    pieces = [literals[0]]
    for index, literal in enumerate(literals[1:]):
        pieces += (stars[index] if index < len(stars) else "*", literal)
    return "".join(pieces)
