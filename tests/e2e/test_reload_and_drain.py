"""A running gateway takes a new configuration whole or not at all, and ends without breaking answers off."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, request
from ostiary.testing.script import Script


@pytest.fixture(scope="module")
def reloading(provider: FakeProvider) -> Iterator[Gateway]:
    with running_gateway(configuration(deployment("first", provider.url))) as gateway:
        yield gateway


def names(gateway: Gateway) -> set[str]:
    return {one["id"] for one in gateway.admin("GET", "/v1/models")["data"]}


def test_a_changed_file_is_put_in_force(reloading: Gateway, provider: FakeProvider) -> None:
    reloading.configure(configuration(deployment("second", provider.url)))
    eventually(lambda: names(reloading) == {"second"}, 10)


def test_hang_up_reads_the_file_again(reloading: Gateway, provider: FakeProvider) -> None:
    reloading.configure(configuration(deployment("third", provider.url)))
    reloading.hang_up()
    eventually(lambda: names(reloading) == {"third"}, 5)


@pytest.mark.parametrize("bad", ["model_list: [", "model_list: 7\n", "router_settings: {num_retries: lots}\n"])
def test_a_bad_file_keeps_the_running_configuration_and_says_where(
    reloading: Gateway, provider: FakeProvider, bad: str
) -> None:
    reloading.configure(configuration(deployment("good", provider.url)))
    reloading.hang_up()
    eventually(lambda: names(reloading) == {"good"}, 5)
    mark = reloading.lines()
    reloading.configure(bad)
    reloading.hang_up()
    reloading.wait_for(r"config\.yaml", after=mark)
    assert names(reloading) == {"good"}
    assert reloading.process.poll() is None
    assert "Traceback" not in reloading.output


async def test_a_reload_does_not_break_running_streams(reloading: Gateway, provider: FakeProvider) -> None:
    reloading.configure(configuration(deployment("stays", provider.url)))
    reloading.hang_up()
    eventually(lambda: names(reloading) == {"stays"}, 5)
    provider.script("stays", Script(hold=2))
    async with RawConnection(reloading.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat("stays", stream=True), key=reloading.admin_key))
        await link.receive(until=2)
        reloading.configure(configuration(deployment("gone-now", provider.url)))
        reloading.hang_up()
        eventually(lambda: names(reloading) == {"gone-now"}, 5)
        provider.release("stays")
        answer = await link.receive()
    assert answer.complete
    assert answer.events()[-1] == "[DONE]"


async def test_sigterm_lets_streams_finish_and_takes_no_new_ones(provider: FakeProvider) -> None:
    provider.script("draining", Script(hold=2))
    config = configuration(deployment("draining", provider.url), ostiary={"drain_seconds": 10})
    with running_gateway(config) as gateway:
        async with RawConnection(gateway.url) as link:
            body = chat("draining", stream=True)
            await link.send(request("POST", "/v1/chat/completions", body, key=gateway.admin_key))
            await link.receive(until=2)
            gateway.terminate()
            eventually(lambda: not _ready(gateway), 5)
            provider.release("draining")
            answer = await link.receive()
        assert answer.complete
        assert answer.events()[-1] == "[DONE]"
        assert gateway.wait() == 0


def _ready(gateway: Gateway) -> bool:
    try:
        return gateway.call("GET", "/health/readiness")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


async def test_streams_that_outlast_the_drain_are_cut_and_recorded(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script("endless", Script(hold=2))
    config = configuration(deployment("endless", provider.url), ostiary={"drain_seconds": 0.5})
    with running_gateway(config, data_dir=tmp_path / "data") as gateway:
        async with RawConnection(gateway.url) as link:
            body = chat("endless", stream=True)
            await link.send(request("POST", "/v1/chat/completions", body, key=gateway.admin_key))
            await link.receive(until=2)
            gateway.terminate()
            answer = await link.receive()
        assert "[DONE]" not in answer.events()
        assert gateway.wait() == 0
    with running_gateway(config, data_dir=tmp_path / "data") as gateway:
        (row,) = eventually(gateway.records)
        assert row["metadata"]["outcome"] != "open"
        assert row["spend"] > 0


def test_it_ends_at_once_when_idle_and_frees_its_port(provider: FakeProvider) -> None:
    with running_gateway(configuration(deployment("m", provider.url))) as gateway:
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(5) == 0
        with socket.socket() as probe:
            assert probe.connect_ex((gateway.host, gateway.port)) != 0
