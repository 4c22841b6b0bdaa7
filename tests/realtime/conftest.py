"""One provider for each test, and one gateway in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from talk_kit import PRICES, RealtimeProvider

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway


@pytest.fixture
async def talker() -> AsyncIterator[RealtimeProvider]:
    async with RealtimeProvider().running() as provider:
        yield provider


@pytest.fixture
def own_settings() -> dict[str, Any]:
    """Overridden by tests that need others."""
    return {}


@pytest.fixture
async def door(talker: RealtimeProvider, own_settings: dict[str, Any]) -> AsyncIterator[Gateway]:
    """A gateway with a realtime model (`talk`), one without that mode (`chat`) and one for transcriptions."""
    config = configuration(
        deployment("talk", talker.url, model="up-talk", info={"mode": "realtime"}, **PRICES),
        deployment("chat", talker.url),
        deployment("hear", talker.url, model="up-hear", info={"mode": "audio_transcription"}),
        router_settings={"num_retries": 0, "disable_cooldowns": True},
        ostiary={"ledger": {"flush_seconds": 0.05}, "drain_seconds": 10, **own_settings},
    )
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, running_gateway(config))
