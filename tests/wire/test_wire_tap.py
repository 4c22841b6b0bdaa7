"""The tap on a relayed stream: what it sees and what it lets pass do not depend on how the bytes were cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Kind
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.tap import StreamTap

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
PLACES = st.lists(st.integers(0, 2000), max_size=12)
NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])


def choice(**members: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {}, "finish_reason": None, **members}


EVENTS = st.one_of(
    st.builds(lambda text: {"choices": [choice(delta={"content": text})]}, st.text(max_size=12)),
    st.builds(lambda at: {"choices": [choice(index=at, finish_reason="stop")], "usage": None}, st.integers(0, 2)),
    st.just({"choices": [], "usage": USAGE}),
    st.just({"choices": [choice()], "usage": USAGE}),
    st.just({"error": {"message": "boom", "code": 500}}),
    st.just({"choices": "another shape"}),
    st.just({"choices": [choice(index=True)], "error": None}),
).map(json.dumps) | st.sampled_from(["[DONE]", " [DONE] ", "rubbish", "", "[1]", '{"choices":[{"delta":{"content":"a'])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    told = ""
    for event in draw(st.lists(EVENTS, max_size=8)):
        end = draw(NEWLINES)
        told += draw(st.sampled_from(["", f": ping{end}{end}", f"event: x{end}"]))
        told += draw(st.sampled_from(["data: ", "data:"])) + event + end + end
    data = told.encode()
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


def seen(pieces: list[bytes], *, strip_usage: bool) -> tuple[object, ...]:
    tap = StreamTap(strip_usage=strip_usage)
    passed = b"".join([*map(tap.feed, pieces), tap.finish()])
    fault = tap.fault and (tap.fault.kind, tap.fault.status, tap.fault.retry, tap.fault.public)
    return passed, tap.usage, tap.finished, tap.done, tap.whole, tap.chunks, fault


@given(data=streams(), places=PLACES, strip=st.booleans())
def test_a_stream_is_seen_and_passed_on_the_same_however_it_is_cut(data: bytes, places: list[int], strip: bool) -> None:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    whole = seen([data], strip_usage=strip)
    assert seen([data[i : i + 1] for i in range(len(data))], strip_usage=strip) == whole
    assert seen([data[a:b] for a, b in itertools.pairwise(marks)], strip_usage=strip) == whole
    assert seen(data.splitlines(keepends=True), strip_usage=strip) == whole


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_never_break_the_tap_nor_pass_as_a_whole_stream(data: bytes) -> None:
    tap = StreamTap(strip_usage=True)
    tap.feed(data)
    tap.finish()
    assert tap.whole is (b"[DONE]" in data and tap.done)


def told(*events: object, done: bool = True) -> bytes:
    data = b"".join(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events)
    return data + b"data: [DONE]\n\n" if done else data


TEXT = {"choices": [choice(delta={"content": "hi"})]}
END = {"choices": [choice(finish_reason="stop")]}
LAST = {"choices": [], "usage": USAGE}


def test_a_stream_cut_before_its_finish_is_never_whole() -> None:
    data = told(TEXT, TEXT, END, LAST)
    finish_ends = data.index(b'"stop"}') + len(b'"stop"}]}')
    for length in range(len(data) + 1):
        tap = StreamTap(strip_usage=False)
        tap.feed(data[:length])
        tap.finish()
        assert tap.whole is (length >= finish_ends and tap.fault is None)


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"data: [DONE] \n\n", b"data: [DONE]"])
def test_the_end_mark_makes_a_stream_whole_even_without_a_finish_reason(end: bytes) -> None:
    tap = StreamTap(strip_usage=True)
    assert tap.feed(told(TEXT, done=False)) + tap.feed(end) + tap.finish() == told(TEXT, done=False) + end
    assert (tap.done, tap.whole, tap.chunks) == (True, True, 1)


def test_a_stream_of_several_choices_is_whole_when_each_has_finished() -> None:
    second = {"choices": [choice(index=1, delta={"content": "ho"})]}
    tap = StreamTap(strip_usage=False)
    tap.feed(told(TEXT, second, END, done=False))
    assert not tap.whole
    tap.feed(told({"choices": [choice(index=1, finish_reason="length")]}, done=False))
    assert tap.whole


def test_remarks_after_the_finish_do_not_undo_it() -> None:
    tap = StreamTap(strip_usage=False)
    tap.feed(told(TEXT, END, {"choices": [choice(content_filter_results={})]}, done=False))
    assert tap.whole


@pytest.mark.parametrize("asked", [True, False])
def test_usage_is_seen_and_reaches_only_who_asked_for_it(asked: bool) -> None:
    tap = StreamTap(strip_usage=not asked)
    nothing = {**TEXT, "usage": None}
    passed = tap.feed(told(nothing, END, LAST)) + tap.finish()
    assert tap.usage == Usage(3, 2, cache_read=1)
    assert passed == (told(nothing, END, LAST) if asked else told(TEXT, END))


def test_usage_that_cannot_be_meant_leaves_the_last_one_standing() -> None:
    tap = StreamTap(strip_usage=False)
    tap.feed(told(LAST, {"choices": [], "usage": {"prompt_tokens": -1}}, {"choices": [], "usage": {}}))
    assert tap.usage == Usage(3, 2, cache_read=1)


def test_nothing_after_the_end_or_an_error_is_passed_on() -> None:
    for end in (b"data: [DONE]\n\n", told({"error": {"message": "x", "code": "429"}}, done=False)):
        tap = StreamTap(strip_usage=False)
        tap.feed(told(TEXT, done=False))
        tap.feed(end)
        assert tap.feed(told(TEXT)) == b""
        assert tap.finish() == b""
    assert tap.fault is not None
    assert tap.fault.kind is Kind.UPSTREAM_RATE_LIMIT
