"""Same dialect means the same bytes: what the client wrote is what the provider reads, but for `model`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer, fetch
from ostiary.testing.script import Script

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
spaces = st.text(" \t\r\n", max_size=3)
# Names that neither this gateway nor the one it is compatible with governs.
unknown_names = texts.map(lambda name: f"ext_{name}")


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """The value as JSON in some odd but lawful formatting."""
    if isinstance(value, dict):
        members = [
            f"{draw(spaces)}{draw(string(k))}{draw(spaces)}:{draw(spaces)}{draw(written(v))}{draw(spaces)}"
            for k, v in value.items()
        ]
        return "{" + ",".join(members) + "}" if members else "{" + draw(spaces) + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{draw(spaces)}{draw(written(v))}{draw(spaces)}" for v in value) + "]"
    if isinstance(value, str):
        return draw(string(value))
    return json.dumps(value)


@st.composite
def string(draw: st.DrawFn, text: str) -> str:
    """A JSON string with some characters escaped that need not be."""
    style = draw(st.sampled_from(["ascii", "plain", "escaped"]))
    if style != "escaped":
        return json.dumps(text, ensure_ascii=style == "ascii").replace("/", draw(st.sampled_from(["/", "\\/"])))
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)) + '"'


def post(gateway: Gateway, key: str, body: bytes, path: str = "/v1/chat/completions") -> RawAnswer:
    return asyncio.run(fetch(gateway.url, "POST", path, body, key=key))


FAITHFUL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAITHFUL
@given(data=st.data(), extra=st.dictionaries(unknown_names, values, max_size=4), stream=st.booleans())
def test_outside_the_model_the_provider_reads_the_clients_bytes(
    gateway: Gateway,
    provider: FakeProvider,
    key: str,
    renamed: tuple[str, str],
    data: st.DataObject,
    extra: dict[str, Any],
    stream: bool,
) -> None:
    public, upstream = renamed
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "é \u2028 \U0001f6aa"}], **extra}
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    gap = data.draw(spaces)
    members = [f"{gap}{data.draw(string(name))}:{gap}{data.draw(written(value))}" for name, value in fields.items()]
    at = data.draw(st.integers(0, len(members)))
    before = "{" + "".join(f"{member}," for member in members[:at]) + f"{gap}{data.draw(string('model'))}{gap}:{gap}"
    after = gap + "".join(f",{member}" for member in members[at:]) + "}" + gap
    sent, expected = before + data.draw(string(public)) + after, before + json.dumps(upstream) + after
    answer = post(gateway, key, sent.encode())
    assert answer.status == 200, answer.body
    assert provider.seen(upstream)[-1].body.decode() == expected


@FAITHFUL
@given(data=st.data(), extra=st.dictionaries(unknown_names, values, max_size=4))
def test_where_the_model_keeps_its_name_nothing_is_touched_at_all(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, data: st.DataObject, extra: dict[str, Any]
) -> None:
    body = data.draw(written({"model": model, "messages": [], **extra})).encode()
    answer = post(gateway, key, body)
    assert answer.status == 200, answer.body
    assert provider.seen(model)[-1].body == body


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions", "/v1/moderations", "/v1/rerank"])
def test_other_operations_are_as_faithful(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, path: str
) -> None:
    body = (
        b'{ "model" : "%b",\n\t"input":"\\u00e9", "prompt": "p", "query":"q", "documents":[], "x":1.0E+2 }'
        % model.encode()
    )
    answer = post(gateway, key, body, path)
    assert answer.status == 200, answer.body
    assert provider.seen(model)[-1].body == body


def test_an_unasked_usage_chunk_is_requested_for_metering_and_kept_from_the_client(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    body = json.dumps({"model": model, "messages": [], "stream": True}).encode()
    answer = post(gateway, key, body)
    assert answer.complete
    chunks = [json.loads(event) for event in answer.events()[:-1]]
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in chunks)
    fields = provider.seen(model)[-1].ask.fields
    assert fields["stream_options"] == {"include_usage": True}
    assert gateway.record(answer.header("x-litellm-call-id"))["total_tokens"] == 15


def test_the_answer_too_is_the_providers_bytes(gateway: Gateway, provider: FakeProvider, key: str, model: str) -> None:
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'
    odd = b'{ "id":"x",\n "object": "chat.completion", "choices":[], "odd": "\\u00e9", ' + usage + b" }"
    provider.script(model, Script(body=odd))
    body = json.dumps({"model": model, "messages": []}).encode()
    answer = post(gateway, key, body)
    assert answer.body == odd


def test_the_clients_own_credentials_and_headers_stay_here(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    headers = [
        ("cookie", "session=1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-secret-of-mine", "s"),
        ("user-agent", "mine/1"),
    ]
    body = json.dumps({"model": model, "messages": []}).encode()
    asyncio.run(fetch(gateway.url, "POST", "/v1/chat/completions?a=b", body, key=key, headers=headers))
    seen = provider.seen(model)[-1]
    assert seen.target == "/v1/chat/completions"
    assert seen.header("authorization") == ["Bearer sk-provider-key-of-the-tests"]
    assert key not in str(seen.headers)
    names = {name.lower() for name, _ in seen.headers}
    assert names <= {
        "host",
        "authorization",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "connection",
    }
    assert "mine/1" not in seen.header("user-agent")
