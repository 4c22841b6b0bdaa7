"""Google Cloud KMS and Azure Key Vault against fakes written from their public documentation, and only those."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kms_kit import CONTEXT, OTHERS, ROOT, FakeAzure, FakeGoogle, Server, Told, serving, told

from ostiary.core.fault import Kind, Retry
from ostiary.vault.kms.azure import AzureKeyVault
from ostiary.vault.kms.client import Client
from ostiary.vault.kms.configured import wrapper_from
from ostiary.vault.kms.faults import KeyServiceMisnamed, KeyServiceRefused, KeyServiceUnreachable, WrongKey
from ostiary.vault.kms.google import GoogleKms
from ostiary.vault.kms.root import KmsRoot

NAME = "projects/my-project/locations/europe-west3/keyRings/gate/cryptoKeys/root"
PATH = "gate.vault.azure.net/keys/root"


@pytest.fixture(scope="module")
def google() -> FakeGoogle:
    return FakeGoogle(NAME)


@pytest.fixture
def at_google(google: FakeGoogle) -> Iterator[Server]:
    google.vessel.state = "Enabled"
    with serving(google) as server:
        yield server


@pytest.fixture
def google_environment(google: FakeGoogle, at_google: Server, tmp_path: Path) -> dict[str, str]:
    return {
        "GOOGLE_APPLICATION_CREDENTIALS": str(google.account(tmp_path)),
        "OSTIARY_KMS_ENDPOINT": at_google.url,
        "OSTIARY_KMS_TOKEN_URL": f"{at_google.url}/token",
    }


@pytest.fixture
def google_root(google_environment: dict[str, str]) -> KmsRoot:
    return wrapper_from(f"gcp-kms://{NAME}", google_environment)


@pytest.fixture(scope="module")
def azure() -> FakeAzure:
    return FakeAzure("root")


@pytest.fixture
def at_azure(azure: FakeAzure) -> Iterator[Server]:
    azure.state = "Enabled"
    with serving(azure) as server:
        yield server


@pytest.fixture
def azure_environment(at_azure: Server) -> dict[str, str]:
    return {
        "AZURE_TENANT_ID": "11112222-aaaa-4444-8888-111122223333",
        "AZURE_CLIENT_ID": "99992222-aaaa-4444-8888-111122223333",
        "AZURE_CLIENT_SECRET": "secret-of-the-tests",
        "AZURE_AUTHORITY_HOST": at_azure.url,
        "OSTIARY_KMS_ENDPOINT": at_azure.url,
    }


@pytest.fixture
def azure_root(azure_environment: dict[str, str]) -> KmsRoot:
    return wrapper_from(f"azure-kv://{PATH}", azure_environment)


@pytest.fixture(params=["google", "azure"])
def side(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(side: str, request: pytest.FixtureRequest) -> KmsRoot:
    return request.getfixturevalue(f"{side}_root")


@pytest.fixture
def server(side: str, request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(f"at_{side}")


async def test_a_root_comes_back(root: KmsRoot) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    assert ROOT not in wrapped
    assert await root.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == ROOT


@pytest.mark.attack("CRY-02")
async def test_cry_02_a_root_of_another_context_is_refused(root: KmsRoot) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    for other in OTHERS:
        with pytest.raises(WrongKey):
            await root.unwrap(wrapped, other)


async def test_a_damaged_root_is_refused(root: KmsRoot) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    for place in {*range(12), len(wrapped) // 2, len(wrapped) - 1}:
        broken = bytes(byte ^ (place == at) for at, byte in enumerate(wrapped))
        with pytest.raises(WrongKey):
            await root.unwrap(broken, CONTEXT)
    with pytest.raises(WrongKey):
        await root.unwrap(wrapped[:-1], CONTEXT)


@pytest.mark.attack("AVL-06")
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_avl_06_what_may_pass_is_said_to_be_tried_again(root: KmsRoot, server: Server, status: int) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    server.instead = Told(status, b"LEAK-OF-THE-SERVICE")
    for attempt in (root.unwrap(wrapped, CONTEXT), root.wrap(ROOT, CONTEXT)):
        with pytest.raises(KeyServiceUnreachable) as raised:
            await attempt
        assert (raised.value.kind, raised.value.retry) == (Kind.UNAVAILABLE, Retry.SAME)
        assert "LEAK" not in raised.value.public


@pytest.mark.attack("AVL-06")
@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "accepted"), (403, "access is denied"), (404, "does not exist"), (409, "409")]
)
async def test_avl_06_a_denial_names_key_and_remedy(root: KmsRoot, server: Server, status: int, remedy: str) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    server.instead = told(status, {"error": {"code": status, "message": "LEAK-OF-THE-SERVICE"}})
    with pytest.raises(KeyServiceRefused) as raised:
        await root.unwrap(wrapped, CONTEXT)
    assert root.id in raised.value.public
    assert remedy in raised.value.public
    assert "LEAK" not in raised.value.public


@pytest.mark.parametrize("body", [b"", b"[]", b'{"ciphertext": 7}', b'{"value": "!", "kid": ""}', b"\xff"])
async def test_an_answer_that_cannot_be_read_gives_no_root(root: KmsRoot, server: Server, body: bytes) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)  # a token is there from now on
    server.instead = Told(200, body)
    with pytest.raises((KeyServiceUnreachable, WrongKey)):
        await root.unwrap(wrapped, CONTEXT)
    with pytest.raises((KeyServiceUnreachable, KeyServiceRefused, WrongKey)):
        await root.wrap(ROOT, CONTEXT)


async def test_one_token_serves_until_shortly_before_its_end(root: KmsRoot, server: Server) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    await root.unwrap(wrapped, CONTEXT)
    assert sum("token" in asked.path for asked in server.asked) == 1


async def test_a_token_that_was_refused_is_not_used_again(root: KmsRoot, server: Server) -> None:
    wrapped = await root.wrap(ROOT, CONTEXT)
    server.instead = Told(401, b"{}")
    with pytest.raises(KeyServiceRefused):
        await root.unwrap(wrapped, CONTEXT)
    server.instead = None
    assert await root.unwrap(wrapped, CONTEXT) == ROOT
    assert sum("token" in asked.path for asked in server.asked) == 2


async def test_google_gets_an_assertion_signed_for_ten_minutes(
    google: FakeGoogle, google_environment: dict[str, str], at_google: Server
) -> None:
    service = GoogleKms(NAME, google_environment, Client(), now=lambda: 1_700_000_000.9)
    await KmsRoot(service).wrap(ROOT, CONTEXT)
    assert google.claims == {
        "alg": "RS256",
        "typ": "JWT",
        "kid": "k1",
        "iss": "gate@p.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloudkms",
        "aud": f"{at_google.url}/token",
        "iat": 1_700_000_000,
        "exp": 1_700_000_600,
        "grant": "urn:ietf:params:oauth:grant-type:jwt-bearer",
    }


def test_google_is_asked_at_its_own_hosts_whatever_the_key_file_says(google: FakeGoogle, tmp_path: Path) -> None:
    service = GoogleKms(NAME, {"GOOGLE_APPLICATION_CREDENTIALS": str(google.account(tmp_path))}, Client())
    assert (service.where, service._bearer._where) == ("cloudkms.googleapis.com", "oauth2.googleapis.com")


async def test_a_machine_of_google_gives_its_own_token(google: FakeGoogle, at_google: Server) -> None:
    host = at_google.url.removeprefix("http://")
    root = wrapper_from(f"gcp-kms://{NAME}", {"GCE_METADATA_HOST": host, "OSTIARY_KMS_ENDPOINT": at_google.url})
    assert await root.unwrap(await root.wrap(ROOT, CONTEXT), CONTEXT) == ROOT
    paths = [asked.path for asked in at_google.asked if asked.method == "GET"]
    assert paths == ["/computeMetadata/v1/instance/service-accounts/default/token"]


async def test_what_is_no_metadata_service_is_not_believed(google: FakeGoogle, at_google: Server) -> None:
    impostor = told(200, {"access_token": google.token, "expires_in": 3599})
    with serving(lambda _: impostor) as server:
        host = server.url.removeprefix("http://")
        root = wrapper_from(f"gcp-kms://{NAME}", {"GCE_METADATA_HOST": host, "OSTIARY_KMS_ENDPOINT": at_google.url})
        with pytest.raises(KeyServiceUnreachable) as raised:
            await root.wrap(ROOT, CONTEXT)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in raised.value.public
    assert at_google.asked == []


@pytest.mark.attack("AVL-06")
@pytest.mark.parametrize("state", ["DISABLED", "DESTROY_SCHEDULED"])
async def test_avl_06_a_version_of_google_that_may_not_be_used_is_a_refusal(
    google: FakeGoogle, google_root: KmsRoot, state: str
) -> None:
    wrapped = await google_root.wrap(ROOT, CONTEXT)
    google.vessel.state = state
    with pytest.raises(KeyServiceRefused) as raised:
        await google_root.unwrap(wrapped, CONTEXT)
    assert f"{NAME}: its version is disabled or to be destroyed; enable or restore it" in raised.value.public


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"type": "external_account"}', "no JSON key file of a service account"),
        ('{"type": "service_account", "client_email": "a", "private_key": "KEY-IN-THE-FILE"}', "no JSON key file"),
        ("not JSON", "no JSON key file"),
        (None, "cannot be read"),
    ],
)
def test_a_key_file_of_no_use_is_named_and_not_shown(tmp_path: Path, content: str | None, named: str) -> None:
    file = tmp_path / "account.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(f"gcp-kms://{NAME}", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert str(file) in raised.value.public
    assert named in raised.value.public
    assert "KEY-IN-THE-FILE" not in raised.value.public


async def test_azure_wraps_by_the_newest_version_and_unwraps_by_the_one_that_wrapped(
    azure: FakeAzure, azure_root: KmsRoot
) -> None:
    old = await azure_root.wrap(ROOT, CONTEXT)
    azure.rotate()
    assert await azure_root.unwrap(old, CONTEXT) == ROOT
    new = await azure_root.rewrap(old, CONTEXT)
    first, second = list(azure.versions)[-2:]
    assert (first.encode() in old, second.encode() in new) == (True, True)
    assert await azure_root.unwrap(new, CONTEXT) == ROOT


@pytest.mark.attack("AVL-06")
async def test_avl_06_azure_wraps_by_a_disabled_key_and_we_notice_while_there_is_a_root(
    azure: FakeAzure, azure_root: KmsRoot, at_azure: Server
) -> None:
    azure.state = "Disabled"
    with pytest.raises(KeyServiceRefused) as raised:
        await azure_root.wrap(ROOT, CONTEXT)
    assert f"{PATH}: it is disabled; enable it" in raised.value.public
    assert [asked.path.partition("?")[0].rpartition("/")[2] for asked in at_azure.asked][-2:] == [
        "wrapkey",
        "unwrapkey",
    ]


async def test_azure_is_asked_for_a_token_of_the_vaults_own_cloud(
    azure: FakeAzure, azure_environment: dict[str, str]
) -> None:
    for path in (PATH, PATH.replace(".net", ".cn"), PATH.replace("vault.azure.net", "managedhsm.azure.net")):
        await KmsRoot(AzureKeyVault(path, azure_environment, Client())).wrap(ROOT, CONTEXT)
    assert [form["scope"] for form in azure.forms[-3:]] == [
        ["https://vault.azure.net/.default"],
        ["https://vault.azure.cn/.default"],
        ["https://managedhsm.azure.net/.default"],
    ]


async def test_azure_credentials_that_are_not_accepted_are_named_and_not_shown(
    azure_environment: dict[str, str],
) -> None:
    root = wrapper_from(f"azure-kv://{PATH}", {**azure_environment, "AZURE_CLIENT_SECRET": "another-secret"})
    with pytest.raises(KeyServiceMisnamed) as raised:
        await root.wrap(ROOT, CONTEXT)
    assert "AZURE_CLIENT_SECRET" in raised.value.public
    assert "another-secret" not in f"{raised.value.public} {raised.value!r} {root!r}"
    assert "LEAK" not in raised.value.public


@pytest.mark.parametrize(
    "uri",
    [
        "gcp-kms://projects/p/locations/l/keyRings/r",
        f"gcp-kms://{NAME}/cryptoKeyVersions/1",
        f"gcp-kms://{NAME}:decrypt?x=",
        f"gcp-kms://evil.example/{NAME}",
        "azure-kv://gate.vault.azure.net.evil.example/keys/root",
        "azure-kv://evil.example/keys/root",
        "azure-kv://x@gate.vault.azure.net/keys/root",
        "azure-kv://gate.vault.azure.net/secrets/root",
        "azure-kv://gate.vault.azure.net/keys/root/0698c2156c1a4e1da5b6bab6f6422fd6",
        "azure-kv://gate.vault.azure.net/keys/../x",
    ],
)
def test_a_uri_of_another_form_is_refused(uri: str, azure_environment: dict[str, str]) -> None:
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(uri, azure_environment)
    assert "OSTIARY_KMS has the form" in raised.value.public


@pytest.mark.parametrize("name", ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"])
def test_missing_credentials_of_azure_are_named(azure_environment: dict[str, str], name: str) -> None:
    with pytest.raises(KeyServiceMisnamed) as raised:
        wrapper_from(f"azure-kv://{PATH}", {**azure_environment, name: ""})
    assert name in raised.value.public
