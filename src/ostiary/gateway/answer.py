"""The header lines of an answer: the names clients of the compatible surface read. It must not pass on what it
does not know: a provider's headers go through an allow-list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ostiary.core.fault import Fault, Kind
from ostiary.core.money import Nano, dollars_text
from ostiary.core.record import Record
from ostiary.wire.conversation.unknown import Loss

JSON = b"application/json"
EVENTS = b"text/event-stream"
_MEDIA_TYPE = re.compile(rb"[a-z]+/[a-z0-9.+-]+(; ?[a-z]+=\"?[A-Za-z0-9_.-]+\"?)*", re.IGNORECASE)
# What a browser would run or render with the gateway's origin; such an answer leaves as bytes.
_RENDERED = (b"text/html", b"application/xhtml", b"image/svg", b"text/xml", b"application/xml", b"text/javascript")
_PROVIDER_HEADERS = frozenset(
    {b"x-request-id", b"openai-processing-ms", b"openai-version", b"retry-after", b"request-id", b"apim-request-id"}
)
_ANSWER_LINES = (
    b"content-type: %s\r\nx-litellm-call-id: %s\r\nx-litellm-model-id: %s\r\nx-litellm-model-group: %s\r\n%s"
    b"x-litellm-key-spend: %s\r\nx-litellm-response-duration-ms: %d\r\nx-litellm-overhead-duration-ms: %d\r\n"
    b"x-litellm-attempted-retries: %d\r\nx-litellm-attempted-fallbacks: %d\r\n%s"
)
_NOT_IN_A_PLACE = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_PLACE, _MOST_LOSSES = 64, 20
_VALUE = re.compile(rb"[\x20-\x7e]{0,256}")


def is_of(value: bytes, wanted: bytes) -> bool:
    """Whether a Content-Type names this type (lower-case), whatever its own case and its parameters."""
    if value == wanted:
        return True
    size = len(wanted)
    return value[:size].lower() == wanted and value[size:].lstrip(b" \t")[:1] in (b"", b";")


def media_type(value: bytes | None) -> bytes:
    """A provider's Content-Type, if it is one that may leave; else `application/octet-stream`."""
    if value == JSON:
        return value
    if value is None or not _MEDIA_TYPE.fullmatch(value) or value.lower().startswith(_RENDERED):
        return b"application/octet-stream"
    return value


def answer_head(
    record: Record,
    content_type: bytes,
    *,
    cost: Nano | None,
    key_spend: Nano,
    total_ms: int,
    rate_lines: bytes,
    provider_headers: list[tuple[bytes, bytes]],
    losses: Sequence[Loss] = (),
) -> bytes:
    """The header lines of an answer, each ending in CRLF. `cost` None where it is not known yet (streams)."""
    price = b"x-litellm-response-cost: %s\r\n" % dollars_text(cost).encode() if cost is not None else b""
    overhead = total_ms - record.upstream_ms
    head = _ANSWER_LINES % (
        content_type,
        record.id.encode(),
        _plain(record.deployment).encode(),
        _plain(record.model).encode(),
        price,
        dollars_text(key_spend).encode(),
        total_ms,
        max(0, overhead),
        max(record.attempts - 1 - record.fallbacks, 0) if record.attempts > 1 else 0,
        record.fallbacks,
        rate_lines,
    )
    if losses:
        head += b"x-ostiary-losses: %s\r\n" % losses_text(losses).encode()
    for name, value in provider_headers:
        if name in _PROVIDER_HEADERS:
            if _VALUE.fullmatch(value):
                head += b"llm_provider-%s: %s\r\n" % (name, value)
        elif not rate_lines and name.startswith(b"x-ratelimit-") and _VALUE.fullmatch(value):
            head += b"%s: %s\r\n" % (name, value)
    return head


def losses_text(losses: Sequence[Loss]) -> str:
    """What could not be said, for the caller: kinds and places ("knob:sampling.seed, unknown:logit_bias")."""
    told = dict.fromkeys(f"{loss.kind}:{_NOT_IN_A_PLACE.sub('_', loss.where)[:_LONGEST_PLACE]}" for loss in losses)
    shown = list(told)[:_MOST_LOSSES]
    return ", ".join(shown) + (", ..." if len(told) > len(shown) else "")


def fault_head(fault: Fault, call_id: str) -> bytes:
    """The header lines of an error answer."""
    lines = f"content-type: application/json\r\nx-litellm-call-id: {call_id}\r\n"
    if fault.retry_after is not None:
        lines += f"retry-after: {max(round(fault.retry_after + 0.499), 1)}\r\n"
    if fault.kind is Kind.UNAUTHENTICATED:
        lines += "www-authenticate: Bearer\r\n"
    return lines.encode("ascii")


def retry_after(headers: list[tuple[bytes, bytes]], now: float) -> float | None:
    """Seconds a provider asks to wait: `retry-after-ms`, or `retry-after` as seconds or as a date (RFC 9110, 10.2.3).

    Args:
        now: Unix seconds.
    """
    from email.utils import parsedate_to_datetime  # rare, and slow to load

    for name, value in headers:
        if name not in (b"retry-after", b"retry-after-ms") or len(value) > 64:
            continue
        text = value.decode("latin-1").strip()
        try:
            seconds = float(text) / (1000 if name == b"retry-after-ms" else 1)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (ValueError, OverflowError):
                continue
        if seconds == seconds and seconds < 10**7:
            return max(seconds, 0.0)
    return None


def _plain(text: str) -> str:
    """A name as it may stand in a header: anything else is replaced."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)[:256]
