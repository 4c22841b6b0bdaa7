"""Streams of relayed operations: nothing is taken from them, and they end in their own way."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Kind
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.raw_stream import EventTap


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


PICTURE = event("image_generation.partial_image", b64_json="AA")
LAST = event("image_generation.completed", b64_json="BB", usage={"input_tokens": 1, "output_tokens": 2})


def through(tap: EventTap, *pieces: bytes) -> bytes:
    return b"".join(map(tap.feed, pieces)) + tap.finish()


@given(st.lists(st.integers(1, len(PICTURE + LAST) - 1), max_size=6))
def test_every_byte_goes_on_however_it_came_in_pieces(cuts: list[int]) -> None:
    whole = b": hello\n\n" + PICTURE + LAST + b"data: of another kind\n\n" + b"data: an end without a blank line"
    edges = [0, *sorted(cuts), len(whole)]
    tap = EventTap(announced=True)
    assert through(tap, *(whole[a:b] for a, b in pairwise(edges))) == whole
    assert (tap.usage, tap.whole, tap.chunks) == (Usage(1, 2), True, 0)


@pytest.mark.parametrize(
    ("announced", "stream", "whole"),
    [
        (True, PICTURE, True),
        (False, PICTURE, False),
        (False, PICTURE + LAST, True),
        (False, PICTURE + event("transcript.text.done"), True),
        (False, PICTURE + b"data: [DONE]\n\n", True),
        (True, b"", True),
    ],
)
def test_a_stream_is_whole_at_its_announced_end_or_after_its_last_event(
    announced: bool, stream: bytes, whole: bool
) -> None:
    tap = EventTap(announced=announced)
    assert through(tap, stream) == stream
    assert tap.whole is whole


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (event("error", error={"message": "m", "code": "429"}), Kind.UPSTREAM_RATE_LIMIT),
        (event("error", message="m"), Kind.UPSTREAM_ERROR),
        (b'data: {"error":{"message":"m","code":503}}\n\n', Kind.UPSTREAM_ERROR),
    ],
)
def test_an_error_in_the_stream_is_a_failure_and_not_passed_on(error: bytes, kind: Kind) -> None:
    tap = EventTap(announced=True)
    assert through(tap, PICTURE + error + LAST) == PICTURE
    assert tap.fault is not None
    assert (tap.fault.kind, tap.whole) == (kind, False)


def test_nothing_follows_done() -> None:
    tap = EventTap(announced=True)
    assert through(tap, b"data: [DONE]\n\n", LAST) == b"data: [DONE]\n\n"
    assert tap.done
