"""The calls themselves: who is trusted, which way they go, and that nothing of it is loaded before it is needed."""

from __future__ import annotations

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kms_kit import CONTEXT, ROOT, FakeAws, Server, certified, serving

from ostiary.vault.kms.configured import wrapper_from
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceUnreachable
from ostiary.vault.kms.root import KmsRoot, canonical
from ostiary.vault.wrapper import RootSeal

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def fake() -> FakeAws:
    return FakeAws(ARN)


@pytest.fixture
def tls(fake: FakeAws, tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    context, trust = certified(tmp_path)
    with serving(fake, context) as server:
        yield server, trust


async def test_a_service_with_an_unknown_certificate_gets_nothing(
    fake: FakeAws, tls: tuple[Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, trust = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(trust))  # decides nothing
    with pytest.raises(KeyServiceUnreachable) as raised:
        await wrapper_from(f"aws-kms://{ARN}", fake.environment(server.url)).wrap(ROOT, CONTEXT)
    assert "not trusted" in raised.value.public
    assert "OSTIARY_KMS_CA_FILE" in raised.value.public
    assert server.asked == []


async def test_a_private_authority_is_named_in_the_environment(fake: FakeAws, tls: tuple[Server, Path]) -> None:
    server, trust = tls
    root = wrapper_from(f"aws-kms://{ARN}", {**fake.environment(server.url), "OSTIARY_KMS_CA_FILE": str(trust)})
    assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT


async def test_a_certificate_for_another_name_gets_nothing(fake: FakeAws, tls: tuple[Server, Path]) -> None:
    server, trust = tls
    url = server.url.replace("127.0.0.1", "localhost")
    root = wrapper_from(f"aws-kms://{ARN}", {**fake.environment(url), "OSTIARY_KMS_CA_FILE": str(trust)})
    with pytest.raises(KeyServiceUnreachable):
        await root.wrap(ROOT, CONTEXT)
    assert server.asked == []


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("nothing", "it holds no certificate")])
async def test_a_trust_file_of_no_use_is_named(fake: FakeAws, tmp_path: Path, content: str | None, why: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    root = wrapper_from(f"aws-kms://{ARN}", {**fake.environment(NOWHERE), "OSTIARY_KMS_CA_FILE": str(file)})
    with pytest.raises(KeyServiceMisnamed) as raised:
        await root.wrap(ROOT, CONTEXT)
    assert f"{file} for the key service cannot be used: {why}" in raised.value.public


async def test_proxies_of_the_environment_are_not_obeyed(fake: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    with serving(fake) as server:
        root = wrapper_from(f"aws-kms://{ARN}", fake.environment(server.url))
        assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT


class Tunnel(socketserver.ThreadingTCPServer):
    """A forward proxy that says where it was asked to go, and keeps what it saw."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        self.target = target
        self.heads: list[bytes] = []
        self.seen = bytearray()
        super().__init__(("127.0.0.1", 0), _Tunnelled)


class _Tunnelled(socketserver.BaseRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        import socket

        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4096)
        self.server.heads.append(head)
        with socket.create_connection(("127.0.0.1", self.server.target)) as far:
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(far, self.request), daemon=True)
            back.start()
            self._pump(self.request, far)
            far.shutdown(socket.SHUT_WR)
            back.join()

    def _pump(self, source: object, sink: object) -> None:
        while chunk := source.recv(65536):  # type: ignore[attr-defined]
            self.server.seen += chunk
            sink.sendall(chunk)  # type: ignore[attr-defined]


async def test_a_proxy_that_is_asked_for_sees_a_tunnel_only(fake: FakeAws, tls: tuple[Server, Path]) -> None:
    server, trust = tls
    with Tunnel(server.port) as tunnel:
        thread = threading.Thread(target=tunnel.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        proxy = f"http://127.0.0.1:{tunnel.server_address[1]}"
        own = {"OSTIARY_KMS_CA_FILE": str(trust), "OSTIARY_KMS_PROXY": proxy}
        root = wrapper_from(f"aws-kms://{ARN}", {**fake.environment(server.url), **own})
        assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT
        tunnel.shutdown()
        thread.join()
    assert {head.split()[0] + b" " + head.split()[1] for head in tunnel.heads} == {
        b"CONNECT 127.0.0.1:%d" % server.port
    }
    assert len(tunnel.seen) > 1000
    assert b"AKIDEXAMPLE" not in b"".join(tunnel.heads) + tunnel.seen


async def test_what_goes_to_this_machine_goes_round_the_proxy(fake: FakeAws) -> None:
    with serving(fake) as server:
        root = wrapper_from(f"aws-kms://{ARN}", {**fake.environment(server.url), "OSTIARY_KMS_PROXY": NOWHERE})
        assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT


@pytest.mark.parametrize(
    "proxy", ["proxy.example:3128", "socks5://proxy.example", "http://u:p@proxy.example", "http://"]
)
def test_a_proxy_of_another_form_is_refused(fake: FakeAws, proxy: str) -> None:
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(f"aws-kms://{ARN}", {**fake.environment(NOWHERE), "OSTIARY_KMS_PROXY": proxy})
    assert "OSTIARY_KMS_PROXY" in raised.value.public
    assert "u:p" not in raised.value.public


@pytest.mark.parametrize("uri", ["", "aws-kms", "awskms:arn", "file:///etc/key", "https://kms.example", "AWS-KMS://x"])
def test_a_uri_of_no_service_is_refused_with_a_list_of_those_there_are(uri: str) -> None:
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(uri, {})
    expected = "OSTIARY_KMS must begin with aws-kms://, transit://, gcp-kms:// or azure-kv://"
    assert raised.value.public == expected


def test_it_is_a_wrapper_of_the_port(fake: FakeAws) -> None:
    root: RootSeal = wrapper_from(f"aws-kms://{ARN}", fake.environment(NOWHERE))
    assert isinstance(root, KmsRoot)
    assert repr(root) == f"KmsRoot(kind=aws-kms, id={ARN})"


def test_no_two_contexts_have_one_form() -> None:
    contexts = [{}, {"a": ""}, {"": "a"}, {"a": "b"}, {"ab": ""}, {"a": "b", "c": "d"}, {"a": "bc", "d": ""}]
    assert len({canonical(context) for context in contexts}) == len(contexts)


def test_naming_a_service_loads_no_client() -> None:
    code = (
        "import sys; from ostiary.vault.kms.configured import wrapper_from;"
        "wrapper_from('transit://t/k', {'BAO_ADDR': 'https://h', 'BAO_TOKEN': 't'});"
        "sys.exit('httpx2' in sys.modules or 'anyio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
