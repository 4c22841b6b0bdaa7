"""The fields of a form are found where they stand, and only they change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.operation import Meter
from ostiary.core.price import FREE, Price
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.raw import answered_usage, asked_usage, read_form
from ostiary.wire.framing.multipart import boundary_of, parts_of
from ostiary.wire.governed import read

KIND = b"multipart/form-data; boundary=b0"
FIELDS = st.lists(
    st.tuples(st.text("abcö", min_size=1, max_size=4), st.booleans(), st.binary(max_size=30)), min_size=1, max_size=5
).filter(lambda fields: all(b"--b0" not in content for *_, content in fields))


def form(fields: list[tuple[str, bool, bytes]]) -> bytes:
    body = b""
    for name, is_file, content in fields:
        head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="a.txt"' if is_file else "")
        body += b"--b0\r\n" + head.encode() + b"\r\nX-More: 1\r\n\r\n" + content + b"\r\n"
    return body + b"--b0--\r\n"


@given(fields=FIELDS)
def test_each_part_is_found_with_its_content(fields: list[tuple[str, bool, bytes]]) -> None:
    body = form(fields)
    found = parts_of(body, b"b0")
    assert [(part.name, part.is_file, body[part.start : part.end]) for part in found] == fields
    assert b"".join(body[part.head : part.after] for part in found) + b"--b0--\r\n" == body


@given(fields=FIELDS, model=st.text("xyz", min_size=1))
def test_only_the_model_changes(fields: list[tuple[str, bool, bytes]], model: str) -> None:
    ask = read_form(form([*fields, ("model", False, b"m")]), KIND)
    assert ask.patched(model, include_usage=True) == form([*fields, ("model", False, model.encode())])
    assert ask.patched("m", include_usage=True) == ask.body


@given(body=st.binary(max_size=80) | st.lists(st.sampled_from(
    [b"--b0", b"\r\n", b"--", b'Content-Disposition: form-data; name="model"', b"\r\n\r\n", b"m", b"name=", b"\xff"]))
    .map(b"".join))  # fmt: skip
def test_arbitrary_bytes_are_a_form_or_a_fault(body: bytes) -> None:
    kind = None
    try:
        read_form(body, KIND)
    except Fault as fault:
        kind = fault.kind
    assert kind in (None, Kind.MALFORMED, Kind.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [(b"multipart/form-data; boundary=x", b"x"), (b'Multipart/Form-Data; charset=utf-8; boundary="x y"', b"x y"),
     (b"application/json", None), (b"multipart/form-data", None),
     (b"multipart/form-data; boundary=" + b"x" * 71, None)],
)  # fmt: skip
def test_the_boundary_is_what_the_content_type_names(content_type: bytes, boundary: bytes | None) -> None:
    if boundary is None:
        with pytest.raises(Fault) as caught:
            boundary_of(content_type)
        assert caught.value.kind is Kind.UNSUPPORTED_MEDIA
    else:
        assert boundary_of(content_type) == boundary


PART = b'Content-Disposition: form-data; name="model"\r\n\r\n'


@pytest.mark.parametrize(
    "body",
    [b"", b"--b0", b"x--b0--", b"--b0\r\n" + PART + b"m", b"--b0\r\nX: 1\r\n\r\nm\r\n--b0--",
     b"--b0\r\nContent-Disposition: form-data\r\n\r\nm\r\n--b0--",
     b'--b0\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nm\r\n--b0--',
     b"--b0\r\n" + b"X: " + b"y" * 9000 + b"\r\n" + PART + b"m\r\n--b0--",
     (b"--b0\r\n" + PART + b"m\r\n") * 257 + b"--b0--"],
)  # fmt: skip
def test_what_breaks_the_grammar_or_its_caps_is_malformed(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        parts_of(body, b"b0")
    assert caught.value.kind is Kind.MALFORMED


def test_a_form_is_read_like_a_request() -> None:
    fields = [("stream", False, b"true"), ("user", False, b"u"), ("file", True, b"\xff"), ("model", False, b"m")]
    ask = read_form(form(fields), KIND)
    assert (ask.model, ask.stream, ask.user, ask.file()) == ("m", True, "u", b"\xff")
    assert ask.without(["user", "stream"], file=b"new") == form([("file", True, b"new"), ("model", False, b"m")])
    assert read_form(form(fields[:1]), KIND, default_model="d").model == "d"


@pytest.mark.parametrize(
    ("fields", "model", "kind"),
    [
        ([("model", False, b"m"), ("model", False, b"m")], "", Kind.MALFORMED),
        ([("model", False, b"\xff")], "", Kind.MALFORMED),
        ([("model", False, b"m")], "other", Kind.INVALID_REQUEST),
        ([("a", False, b"m")], "", Kind.INVALID_REQUEST),
        ([("api_base", False, b"m")], "m", Kind.INVALID_REQUEST),
        ([("timeout", False, b"1")], "m", Kind.INVALID_REQUEST),
    ],
)
def test_a_form_that_is_ambiguous_or_steers_is_refused(
    fields: list[tuple[str, bool, bytes]], model: str, kind: Kind
) -> None:
    with pytest.raises(Fault) as caught:
        read_form(form(fields), KIND, model=model)
    assert caught.value.kind is kind


def test_a_form_has_one_file() -> None:
    ask = read_form(form([("model", False, b"m")]), KIND)
    with pytest.raises(Fault):
        ask.file()


@pytest.mark.parametrize(
    ("meter", "body", "expected"),
    [
        (Meter.TOKENS, b'{"usage":{"total_tokens":5}}', Usage(5)),
        (Meter.REQUESTS, b"{}", Usage(characters=1)),
        (Meter.IMAGES, b'{"data":[{},{}]}', Usage(images=2)),
        (Meter.IMAGES, b'{"data":[]}', None),
        (Meter.IMAGES, b'{"data":5}', None),
        (Meter.IMAGES, b'{"data":[{}],"usage":{"input_tokens":1,"output_tokens":2}}', Usage(1, 2)),
        (Meter.SECONDS, b'{"duration":1.5}', Usage(milliseconds=1500)),
        (Meter.SECONDS, b'{"duration":"2"}', Usage(milliseconds=2000)),
        (Meter.SECONDS, b'{"duration":"long"}', Usage()),
        (Meter.SECONDS, b'{"duration":1e300}', Usage()),
        (Meter.SECONDS, b'{"usage":{"seconds":3}}', Usage(milliseconds=3000)),
        (Meter.SECONDS, b'{"usage":{"seconds":1e306}}', None),
        (Meter.SECONDS, b'{"usage":{"prompt_tokens":1e30}}', None),
        (Meter.SECONDS, b'{"usage":"x"}', None),
    ],
)
def test_the_use_of_a_relayed_answer_is_what_it_states(meter: Meter, body: bytes, expected: Usage | None) -> None:
    assert answered_usage(body, meter, Usage(characters=1)) == expected


TOKENS, PICTURES, SECONDS = Price(input=1, output=2), Price(image=3), Price(second_in=4)
STATED = b'{"data":[{},{}],"duration":2,"usage":{"input_tokens":1,"output_tokens":2}}'


@pytest.mark.parametrize(
    ("meter", "price", "body", "expected"),
    [
        (Meter.IMAGES, TOKENS, STATED, Usage(1, 2)),
        (Meter.IMAGES, Price(input=1, image=3), STATED, Usage(1, 2)),
        (Meter.IMAGES, PICTURES, STATED, Usage(images=2)),
        (Meter.IMAGES, FREE, STATED, Usage(1, 2)),
        (Meter.IMAGES, PICTURES, STATED.replace(b"{},{}", b""), None),
        (Meter.SECONDS, SECONDS, STATED, Usage(milliseconds=2000)),
        (Meter.SECONDS, SECONDS, b'{"usage":{"seconds":3}}', Usage(milliseconds=3000)),
        (Meter.CHARACTERS, Price(character_in=1), STATED, Usage(characters=1)),
        (Meter.REQUESTS, Price(request=5), b"{}", Usage(characters=1)),
        (Meter.REQUESTS, TOKENS, STATED, Usage(1, 2)),
        (Meter.REQUESTS, TOKENS, b"{}", None),
    ],
)
def test_of_what_an_answer_states_that_is_used_which_has_a_rate(
    meter: Meter, price: Price, body: bytes, expected: Usage | None
) -> None:
    assert answered_usage(body, meter, Usage(characters=1), price) == expected


@pytest.mark.parametrize(
    ("member", "pictures"), [(b"", 1), (b',"n":3', 3), (b',"n":null', 1), (b',"n":0', 1), (b',"n":1e9', 1000)]
)
def test_pictures_asked_for_are_counted(member: bytes, pictures: int) -> None:
    ask = read(b'{"model":"m"%b}' % member, max_depth=64)
    assert asked_usage(ask, Meter.IMAGES) == Usage(images=pictures)


@pytest.mark.parametrize(
    ("body", "meter", "characters"),
    [(b'{"model":"m","input":"four"}', Meter.CHARACTERS, 4), (b'{"model":"m","input":5}', Meter.CHARACTERS, 0),
     (b'{"model":"m"}', Meter.CHARACTERS, 0), (b'{"model":"m","input":"four"}', Meter.TOKENS, 0)],
)  # fmt: skip
def test_characters_to_speak_are_counted(body: bytes, meter: Meter, characters: int) -> None:
    assert asked_usage(read(body, max_depth=64), meter) == Usage(characters=characters)
