"""NET-20, NET-21, NET-23: what is routed is what was asked for, and nobody else may read it otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.raw import App, Doorman, EdgeServer, request
from ostiary.core.fault import Fault
from ostiary.gateway.edge_rules import EdgeLimits, canonical_path, check_host, read_head

T = TypeVar("T")

CROOKED = [
    b"/v1/..%2f..%2fadmin",
    b"/v1/../admin",
    b"/v1/./echo",
    b"/v1/..",
    b"/v1/.",
    b"/./v1/echo",
    b"/v1/%2e%2e/admin",
    b"/v1/.%2e/admin",
    b"/v1/%2E/echo",
    b"/v1/%252e%252e/admin",
    b"/v1/%25%32%65/admin",
    b"/v1/100%25",
    b"//admin",
    b"/v1//echo",
    b"/v1/echo//",
    b"/v1/echo;x",
    b"/v1/echo;jsessionid=1",
    b"/v1/echo%3bx",
    b"/v1\\echo",
    b"/v1/..\\admin",
    b"/v1/%5cecho",
    b"/v1/echo%00",
    b"/v1/echo%0d%0aX:%20y",
    b"/v1/echo%09",
    b"/v1/echo%20",
    b"/v1/echo%7f",
    b"/v1/echo%c2%85",
    b"/v1/echo%3fa=b",
    b"/v1/echo%23a",
    b"/v1/%c0%ae%c0%ae/admin",  # overlong UTF-8
    b"/v1/%e0%80%af",
    b"/v1/%ff",
    b"/v1/%ed%a0%80",  # a surrogate
    b"/v1/%",
    b"/v1/%4",
    b"/v1/%zz",
    b"/v1/%u002e",
    b"/v1%2fecho",
    b"/v1/files/a%2Fb/content",
    b"/%2fv1/echo",
    b"/static/..%2f..%2fetc/passwd",
    b"/v1/models/..%2f..%2fadmin",
    b"/v1/models/%2e%2e%2fadmin",
    b"/v1/models/a%2f..%2fb",
    b"/v1/models/a%2f%2fb",
    b"/v1/models/a%252fb",
    b"/v1/models/%2f",
    b"/v1/echo#a",
    b"/v1/echo?a#b",
    b"/v1/echo?a=\xc3\xa9",
    b"/v1/\xc3\xa9cho",
    b"http://gateway.test/v1/echo",
    b"https://other.test/v1/echo",
    b"gateway.test:80",
    b"*",
    b"v1/echo",
    b"?a=b",
]


async def test_net_20_a_path_that_can_be_read_twice_is_refused(server: EdgeServer, door: Doorman, app: App) -> None:
    answers = {}
    for target in CROOKED:
        answers[target] = await server.exchange(b"GET " + target + b" HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    assert {t: a for t, a in answers.items() if not a.startswith(b"HTTP/1.1 400 ") or a.count(b"HTTP/1.") != 1} == {}
    assert not door.seen
    assert not app.seen


async def test_net_20_the_case_of_a_path_is_kept(server: EdgeServer, door: Doorman, app: App) -> None:
    client = await server.connect()
    await client.send(request("/V1/echo"))
    await client.answer()
    assert (len(door.seen), app.seen[0].path) == (0, "/V1/echo")
    await client.close()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/%65cho", "/v1/echo"),
        ("/v1/models/meta-llama%2FLlama-3.1:free", "/v1/models/meta-llama/Llama-3.1:free"),
        ("/v1/models/mod%C3%A8le%20x".replace("%20", "-"), "/v1/models/modèle-x"),
        ("/v1/models/a+b@c,d(e)!", "/v1/models/a+b@c,d(e)!"),
    ],
)
async def test_net_20_an_honest_path_is_decoded_once(target: str, path: str, server: EdgeServer, door: Doorman) -> None:
    client = await server.connect()
    await client.send(request(target))
    assert (await client.answer()).status == 200
    assert door.seen[0].path == path
    await client.close()


async def test_net_20_an_escaped_slash_never_reaches_the_application(server: EdgeServer, app: App) -> None:
    for target in ("/engines/a%2fb/nothing", "/openai/deployments/a%2Fb", "/models/a%2fb"):
        assert (await server.exchange(request(target))).startswith(b"HTTP/1.1 400 ")
    assert not app.seen


async def test_net_20_the_application_gets_the_decoded_path_and_its_root(door: Doorman, app: App) -> None:
    async with EdgeServer(door, app, EdgeLimits(), root_path="/gate").running() as server:
        client = await server.connect()
        await client.send(request("/%61pp?x=%20"))
        await client.answer()
        assert (app.seen[0].path, app.seen[0].query) == ("/gate/app", b"x=%20")
        await client.close()


async def test_net_21_the_query_is_handed_on_as_it_came(server: EdgeServer, door: Doorman) -> None:
    client = await server.connect()
    await client.send(request("/v1/echo?model=a&model=b&a[]=1&%61=2?"))
    await client.answer()
    assert door.seen[0].query == b"model=a&model=b&a[]=1&%61=2?"
    await client.close()


BAD_HOSTS = [
    b"",
    b"Host: \r\n",
    b"Host: a\r\nHost: a\r\n",
    b"Host: a\r\nhost: b\r\n",
    b"Host: x/#@y\r\n",
    b"Host: a/b\r\n",
    b"Host: a?b\r\n",
    b"Host: a#b\r\n",
    b"Host: user@a\r\n",
    b"Host: a\\b\r\n",
    b"Host: a b\r\n",
    b"Host: a,b\r\n",
    b"Host: a:port\r\n",
    b"Host: a:\r\n",
    b"Host: a:1:2\r\n",
    b"Host: a:123456\r\n",
    b"Host: ::1\r\n",
    b"Host: [::1\r\n",
    b"Host: [::1]x\r\n",
    b"Host: [v1.x]\r\n",
    b"Host: a\xe9\r\n",
    b"Host: a%00\r\n",
    b"Host_: a\r\n",
]


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("path", [b"/v1/echo", b"/app"])
async def test_net_23_there_is_one_host_and_it_is_a_host(
    version: bytes, path: bytes, server: EdgeServer, door: Doorman, app: App
) -> None:
    answers = {h: await server.exchange(b"GET %b HTTP/%b\r\n%b\r\n" % (path, version, h)) for h in BAD_HOSTS}
    assert {host: answer for host, answer in answers.items() if not answer.startswith(b"HTTP/1.1 400 ")} == {}
    assert not door.seen
    assert not app.seen


@pytest.mark.parametrize(
    "host", [b"localhost", b"127.0.0.1:4000", b"[::1]:4000", b"[fe80::1]", b"my_gateway.Example", b"a."]
)
def test_net_23_honest_hosts_pass(host: bytes) -> None:
    check_host(host, frozenset())


def test_net_23_an_allow_list_of_hosts_refuses_every_other_name() -> None:
    allowed = frozenset({"gateway.test", "[::1]"})
    for host in (b"Gateway.Test:4000", b"gateway.test", b"[::1]:4000", b"[::1]"):
        check_host(host, allowed)
    for host in (b"localhost", b"other.test", b"gateway.test.evil.test", b"127.0.0.1", b"[::2]"):
        with pytest.raises(Fault) as caught:
            check_host(host, allowed)
        assert caught.value.status == 421


async def test_net_23_other_names_for_the_host_steer_nothing(server: EdgeServer, door: Doorman) -> None:
    client = await server.connect()
    lies = (
        b"X-Forwarded-Host: e.test\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX_Forwarded_Host: e.test\r\n"
    )
    await client.send(request(headers=lies))
    assert (await client.answer()).status == 200
    assert door.seen[0].path == "/v1/echo"
    assert not [name for name, _ in door.seen[0].headers if b"_" in name]
    await client.close()


def judged(rule: Callable[[], T]) -> tuple[T | None, int]:
    """What a rule gives, or the status it refuses with. Nothing but a Fault may be raised."""
    try:
        return rule(), 0
    except Fault as fault:
        return None, fault.status


@given(st.binary(max_size=60).map(lambda tail: b"/" + tail))
@example(b"/%2e%2e")
def test_net_20_law_a_canonical_path_stays_what_it_is(raw: bytes) -> None:
    path, status = judged(lambda: canonical_path(raw))
    if path is None:
        assert status == 400
        return
    assert path.startswith("/")
    assert not {".", ".."} & set(path.split("/"))
    assert not set(path) & set("%\\;?#\x00\r\n")
    if path.isascii() and " " not in path:
        assert canonical_path(path.encode()) == path


@given(st.binary(max_size=200))
def test_net_16_law_any_bytes_are_a_head_or_a_fault(noise: bytes) -> None:
    for block in (noise + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + noise + b"\r\n\r\n"):
        head, status = judged(lambda block=block: read_head(block, EdgeLimits()))
        assert status in (400, 405, 414, 417, 431) if head is None else head.length >= -1
