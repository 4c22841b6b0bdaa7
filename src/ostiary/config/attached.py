"""Reads a file that a setting names beside the configuration. It must not say what is in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from ostiary.config.problem import error
from ostiary.config.survey import Survey

MAX_FILE_BYTES = 16 * 1024 * 1024


def attached(
    values: Mapping[str, object], name: str, label: str, main: str | None, survey: Survey
) -> tuple[str, bytes]:
    """The path and the bytes of the file that `values[name]` names; both empty where it names none.

    Args:
        label: the setting's whole name.
        main: the configuration file; a relative name is one beside it.
    """
    text = values.get(name)
    if not isinstance(text, str) or not text:
        return "", b""
    path = os.path.join(os.path.dirname(main or ""), text)
    raw, reason = _bytes_of(path)
    if raw is None:
        survey.problems.append(error(survey.places[label], label, reason))
        return path, b""
    return path, raw


def _bytes_of(path: str) -> tuple[bytes | None, str]:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None, "is not a regular file"
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else "not a file name"
        return None, f"cannot be read: {reason}"
    if len(raw) > MAX_FILE_BYTES:
        return None, f"is larger than {MAX_FILE_BYTES >> 20} MiB"
    return (raw, "") if raw.strip() else (None, "is empty")


def _without_waiting(path: str, flags: int) -> int:
    """Opening a FIFO must not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)
