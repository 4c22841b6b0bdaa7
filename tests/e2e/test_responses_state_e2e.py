"""The official `openai` client, strict, goes on from responses through the real gateway: over a provider that knows
chats only, and over one that keeps responses itself."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.script import Script, Tokens

SECONDS = 1200.0


@pytest.fixture(scope="module")
def keeper(provider: FakeProvider) -> Iterator[Gateway]:
    """A gateway that may keep responses."""
    with running_gateway(config(provider, {"seconds": SECONDS})) as gateway:
        yield gateway


def config(provider: FakeProvider, keep: dict[str, Any] | None) -> dict[str, Any]:
    own: dict[str, Any] = {"ledger": {"flush_seconds": 0.05}}
    if keep is not None:
        own["responses"] = {"keep": keep}
    chats = deployment("chat-*", provider.url)
    chats["litellm_params"]["model"] = "hosted_vllm/chat-*"  # which knows no responses
    return configuration(
        chats,
        deployment("native-*", provider.url),
        router_settings={"num_retries": 0, "disable_cooldowns": True},
        ostiary=own,
    )


def client(gateway: Gateway, **fields: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=gateway.base_url, api_key=gateway.key(**fields), max_retries=0, _strict_response_validation=True
    )


@pytest.fixture
def chat_model() -> str:
    return f"chat-{secrets.token_hex(6)}"


def sent(provider: FakeProvider, model: str) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in provider.seen(model)]


def test_a_conversation_over_a_provider_that_keeps_nothing(
    keeper: Gateway, provider: FakeProvider, chat_model: str
) -> None:
    provider.script(chat_model, Script(text="Hello Ada."), Script(text="You are Ada."))
    with client(keeper) as ada:
        first = ada.responses.create(model=chat_model, input="I am Ada.", instructions="Be brief.")
        second = ada.responses.create(
            model=chat_model, input=[{"role": "user", "content": "Who am I?"}], previous_response_id=first.id
        )
        assert (second.output_text, second.previous_response_id) == ("You are Ada.", first.id)
        assert [turn["content"] for turn in sent(provider, chat_model)[1]["messages"]] == [
            "I am Ada.", "Hello Ada.", "Who am I?",
        ]  # fmt: skip
        assert ada.responses.retrieve(first.id) == first
        assert ada.responses.retrieve(second.id).output_text == "You are Ada."
        texts = [item.content[0].text for item in ada.responses.input_items.list(second.id, order="asc", limit=2)]
        assert texts == ["I am Ada.", "Hello Ada.", "Who am I?"], "page by page"
        ada.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            ada.responses.retrieve(first.id)
        assert ada.responses.retrieve(second.id).id == second.id, "what went on from it stays"
        with pytest.raises(openai.BadRequestError):
            ada.responses.cancel(second.id)


def test_a_stream_is_gone_on_from_at_once(keeper: Gateway, provider: FakeProvider, chat_model: str) -> None:
    provider.script(chat_model, Script(text="one two three", pieces=5))
    with client(keeper) as ada:
        for _ in range(10):
            with ada.responses.stream(model=chat_model, input="count") as stream:
                last = stream.get_final_response()
            assert ada.responses.retrieve(last.id).output_text == "one two three"
            on = ada.responses.create(model=chat_model, input="on", previous_response_id=last.id)
            assert on.previous_response_id == last.id


def test_what_is_kept_outlives_the_process(provider: FakeProvider, chat_model: str, tmp_path: Any) -> None:
    with running_gateway(config(provider, {"seconds": SECONDS}), data_dir=tmp_path) as gateway:
        key = gateway.key()
        ada = openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)
        first = ada.responses.create(model=chat_model, input="hi")
        ada.close()
    with running_gateway(config(provider, {"seconds": SECONDS}), data_dir=tmp_path) as gateway:
        with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as ada:
            assert ada.responses.retrieve(first.id).id == first.id
        with client(gateway) as otto, pytest.raises(openai.NotFoundError):
            otto.responses.retrieve(first.id)
    with running_gateway(config(provider, None), data_dir=tmp_path) as gateway:
        with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as ada:
            with pytest.raises(openai.NotFoundError) as refused:
                ada.responses.retrieve(first.id)
            assert "ostiary.responses.keep" in str(refused.value), "it is no longer allowed"
            ada.responses.delete(first.id)
        assert rows(tmp_path) == 0


def test_what_has_expired_is_deleted(provider: FakeProvider, chat_model: str, tmp_path: Any) -> None:
    with running_gateway(config(provider, {"seconds": 1}), data_dir=tmp_path) as gateway, client(gateway) as ada:
        first = ada.responses.create(model=chat_model, input="hi")

        def gone() -> bool:
            try:
                ada.responses.retrieve(first.id)
            except openai.NotFoundError:
                return True
            return False

        eventually(gone)
    with running_gateway(config(provider, None), data_dir=tmp_path):
        eventually(lambda: rows(tmp_path) == 0)


def test_by_default_nothing_is_kept(gateway: Gateway, provider: FakeProvider, key: str, model: str) -> None:
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as ada:
        provider.script(model, Script(body=json.dumps(native("resp_1")).encode()))
        ada.responses.create(model=model, input="hi", store=True)
        assert sent(provider, model)[0]["store"] is False
        with pytest.raises(openai.BadRequestError) as refused:
            ada.responses.create(model=model, input="on", previous_response_id="resp_1")
        assert "ostiary.responses.keep" in str(refused.value)
    assert rows(gateway.data_dir) == 0


def test_a_key_is_excepted_by_its_metadata(keeper: Gateway, provider: FakeProvider, chat_model: str) -> None:
    with client(keeper, metadata={"store_responses": False}) as ada:
        first = ada.responses.create(model=chat_model, input="hi")
        assert first.to_dict()["store"] is False
        with pytest.raises(openai.BadRequestError) as refused:
            ada.responses.create(model=chat_model, input="on", previous_response_id=first.id)
        assert "store_responses" in str(refused.value)


def test_iso_two_tenants_have_nothing_in_common(keeper: Gateway, provider: FakeProvider, chat_model: str) -> None:
    native_model = f"native-{secrets.token_hex(6)}"
    provider.script(native_model, Script(body=json.dumps(native("resp_up")).encode()))
    with client(keeper, organization_id="acme", team_id="t") as ada, client(keeper, organization_id="umbrella") as eve:
        for model in (chat_model, native_model):
            mine = ada.responses.create(model=model, input="secret").id
            for name in (mine, "resp_up", "resp_unknown"):
                for ask in (eve.responses.retrieve, eve.responses.delete, eve.responses.cancel):
                    with pytest.raises(openai.NotFoundError):
                        ask(name)
                with pytest.raises(openai.NotFoundError):
                    eve.responses.input_items.list(name)
                with pytest.raises(openai.BadRequestError):
                    eve.responses.create(model=model, input="go on", previous_response_id=name)
        assert len(provider.seen(native_model)) == 1


def test_a_provider_that_keeps_responses_is_asked_for_its_own(keeper: Gateway, provider: FakeProvider) -> None:
    model, there = f"native-{secrets.token_hex(6)}", f"resp_{secrets.token_hex(12)}"
    provider.script(model, Script(body=json.dumps(native(there)).encode()))
    provider.script(f"GET /responses/{there}", Script(body=json.dumps(native(there)).encode()))
    listed = {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
    provider.script(f"GET /responses/{there}/input_items", Script(body=json.dumps(listed).encode()))
    provider.script(f"DELETE /responses/{there}", Script(body=json.dumps({"id": there, "deleted": True}).encode()))
    before = settled_rows(keeper)
    with client(keeper) as ada:
        first = ada.responses.create(model=model, input="hi")
        assert there not in first.id
        second = ada.responses.create(model=model, input="on", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        assert sent(provider, model)[1]["previous_response_id"] == there
        assert ada.responses.retrieve(first.id).id == first.id
        assert list(ada.responses.input_items.list(first.id)) == []
        ada.responses.delete(first.id)
    assert rows(keeper.data_dir) == before, "nothing of it is kept here"


def native(id_: str) -> dict[str, Any]:
    """A provider's own response."""
    text = {"type": "output_text", "text": "hello", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    tokens = Tokens()
    return {
        "id": id_, "object": "response", "created_at": 1, "status": "completed", "model": "m", "output": [message],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {
            "input_tokens": tokens.prompt, "output_tokens": tokens.completion, "total_tokens": 15,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }  # fmt: skip


def settled_rows(gateway: Gateway) -> int:
    """How many there are once what was to be written is."""
    seen = [-1]

    def unchanged() -> bool:
        seen.append(rows(gateway.data_dir))
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    eventually(unchanged)
    return seen[-1]


def rows(data_dir: Any) -> int:
    """How many responses the database holds."""
    database = sqlite3.connect(f"file:{data_dir}/ostiary.db?mode=ro", uri=True)
    try:
        return int(database.execute("SELECT count(*) FROM responses").fetchone()[0])
    finally:
        database.close()
