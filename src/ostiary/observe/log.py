"""Structured logs: one JSON object per line on standard error, from an allow-list of fields. No content, no secrets.

Exceptions are told by type and place, never by their text, which may quote a request.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import msgspec
import structlog

LONGEST_VALUE = 512
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROL.update({0x2028: "\\u2028", 0x2029: "\\u2029", 0x202E: "\\u202e", 0x202D: "\\u202d", 0x2066: "\\u2066"})
# Foreign loggers whose messages are constant texts; every other foreign logger is silent.
_HEARD = ("uvicorn.error", "asyncio")


def configure(level: str = "INFO") -> None:
    """Set up logging for the process. Called once, by the command line."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _bounded,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = name != "uvicorn.access"


def log() -> Any:
    """The process's logger: `log().info("constant text", field=value)`."""
    return structlog.get_logger()


def failure(error: BaseException) -> dict[str, str]:
    """The fields that describe an exception without quoting it: its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return {"error": type(error).__name__, "at": place}


def _bounded(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = value[:LONGEST_VALUE].translate(_CONTROL)
        elif not isinstance(value, (int, float, bool, type(None))):
            event[key] = repr(value)[:LONGEST_VALUE].translate(_CONTROL)
    return event


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(dict(event)).decode()


class _Foreign(logging.Handler):
    """Messages of libraries: their own constant text, their exceptions by type and place only."""

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(_HEARD):
            return
        fields: dict[str, str] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= failure(record.exc_info[1])
        text = record.msg if isinstance(record.msg, str) else "message"
        log().log(record.levelno, text.strip(), **fields)
