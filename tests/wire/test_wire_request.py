"""The relay's request: outside the governed members the provider receives the client's bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.wire.dialects.openai_chat.wire import ENDPOINTS
from ostiary.wire.framing.json_scan import outline
from ostiary.wire.governed import GOVERNED, OWN, REFUSED, Ask, read

WORDS = st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.just("model"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=5,
)
SPACE = st.text(" \t\n\r", max_size=2)
OPTIONAL = {
    "stream": st.booleans(),
    "stream_options": st.none() | st.dictionaries(st.sampled_from(["include_usage", "x"]), st.booleans()),
    "messages": st.just([{"role": "user", "content": '"model":"x"'}]) | JSON,
    "tools": JSON,
    "temperature": JSON,
    "x model": JSON,
    "timeout": JSON,
    "tags": JSON,
}


def spelled(draw: st.DrawFn, name: str) -> str:
    """A member's name, some letters escaped."""
    if draw(st.integers(0, 3)):
        return json.dumps(name)
    return '"' + "".join(f"\\u{ord(c):04x}" if draw(st.booleans()) else c for c in name) + '"'


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    members: dict[str, Any] = draw(st.fixed_dictionaries({"model": WORDS.filter(bool)}, optional=OPTIONAL))
    written = []
    for name in draw(st.permutations(list(members))):
        value = json.dumps(members[name], ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        written.append(draw(SPACE) + spelled(draw, name) + draw(SPACE) + ":" + draw(SPACE) + value + draw(SPACE))
    return (draw(SPACE) + "{" + ",".join(written) + "}" + draw(SPACE)).encode()


def members_of(body: bytes) -> dict[str, bytes]:
    """The raw bytes of each member, name and value and what stands between."""
    return {m.key: body[m.start : m.value_end] for m in outline(body).members}


@given(body=bodies(), model=WORDS.filter(bool), usage=st.booleans())
def test_only_governed_members_change_their_bytes(body: bytes, model: str, usage: bool) -> None:
    ask = read(body, max_depth=64)
    before = json.loads(body)
    patched = ask.patched(model, include_usage=usage, defaults=[("temperature", b"0.5"), ("top_p", b"1")])
    after = json.loads(patched)
    assert after["model"] == model
    assert after["top_p"] == 1
    asked = usage and before.get("stream") is True
    assert not asked or after["stream_options"]["include_usage"] is True
    free = [name for name in before if name not in OWN | {"model", "stream_options"}]
    old, new = members_of(body), members_of(patched)
    assert [name for name in new if name in free] == [name for name in old if name in free]
    assert all(new[name] == old[name] for name in free)
    assert not OWN.intersection(after)
    if asked:
        kept = {k: v for k, v in (before.get("stream_options") or {}).items() if k != "include_usage"}
        assert {k: v for k, v in after["stream_options"].items() if k != "include_usage"} == kept


@given(body=bodies())
def test_a_request_that_needs_no_change_is_the_clients_bytes(body: bytes) -> None:
    ask = read(body, max_depth=64)
    if not ask.own:
        assert ask.patched(ask.model, include_usage=False) == body


@given(body=bodies(), name=st.sampled_from(GOVERNED), data=st.data())
def test_a_governed_member_that_stands_twice_is_refused_however_it_is_spelled(
    body: bytes, name: str, data: st.DataObject
) -> None:
    value = {"stream": b"true", "model": b'"m"'}.get(name, b"null")
    names = [data.draw(st.composite(spelled)(name)).encode() for _ in range(2)]
    start = body.index(b"{") + 1
    twice = body[:start] + b"".join(written + b":" + value + b"," for written in names) + body[start:]
    with pytest.raises(Fault) as caught:
        read(twice, max_depth=64)
    assert caught.value.kind in (Kind.MALFORMED, Kind.INVALID_REQUEST)


@given(body=st.binary(max_size=80) | bodies().map(lambda body: body[: len(body) // 2]))
def test_arbitrary_bytes_are_a_request_or_a_fault(body: bytes) -> None:
    kind = None
    try:
        assert isinstance(read(body, max_depth=64), Ask)
    except Fault as fault:
        kind = fault.kind
    assert kind in (None, Kind.MALFORMED, Kind.INVALID_REQUEST)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_members_that_would_steer_the_gateway_are_refused(name: str) -> None:
    for written in (json.dumps(name), '"' + "".join(f"\\u{ord(c):04X}" for c in name) + '"'):
        with pytest.raises(Fault) as caught:
            read(f'{{"model":"m",{written}:null}}'.encode(), max_depth=64)
        assert (caught.value.kind, caught.value.param) == (Kind.INVALID_REQUEST, name)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"model":1}', Kind.INVALID_REQUEST),
        (b'{"model":null}', Kind.INVALID_REQUEST),
        (b"{}", Kind.INVALID_REQUEST),
        (b'{"model":"other"}', Kind.INVALID_REQUEST),
        (b'{"model":"m","stream":1}', Kind.INVALID_REQUEST),
        (b'{"model":"m","max_tokens":"5"}', Kind.INVALID_REQUEST),
        (b'{"model":"m","max_tokens":1e400}', Kind.INVALID_REQUEST),
        (b'{"model":"m","max_tokens":' + b"9" * 5000 + b"}", Kind.INVALID_REQUEST),
        (b'{"model":"m","max_tokens":5,"n":true}', Kind.INVALID_REQUEST),
        (b'{"model":"m","stream":true,"stream_options":5}', Kind.INVALID_REQUEST),
        (b'{"model":"m","x":"\xff"}', Kind.MALFORMED),
        (b'{"model":"m","model":"m"}', Kind.MALFORMED),
        (b'{"model":"m","x":' + b"[" * 70 + b"]" * 70 + b"}", Kind.MALFORMED),
        (b'{"model":"m","x":' + b"[" * 10**6 + b"]" * 10**6 + b"}", Kind.MALFORMED),
    ],
)
def test_dos_01_what_is_no_acceptable_request_is_a_fault(body: bytes, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        read(body, max_depth=64, model="m" if b"other" in body else "")
    assert caught.value.kind is kind


def test_what_governs_a_request_is_read() -> None:
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"n":3,"user":"u"}'
    ask = read(body, max_depth=64)
    assert (ask.model, ask.stream, ask.wants_usage, ask.max_output, ask.user) == ("m", True, True, 15, "u")
    assert read(b'{"max_tokens":null}', max_depth=64, default_model="d").max_output is None
    assert read(b'{"model":"m","max_tokens":5,"max_completion_tokens":7}', max_depth=64).max_output == 7
    assert read(b'{"stream":true,"stream_options":null}', max_depth=64, model="m").wants_usage is False


def test_the_model_of_the_path_is_written_into_a_body_without_one() -> None:
    assert json.loads(read(b" {} ", max_depth=64, model="m").patched("up", include_usage=True)) == {"model": "up"}
    own = read(b'{"timeout":1}', max_depth=64, model="m")
    assert own.patched("up", include_usage=False) == b'{"model":"up"}'


def test_a_body_that_hides_its_names_in_too_many_parts_is_refused() -> None:
    body = b'{"model": "m","x":[' + b"[]," * 60_000 + b'"model"]}'
    with pytest.raises(Fault) as caught:
        read(body, max_depth=64)
    assert caught.value.kind is Kind.MALFORMED


def test_a_body_without_room_for_a_second_member_needs_no_closer_look() -> None:
    body = b'{"model":"m","x":[' + b"[]," * 60_000 + b'"model"]}'
    assert read(body, max_depth=64).model == "m"


@given(st.lists(st.sampled_from(["model", "messages", "x", "m\u00e9"]), min_size=1, max_size=6), st.data())
def test_a_second_governed_member_is_found_whatever_fills_the_body(names: list[str], data: st.DataObject) -> None:
    values = [data.draw(st.sampled_from(['"model"', '"m"', '{"model":"messages"}', "[]"])) for _ in names]
    gap = data.draw(st.sampled_from(["", " ", "  "]))
    written = [f'"{name}":{gap}"m"' if name == "model" else f'"{name}":{gap}{value}'
               for name, value in zip(names, values, strict=True)]  # fmt: skip
    body = ("{" + f",{gap}".join(written) + "}").encode()
    twice = names.count("model") > 1 or names.count("messages") > 1
    if twice:
        with pytest.raises(Fault) as caught:
            read(body, max_depth=64, default_model="d")
        assert caught.value.kind is Kind.MALFORMED
    else:
        assert read(body, max_depth=64, default_model="d").body == body


def test_what_a_model_is_asked_for_is_posted_as_json() -> None:
    assert {(row.method, row.path) for row in ENDPOINTS} == {
        ("POST", "/chat/completions"),
        ("POST", "/embeddings"),
    }


@pytest.mark.parametrize("within", ['{"metadata":{"model":"nick"}', '{"tools":[{"model":"nick","x":1}]'])
def test_a_namesake_within_another_member_is_not_taken_for_the_model(within: str) -> None:
    ask = read(f'{within},"model":"nick"}}'.encode(), max_depth=64)
    assert ask.patched("upstream", include_usage=False) == f'{within},"model":"upstream"}}'.encode()
