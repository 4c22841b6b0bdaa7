"""The laws of the embedding shapes: nothing is lost unsaid, and rubbish is a fault."""

from __future__ import annotations

import base64
import json
import math
import struct
from functools import partial
from typing import Any

import msgspec
import pytest
from embedding_kit import (
    DEFECTS,
    FLOATS,
    IN_PATH,
    NAMES,
    PACKED,
    PIVOTS,
    REPLIES,
    REQUESTS,
    ROWS,
    answering,
    asked,
    body_of,
    outcome,
    reply_of,
)
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.wire.conversation.unknown import LossKind
from ostiary.wire.embedding.batching import joined, split
from ostiary.wire.embedding.pivot import (
    Blend,
    Cut,
    EmbeddingReply,
    EmbeddingRequest,
    Form,
    Number,
    Purpose,
    Vectors,
    Words,
)
from ostiary.wire.embedding.shapes import SHAPES
from ostiary.wire.embedding.vectors import pack, unpack

SHAPE_NAMES = st.sampled_from(NAMES)
FORMS_SAID = {
    "openai": {Form(), Form(packed=True)},
    "jina": {Form(), Form(packed=True), Form(Number.BINARY), Form(Number.UBINARY)},
}
PLAIN_ONLY = {"cohere", "titan_v2", "bedrock_cohere_v3", "bedrock_cohere_v4"}
HAS_CUT = {"cohere", "vertex", "voyage", "jina", "ollama", "bedrock_cohere_v3", "bedrock_cohere_v4"}
CUT_IS_A_FLAG = {"vertex", "voyage", "jina", "ollama"}


def less(request: EmbeddingRequest, name: str, lost: set[str]) -> EmbeddingRequest:
    """What is left of a request once it passed a shape: what is said to be lost is, and our own work is not asked."""
    cut = request.cut if name in HAS_CUT else None
    cut = Cut.END if cut is Cut.START and name in CUT_IS_A_FLAG else cut
    forms = request.forms
    if name in PLAIN_ONLY:
        forms = tuple(Form(number) for number in dict.fromkeys(form.number for form in forms))
    elif name != "voyage":
        forms = tuple(form for form in one_of(forms) if form in FORMS_SAID.get(name, set()))
    else:
        forms = one_of(forms)
    kind = None if "kind" in lost else request.kind
    if "cohere" in name and kind is None:
        kind = Purpose.QUERY if request.kind is Purpose.CODE_QUERY else Purpose.DOCUMENT
    if name in ("gemini", "gemini_single", "vertex") and request.kind is Purpose.CODE_DOCUMENT:
        kind = Purpose.DOCUMENT
    if name == "cohere" and not forms:
        forms = (Form(),)
    inputs = tuple(
        msgspec.structs.replace(each, title=None)
        if isinstance(each, Words) and f"inputs.{index}.title" in lost
        else each
        for index, each in enumerate(request.inputs)
    )
    return msgspec.structs.replace(
        request,
        model="" if name in IN_PATH - {"gemini", "gemini_single"} else request.model,
        inputs=inputs,
        forms=forms,
        kind=kind,
        cut=cut,
        normalize=None if "normalize" in lost else request.normalize,
        user=None if "user" in lost else request.user,
    )


def one_of(forms: tuple[Form, ...]) -> tuple[Form, ...]:
    """The form that is asked for where a shape has room for one."""
    return (min(forms, key=lambda form: form.packed),) if forms else ()


@given(name=SHAPE_NAMES, request=PIVOTS)
def test_a_request_comes_back_less_what_is_said_to_be_lost(name: str, request: EmbeddingRequest) -> None:
    shape = SHAPES[name]
    encoded = outcome(lambda: shape.encode_request(request))
    if isinstance(encoded, Fault):
        assert (encoded.kind, encoded.retry) == (Kind.INVALID_REQUEST, Retry.NEXT)
        assert encoded.param is not None
        assert encoded.param.split(".")[0] in ("inputs", "forms", "dimensions")
        return
    lost = {loss.where for loss in encoded.losses}
    again = shape.decode_request(encoded.body)
    if [bytes(extra.value) for extra in again.rest] == [b'"image"']:  # images to Cohere have a kind of their own
        again = msgspec.structs.replace(again, rest=(), kind=Purpose.DOCUMENT)
    if name == "jina" and request.forms and one_of(request.forms)[0].packed:
        again = msgspec.structs.replace(again, forms=())
        request = msgspec.structs.replace(request, forms=())
    assert again == less(request, name, lost)
    assert shape.decode_request(shape.encode_request(again).body) == again


@pytest.mark.parametrize("name", NAMES)
def test_every_member_of_a_request_comes_back(name: str) -> None:
    document = {**REQUESTS[name], "x_new": {"deep": [1, None]}, "größe": 2.5}
    encoded = SHAPES[name].encode_request(SHAPES[name].decode_request(body_of(document)))
    assert json.loads(encoded.body) == document
    assert encoded.losses == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_member_of_an_answer_comes_back(name: str) -> None:
    request = asked(SHAPES[name])
    document = {**REPLIES[name], "x_new": {"deep": [1, None]}}
    reply = SHAPES[name].decode_reply(body_of(document), request)
    assert json.loads(SHAPES[name].encode_reply(reply, answering(request)).body) == document


@pytest.mark.parametrize("name", NAMES)
def test_the_use_is_the_same_with_and_without_the_vectors(name: str) -> None:
    shape = SHAPES[name]
    reply = shape.decode_reply(body_of(REPLIES[name]), asked(shape))
    assert shape.usage_of(body_of(REPLIES[name])) == reply.usage
    assert reply.usage is not None
    assert reply.usage.input == 7


@given(name=SHAPE_NAMES, rows=st.lists(st.lists(FLOATS, max_size=4), min_size=1, max_size=3), data=st.data())
def test_vectors_pass_every_shape_bit_for_bit(name: str, rows: list[list[float]], data: st.DataObject) -> None:
    shape = SHAPES[name]
    rows = rows[: shape.most_inputs]
    request = EmbeddingRequest(model="m", inputs=(Words("a"),) * len(rows))
    if name == "openai" and data.draw(st.booleans()):
        request = msgspec.structs.replace(request, forms=(Form(packed=True),))
    reply = reply_of([tuple(row) for row in rows], data.draw(st.none() | st.integers(0, 2**40)))
    again = shape.decode_reply(shape.encode_reply(reply, answering(request)).body, request)
    told = [unpack(row, Number.FLOAT) if isinstance(row, str) else row for row in again.vectors[0].rows]
    assert [struct.pack(f"<{len(row)}f", *row) for row in told] == [struct.pack(f"<{len(row)}f", *row) for row in rows]
    assert again.usage == reply.usage or (reply.usage is None and again.usage is not None and not again.usage.input)


@given(row=st.lists(FLOATS, max_size=9))
def test_packing_is_four_bytes_for_each_float_the_least_first(row: list[float]) -> None:
    text = pack(tuple(row), Number.FLOAT)
    assert base64.b64decode(text) == struct.pack(f"<{len(row)}f", *row)
    assert struct.pack(f"<{len(row)}f", *unpack(text, Number.FLOAT)) == struct.pack(f"<{len(row)}f", *row)


@given(row=st.lists(st.floats(-3e38, 3e38), max_size=5))
def test_packing_a_double_takes_the_nearest_float(row: list[float]) -> None:
    nearest = struct.unpack(f"<{len(row)}f", struct.pack(f"<{len(row)}f", *row))
    assert unpack(pack(tuple(row), Number.FLOAT), Number.FLOAT) == nearest


@given(data=st.binary(max_size=12))
def test_packed_bytes_come_back_or_are_a_bad_answer(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    for number in Number:
        row = outcome(partial(unpack, text, number))
        if isinstance(row, Fault):
            assert (row.kind, number) == (Kind.BAD_ANSWER, Number.FLOAT)
            values = struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
            assert len(data) % 4 or not all(math.isfinite(value) for value in values)
        else:
            assert base64.b64decode(pack(row, number)) == data


@pytest.mark.parametrize("text", ["AAAA", "AAAAPw=", "AAAA PwAA", "ä", "AACAfw==", "AADAfw=="])
def test_what_is_no_packed_row_of_finite_floats_is_a_bad_answer(text: str) -> None:
    with pytest.raises(Fault) as caught:
        unpack(text, Number.FLOAT)
    assert caught.value.kind is Kind.BAD_ANSWER


@pytest.mark.parametrize(("row", "number"), [((1e39,), Number.FLOAT), ((128,), Number.INT8), ((0.5,), Number.UINT8)])
def test_a_number_that_its_kind_cannot_hold_is_not_packed(row: tuple[float, ...], number: Number) -> None:
    with pytest.raises(Fault):
        pack(row, number)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _replaced(document: Any, data: st.DataObject) -> Any:
    """A document with something in it replaced by anything."""
    if isinstance(document, dict) and document and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(document)))
        return {**document, name: _replaced(document[name], data)}
    if isinstance(document, list) and document and data.draw(st.booleans()):
        return [_replaced(document[0], data), *document[1:]]
    return data.draw(_JSON)


def _survives(name: str, body: bytes) -> None:
    shape, request = SHAPES[name], asked(SHAPES[name])
    decoded = outcome(lambda: shape.decode_request(body))
    if isinstance(decoded, Fault):
        assert decoded.kind in DEFECTS
    else:
        again = shape.decode_request(shape.encode_request(decoded).body)
        assert shape.decode_request(shape.encode_request(again).body) == again
    for told in (outcome(lambda: shape.decode_reply(body, request)), outcome(lambda: shape.usage_of(body))):
        assert not isinstance(told, Fault) or told.kind is Kind.BAD_ANSWER


@given(name=SHAPE_NAMES, body=st.binary(max_size=40))
def test_any_bytes_give_a_value_or_a_fault(name: str, body: bytes) -> None:
    _survives(name, body)


@given(name=SHAPE_NAMES, data=st.data())
def test_any_document_gives_a_value_or_a_fault(name: str, data: st.DataObject) -> None:
    golden = data.draw(st.sampled_from([REQUESTS[name], REPLIES[name]]))
    _survives(name, body_of(_replaced(golden, data)).replace(b"Infinity", b"1").replace(b"NaN", b"1"))


@pytest.mark.parametrize("name", NAMES)
def test_a_deep_document_is_refused(name: str) -> None:
    body = b'{"input":' + b"[" * 100_000
    _survives(name, body)


@pytest.mark.parametrize("name", [name for name in NAMES if SHAPES[name].most_inputs != 1])
def test_an_answer_with_too_few_vectors_is_a_bad_answer(name: str) -> None:
    request = asked(SHAPES[name])
    more = msgspec.structs.replace(request, inputs=(*request.inputs, Words("who")))
    with pytest.raises(Fault) as caught:
        SHAPES[name].decode_reply(body_of(REPLIES[name]), more)
    assert (caught.value.kind, caught.value.retry) == (Kind.BAD_ANSWER, Retry.NEXT)


def test_vectors_are_put_in_the_order_of_their_indices() -> None:
    document = {**REPLIES["openai"], "data": REPLIES["openai"]["data"][::-1]}
    reply = SHAPES["openai"].decode_reply(body_of(document), asked(SHAPES["openai"]))
    assert reply.vectors[0].rows == tuple(tuple(row) for row in ROWS)


def test_indices_that_are_not_those_of_the_inputs_are_a_bad_answer() -> None:
    data = [{**item, "index": 1} for item in REPLIES["openai"]["data"]]
    with pytest.raises(Fault) as caught:
        SHAPES["openai"].decode_reply(body_of({**REPLIES["openai"], "data": data}), asked(SHAPES["openai"]))
    assert caught.value.kind is Kind.BAD_ANSWER


@given(request=PIVOTS, most=st.integers(1, 4))
def test_pieces_of_a_request_are_small_and_say_the_same(request: EmbeddingRequest, most: int) -> None:
    pieces = split(request, most)
    assert all(len(piece.inputs) <= most for piece in pieces)
    assert tuple(each for piece in pieces for each in piece.inputs) == request.inputs
    assert {msgspec.structs.replace(piece, inputs=()) for piece in pieces} == {
        msgspec.structs.replace(request, inputs=())
    }
    assert split(request, None) == [request]


@given(counts=st.lists(st.integers(1, 3), min_size=1, max_size=4), used=st.lists(st.none() | st.integers(0, 99)))
def test_joined_replies_have_all_vectors_in_order_and_the_sum_of_use(counts: list[int], used: list[int | None]) -> None:
    used = [*used, *[1] * len(counts)][: len(counts)]
    replies, place = [], 0
    for count, use in zip(counts, used, strict=True):
        replies.append(reply_of([(float(place + each),) for each in range(count)], use))
        place += count
    reply = joined(replies)
    assert reply.vectors[0].rows == tuple((float(each),) for each in range(place))
    stated = [use for use in used if use is not None]
    assert (reply.usage.input if reply.usage is not None else None) == (sum(stated) if stated else None)


def test_replies_of_unlike_forms_are_not_joined() -> None:
    other = EmbeddingReply(vectors=(Vectors(Number.INT8, ((1,),)),))
    for replies in ([], [reply_of([(1.0,)]), other]):
        with pytest.raises(Fault):
            joined(replies)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_title_or_part_is_still_told_of(name: str) -> None:
    request = EmbeddingRequest(model="m", inputs=(Words("a", title=""),))
    encoded = SHAPES[name].encode_request(request)
    marks = [loss.where for loss in encoded.losses if loss.kind is LossKind.MARK]
    assert marks == ([] if name in ("gemini", "gemini_single", "vertex") else ["inputs.0.title"])
    with pytest.raises(Fault):
        SHAPES["openai"].encode_request(EmbeddingRequest(model="m", inputs=(Blend((Words("a"), Words("b"))),)))


def test_the_goldens_hold_the_same_numbers_twice() -> None:
    assert [list(unpack(text, Number.FLOAT)) for text in PACKED] == ROWS
