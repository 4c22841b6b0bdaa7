"""There is no cache of answers, so none can be shared: every request reaches the provider."""

from __future__ import annotations

import pytest

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import fetch


@pytest.mark.attack("AIG-05")
async def test_aig_05_the_same_prompt_of_two_keys_is_asked_twice(
    gateway: Gateway, provider: FakeProvider, model: str
) -> None:
    for key in (gateway.key(), gateway.key(), gateway.key()):
        for stream in (False, True):
            answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, stream=stream), key=key)
            assert answer.status == 200
            assert answer.header("x-litellm-cache-key") is None
    assert len(provider.seen(model)) == 6
