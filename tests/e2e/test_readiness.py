"""The health routes tell the truth, quickly, under load."""

from __future__ import annotations

import asyncio
import time

import pytest

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, fetch
from ostiary.testing.script import Script


@pytest.mark.parametrize("path", ["/health/liveliness", "/health/liveness", "/health/readiness"])
def test_health_needs_no_key_and_tells_no_secret(gateway: Gateway, path: str) -> None:
    status, answer = gateway.call("GET", path)
    assert status == 200
    assert "sk-" not in str(answer)


async def test_probes_are_answered_quickly_at_saturation(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(pieces=20))
    stop = time.monotonic() + 3.0
    waits: list[float] = []

    async def load() -> int:
        count = 0
        async with RawConnection(gateway.url) as link:
            while time.monotonic() < stop:
                answer = await link.ask("POST", "/v1/chat/completions", chat(model, stream=True), key=key)
                assert answer.complete
                count += 1
        return count

    async def probe() -> None:
        while time.monotonic() < stop:
            began = time.monotonic()
            for path in ("/health/liveliness", "/health/readiness"):
                assert (await fetch(gateway.url, "GET", path)).status == 200
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    *counts, _ = await asyncio.gather(*(load() for _ in range(50)), probe())
    assert sum(counts) > 50  # type: ignore[arg-type]
    assert max(waits) < 1.0  # the shortest time-out that probes commonly have


def test_without_any_configuration_the_demo_model_answers() -> None:
    with running_gateway() as gateway:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
        status, answer = gateway.call("POST", "/v1/chat/completions", body, key=gateway.key())
        assert status == 200
        assert answer["choices"][0]["message"]["content"]
        assert (gateway.data_dir.stat().st_mode & 0o777) == 0o700
        secret_files = [p for p in gateway.data_dir.rglob("*") if p.is_file()]
        assert secret_files
        assert all((p.stat().st_mode & 0o077) == 0 for p in secret_files)


def test_an_administrators_key_is_made_and_printed_once_where_none_is_given() -> None:
    with running_gateway(env={"OSTIARY_ADMIN_KEY": ""}) as gateway:
        found = gateway.wait_for(r"(sk-[A-Za-z0-9-]{20,})")
        gateway.admin_key = found[1]
        assert gateway.key().startswith("sk-")
        data = gateway.data_dir
        stored = b"".join(p.read_bytes() for p in data.rglob("*") if p.is_file() and p.suffix != ".sock")
        assert gateway.output.count(found[1]) >= 1
        assert len(stored) > 0
