"""The outline of a JSON object finds each member where it stands, whatever the spelling."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ostiary.wire.framing.json_scan import (
    MOST_BRACKETS,
    MOST_STEPS,
    MOST_STRINGS,
    MisshapenError,
    check_shape,
    outline,
)

SPACE = st.text(" \t\n\r", max_size=3)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@st.composite
def objects(draw: st.DrawFn) -> tuple[list[tuple[str, object]], str]:
    """Members, duplicates included, and one way to write them."""
    members = draw(st.lists(st.tuples(st.text(max_size=5), VALUES), max_size=5))
    written = []
    for key, value in members:
        name = json.dumps(key, ensure_ascii=draw(st.booleans()))
        indent = draw(st.sampled_from([None, 1]))
        text = json.dumps(value, indent=indent, ensure_ascii=draw(st.booleans()))
        written.append(draw(SPACE) + name + draw(SPACE) + ":" + draw(SPACE) + text + draw(SPACE))
    assume(not any("\ud800" <= c <= "\udfff" for c in "".join(written)))
    return members, draw(SPACE) + "{" + (draw(SPACE) if not written else "") + ",".join(written) + "}" + draw(SPACE)


@given(drawn=objects())
def test_each_member_is_found_with_its_name_and_its_value(drawn: tuple[list[tuple[str, object]], str]) -> None:
    members, text = drawn
    body = text.encode()
    found = outline(body)
    assert [(m.key, json.loads(body[m.value_start : m.value_end])) for m in found.members] == members
    assert all(body[m.start : m.start + 1] == b'"' for m in found.members)
    assert body[found.close : found.close + 1] == b"}"
    deepest = 1 + max((depth(value) for _, value in members), default=0)
    check_shape(body, deepest)
    if body.count(b"{") + body.count(b"[") > deepest > 1:
        with pytest.raises(MisshapenError):
            check_shape(body, deepest - 1)


@given(body=st.binary(max_size=60) | st.text('{}[]",:\\u0 a1\n', max_size=40).map(str.encode))
def test_arbitrary_bytes_have_an_outline_or_are_misshapen(body: bytes) -> None:
    try:
        found = outline(body)
    except MisshapenError:
        return
    assert found.members == sorted(found.members, key=lambda member: member.start)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,}', b'{"a":1 "b":2}', b'{"a" 1}', b"{1:2}", b'{"a":}',
     b'{"a":[1}', b'{"a":1}x', b'{"\\x":1}', b'{"\xff":1}', b"{}{}", b'{"a":"}'],
)  # fmt: skip
def test_what_is_not_one_object_is_misshapen(body: bytes) -> None:
    with pytest.raises(MisshapenError):
        outline(body)


def test_dos_01_depth_is_counted_and_capped() -> None:
    nested = b'{"a":"[[[[[[",' + b'"b":' + b"[" * 4 + b"]" * 4 + b"}"
    check_shape(nested, 5)
    with pytest.raises(MisshapenError):
        check_shape(nested, 4)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MOST_BRACKETS + b"[]" + b"]" * MOST_BRACKETS,
        b"[" + b"[]," * MOST_BRACKETS + b"[]]",
        b'"",' * (MOST_STRINGS + 1),
        b'"\\\\",' * (MOST_STRINGS + 1),
    ],
)
def test_dos_01_more_parts_than_any_request_needs_are_refused(body: bytes) -> None:
    with pytest.raises(MisshapenError):
        check_shape(body, 64)


def test_escaped_quotes_are_no_strings() -> None:
    check_shape(b'{"a":"' + b'\\"' * (2 * MOST_STRINGS) + b'"}', 64)


def test_an_outline_of_too_many_parts_is_given_up() -> None:
    with pytest.raises(MisshapenError):
        outline(b'{"a":[' + b"[]," * MOST_STEPS + b"1]}")


@pytest.mark.parametrize("unit", [b"[", b'"\\', b'\\"', b'{"a":', b'"', b"a", b'"",', b'":"'])
def test_hostile_repetition_takes_time_in_proportion_to_its_length(unit: bytes) -> None:
    body = b'{"a":[' + unit * (400_000 // len(unit))
    began = time.perf_counter()
    with pytest.raises(MisshapenError):
        outline(body)
    assert time.perf_counter() - began < 1.0
