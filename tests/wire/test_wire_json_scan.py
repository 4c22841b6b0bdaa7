"""The outline of a JSON object finds each member where it stands, whatever the spelling."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ostiary.wire.framing.json_scan import MisshapenError, outline

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
    found = outline(body, 100)
    assert [(m.key, json.loads(body[m.value_start : m.value_end])) for m in found.members] == members
    assert all(body[m.start : m.start + 1] == b'"' for m in found.members)
    assert body[found.close : found.close + 1] == b"}"
    assert found.depth == 1 + max((depth(value) for _, value in members), default=0)


@given(body=st.binary(max_size=60) | st.text('{}[]",:\\u0 a1\n', max_size=40).map(str.encode))
def test_arbitrary_bytes_have_an_outline_or_are_misshapen(body: bytes) -> None:
    try:
        found = outline(body, 20)
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
        outline(body, 20)


def test_dos_01_depth_is_counted_and_capped() -> None:
    nested = b'{"a":' + b"[" * 4 + b"]" * 4 + b"}"
    assert outline(nested, 5).depth == 5
    with pytest.raises(MisshapenError):
        outline(nested, 4)


@pytest.mark.parametrize("unit", [b"[", b'"\\', b'\\"', b'{"a":', b'"', b"a", b'"",', b'":"'])
def test_hostile_repetition_takes_time_in_proportion_to_its_length(unit: bytes) -> None:
    body = b'{"a":[' + unit * (400_000 // len(unit))
    began = time.perf_counter()
    with pytest.raises(MisshapenError):
        outline(body, 100)
    assert time.perf_counter() - began < 1.0
