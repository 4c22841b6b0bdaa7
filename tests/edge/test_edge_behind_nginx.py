"""NET-16 behind a real nginx: whatever it lets pass, one request of a client is one request of the edge."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.raw import App, Doorman, EdgeServer, RawClient, request
from edge.smuggling import CORPUS

CONFIGURATION = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  upstream edge {{ server 127.0.0.1:{edge}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://edge;
      proxy_http_version {version};
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Via nginx;
      proxy_request_buffering {buffering};
      proxy_buffering off;
    }}
  }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(params=[("1.1", "off"), ("1.1", "on"), ("1.0", "on")], ids=["streaming", "buffering", "http-1.0"])
async def nginx(request: pytest.FixtureRequest, server: EdgeServer, tmp_path: Path) -> AsyncIterator[int]:
    """nginx in front of the edge; its port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/bin")
    if program is None:
        pytest.skip("nginx is not installed: there is no wheel of it, and CI, which has it, lets no test be skipped")
    version, buffering = request.param
    port = free_port()
    (tmp_path / "nginx.conf").write_text(
        CONFIGURATION.format(home=tmp_path, edge=server.port, port=port, version=version, buffering=buffering)
    )
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")
    )
    try:
        for _ in range(500):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                break
        yield port
    finally:
        process.terminate()
        await process.wait()


async def connect(port: int) -> RawClient:
    return RawClient(*await asyncio.open_connection("127.0.0.1", port))


async def test_net_16_the_corpus_poisons_nobody_behind_nginx(
    nginx: int, server: EdgeServer, door: Doorman, app: App
) -> None:
    """nginx serves attacker and victim over the same connection to the edge: a hidden answer would be the victim's."""
    refused = 0
    for name, attack in CORPUS.items():
        attacker = await connect(nginx)
        await attacker.send(attack)
        received = b""
        with contextlib.suppress(TimeoutError):  # nginx may serve on, or wait for more of a request it reads otherwise
            received = await asyncio.wait_for(attacker.rest(), 0.1)
        await attacker.close()
        refused += b" 400 " in received[:40]
        victim = await connect(nginx)
        await victim.send(request(body=name.encode()))
        answer = await victim.answer()
        assert (answer.status, answer.body) == (200, name.encode()), name
        await victim.close()
    assert refused > len(CORPUS) / 2
    # Every request that the edge made out of the bytes is one that nginx had made out of them before.
    assert all((b"x-via", b"nginx") in seen.headers for seen in [*door.seen, *app.seen])


async def test_honest_requests_pass_through_nginx(nginx: int) -> None:
    client = await connect(nginx)
    for path in ("/v1/echo", "/app"):
        await client.send(request(path, b"x" * 100_000))
        assert (await client.answer()).body == b"x" * 100_000
        await client.send(
            b"POST "
            + path.encode()
            + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert (await client.answer()).body == b"abc"
    await client.close()
