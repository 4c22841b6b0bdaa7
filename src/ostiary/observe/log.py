"""Structured logs: one JSON object per line on standard error, from constant texts and named fields. No content.

Exceptions are told by type and place, never by their text, which may quote a request. Libraries are heard only where
their messages are constant texts.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import TextIO

import msgspec

LONGEST_VALUE = 512
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROL |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_HEARD = ("uvicorn.error", "asyncio")  # loggers of libraries; every other one is silent


class Log:
    """Writes events of at least one level to a stream."""

    def __init__(self, stream: TextIO | None = None, level: int = logging.INFO) -> None:
        self.stream = stream
        self.level = level

    def info(self, event: str, **fields: object) -> None:
        """Something the operator may want to know."""
        self.write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something the operator should look at."""
        self.write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something went wrong and is being handled."""
        self.write(logging.ERROR, event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """Something went wrong that needs the operator."""
        self.write(logging.CRITICAL, event, fields)

    def write(self, level: int, event: str, fields: dict[str, object]) -> None:
        """One line: time (UTC), level, event, and the fields as plain bounded values."""
        if level < self.level:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line: dict[str, object] = {"time": stamp, "level": logging.getLevelName(level).lower(), "event": _plain(event)}
        line |= {name: value if isinstance(value, int | float) else _plain(value) for name, value in fields.items()}
        print(msgspec.json.encode(line).decode(), file=self.stream or sys.stderr, flush=True)


_LOG = Log()


def log() -> Log:
    """The log of the process."""
    return _LOG


def configure(level: str = "INFO") -> None:
    """Set the level, and take over the loggers of libraries. Called once, by the command line."""
    _LOG.level = logging.getLevelNamesMapping()[level]
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = name != "uvicorn.access"


def failure(error: BaseException) -> dict[str, str]:
    """The fields that describe an exception without quoting it: its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return {"error": type(error).__name__, "at": place}


def _plain(value: object) -> str:
    """A value as bounded text without control characters."""
    text = value if isinstance(value, str) else repr(value)
    return text[:LONGEST_VALUE].translate(_CONTROL)


class _Foreign(logging.Handler):
    """Messages of libraries: their own constant text, their exceptions by type and place only."""

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(_HEARD):
            return
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= failure(record.exc_info[1])
        if isinstance(record.msg, BaseException):
            fields |= failure(record.msg)
        text = record.msg if isinstance(record.msg, str) else "a library reports an error"
        _LOG.write(record.levelno, text.strip(), fields)
