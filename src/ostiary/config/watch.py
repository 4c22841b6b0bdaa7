"""Noticing that a configuration's files changed. It must not read them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]


def signature(paths: Iterable[str]) -> Signature:
    """(path, mtime in ns, size, inode) per file, following links; zeros for a file that is not there.

    Two equal signatures mean that nothing needs reloading.
    """
    return tuple((path, *_stamp(path)) for path in paths)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return 0, 0, 0
    return state.st_mtime_ns, state.st_size, state.st_ino
