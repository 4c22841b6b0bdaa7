"""AWS credentials from every place they come from, against services that judge the signature; and where they do not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer
from signing_kit import CANARY, JWT, Asked, FakeSts, HandClock, Service, Told, serving, told

from ostiary.core.identity import AwsIdentity
from ostiary.core.secret import Secret
from ostiary.gateway.signing.aws import AwsSource, static_keys
from ostiary.gateway.signing.tokens import FOREVER, NoToken

LONG = Credentials("AKIALONG", "long secret", None)
ROLE = "arn:aws:iam::111122223333:role/models/caller"


@pytest.fixture
def sts() -> Iterator[tuple[FakeSts, Service]]:
    fake = FakeSts(LONG)
    with serving(fake) as service:
        yield fake, service


def identity(service: Service | None = None, **fields: Any) -> AwsIdentity:
    base = {"region": "eu-central-1", "trusted": True, "sts_endpoint": service.url if service else ""}
    return AwsIdentity(**{**base, **fields})


def keys(**fields: Any) -> dict[str, Any]:
    return {"access_key_id": Secret("AKIALONG"), "secret_access_key": Secret("long secret"), **fields}


def source(one: AwsIdentity) -> AwsSource:
    return AwsSource(one, HandClock())


def test_static_keys_need_no_asking() -> None:
    found = static_keys(identity(**keys(session_token=Secret("token"))))
    assert found is not None
    assert (found.access_key_id, found.session_token) == ("AKIALONG", Secret("token"))
    assert static_keys(identity(**keys(role_arn=ROLE))) is None
    assert static_keys(identity()) is None


async def test_a_role_is_taken_on_with_a_signed_call(sts: tuple[FakeSts, Service]) -> None:
    _, service = sts
    one = identity(service, **keys(role_arn=ROLE, session_name="gate", external_id="ext-1"))
    token = await source(one).fetch()
    assert (token.value.access_key_id, token.value.session_token) == ("ASIA0001", Secret("session/1+="))
    assert abs(token.expires - time.time() - 3600) < 5
    (asked,) = service.asked
    assert (asked.form["RoleArn"], asked.form["RoleSessionName"], asked.form["ExternalId"]) == (ROLE, "gate", "ext-1")
    assert "/eu-central-1/sts/aws4_request" in asked.headers["authorization"]


async def test_a_web_identity_is_read_anew_each_time(sts: tuple[FakeSts, Service], tmp_path: Path) -> None:
    _, service = sts
    file = tmp_path / "token"
    for stated in (str(file), f"oidc/file/{file}"):
        one = identity(service, web_identity=Secret(stated), web_role_arn=ROLE)
        file.write_text("eyJ.old.token")
        with pytest.raises(NoToken) as caught:
            await source(one).fetch()
        assert "InvalidIdentityToken" in caught.value.why
        assert CANARY not in caught.value.why
        file.write_text(f"{JWT}\n")
        assert (await source(one).fetch()).value.access_key_id.startswith("ASIA")


async def test_a_web_identity_given_as_text_and_a_second_role(sts: tuple[FakeSts, Service]) -> None:
    _, service = sts
    one = identity(service, web_identity=Secret(JWT), web_role_arn=ROLE, role_arn=f"{ROLE}-2")
    assert (await source(one).fetch()).value.access_key_id == "ASIA0002"
    assert [asked.form["Action"] for asked in service.asked] == ["AssumeRoleWithWebIdentity", "AssumeRole"]


FILES = """
[default]
region = eu-central-1
[profile chained]
role_arn = arn:aws:iam::111122223333:role/second
source_profile = first
external_id = e
s3 =
  max_concurrent_requests = 5
[profile first]
role_arn = arn:aws:iam::111122223333:role/first
role_session_name = named
source_profile = keys
[profile web]
role_arn = arn:aws:iam::111122223333:role/web
web_identity_token_file = {token}
[profile loop]
role_arn = arn:aws:iam::111122223333:role/x
source_profile = loop
[profile dangling]
role_arn = arn:aws:iam::111122223333:role/x
source_profile = nobody
[profile browser]
sso_session = work
[profile program]
credential_process = /bin/echo {canary}
[profile machine]
role_arn = arn:aws:iam::111122223333:role/x
credential_source = Ec2InstanceMetadata
[profile empty]
region = eu-central-1
"""


def profile(service: Service | None, folder: Path, name: str, **fields: Any) -> AwsIdentity:
    token = folder / "web-token"
    token.write_text(JWT)
    (folder / "config").write_text(FILES.format(token=token, canary=CANARY))
    (folder / "credentials").write_text(
        "[keys]\naws_access_key_id = AKIALONG\naws_secret_access_key = long secret\n"
        "[default]\naws_access_key_id=AKIADEFAULT\naws_secret_access_key=100%sure\naws_session_token=t\n"
    )
    paths = {"config_file": str(folder / "config"), "credentials_file": str(folder / "credentials")}
    return identity(service, profile=name, **paths, **fields)


async def test_profiles_give_keys_and_chains_of_roles(sts: tuple[FakeSts, Service], tmp_path: Path) -> None:
    _, service = sts
    plain = await source(profile(service, tmp_path, "keys")).fetch()
    assert (plain.value.access_key_id, plain.expires) == ("AKIALONG", FOREVER)
    default = await source(profile(service, tmp_path, "")).fetch()
    assert (default.value.secret_access_key, default.value.session_token) == (Secret("100%sure"), Secret("t"))
    chained = await source(profile(service, tmp_path, "chained")).fetch()
    assert chained.value.access_key_id == "ASIA0002"
    assert [asked.form["RoleSessionName"] for asked in service.asked] == ["named", "ostiary"]
    web = await source(profile(service, tmp_path, "web", role_arn=ROLE)).fetch()
    assert web.value.access_key_id == "ASIA0004"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("loop", "too many roles"),
        ("dangling", "source_profile that there is not"),
        ("browser", "signs in by a browser"),
        ("program", "runs a program"),
        ("machine", "nothing that may take it on"),
        ("empty", "neither keys nor a role"),
        ("absent", "there is no AWS profile absent"),
    ],
)
async def test_a_profile_that_gives_nothing_says_why(
    sts: tuple[FakeSts, Service], tmp_path: Path, name: str, why: str
) -> None:
    with pytest.raises(NoToken) as caught:
        await source(profile(sts[1], tmp_path, name)).fetch()
    assert why in caught.value.why
    assert CANARY not in caught.value.why


async def test_a_file_that_is_no_profile_file_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"{CANARY} without a section\n")
    with pytest.raises(NoToken) as caught:
        await source(identity(config_file=str(tmp_path / "config"))).fetch()
    assert caught.value.why.endswith("is not an AWS configuration file")


def container(asked: Asked) -> Told:
    if asked.path != "/v2/credentials/x" or asked.headers.get("authorization") != "container token":
        return told(403, {"code": CANARY})
    return told(200, document("ASIACONTAINER"))


def document(key_id: str) -> dict[str, str]:
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800))
    return {"AccessKeyId": key_id, "SecretAccessKey": "s", "Token": "t", "Expiration": expires}


async def test_a_container_is_asked_with_its_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("container token\n")
    with serving(container) as service:
        url = f"{service.url}/v2/credentials/x"
        by_text = await source(identity(container=url, container_token=Secret("container token"))).fetch()
        by_file = await source(identity(container=url, container_token_file=str(tmp_path / "token"))).fetch()
        assert by_text.value.access_key_id == by_file.value.access_key_id == "ASIACONTAINER"
        with pytest.raises(NoToken, match="upstream_auth"):
            await source(identity(container=url)).fetch()
    with pytest.raises(NoToken) as caught:
        await source(identity(container="http://10.1.2.3/x")).fetch()
    assert "neither https nor the container's own" in caught.value.why


class FakeMachine:
    """The metadata service of a machine, version 2: nothing without a session."""

    def __init__(self, role: str = "machine-role") -> None:
        self.role = role

    def __call__(self, asked: Asked) -> Told:
        if asked.path == "/latest/api/token":
            allowed = asked.method == "PUT" and asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds") == "21600"
            return Told(200, b"session-1") if allowed else Told(400, b"")
        if asked.headers.get("x-aws-ec2-metadata-token") != "session-1":
            return Told(401, b"")
        below = asked.path.removeprefix("/latest/meta-data/iam/security-credentials/")
        if not below:
            return Told(200 if self.role else 404, self.role.encode())
        return told(200, {"Code": "Success", **document(f"ASIA-{below}")})


async def test_the_machine_is_asked_only_where_the_operator_says_so() -> None:
    with serving(FakeMachine()) as service:
        token = await source(identity(metadata=service.url)).fetch()
        assert token.value.access_key_id == "ASIA-machine-role"
        assert abs(token.expires - time.time() - 1800) < 5
    with pytest.raises(NoToken) as caught:
        await source(identity()).fetch()
    assert caught.value.why.startswith("no AWS credentials are configured")


async def test_a_machine_without_a_role_says_so() -> None:
    with serving(FakeMachine(role="")) as service:
        with pytest.raises(NoToken) as caught:
            await source(identity(metadata=service.url)).fetch()
        assert "this machine has no role" in caught.value.why
    with serving(FakeMachine(role="../../api/token")) as service, pytest.raises(NoToken):
        await source(identity(metadata=service.url)).fetch()


@pytest.mark.parametrize(
    "fields",
    [
        {"profile": "keys", "config_file": "/etc/hosts"},
        {"container": "http://127.0.0.1:1/"},
        {"web_identity": Secret("/etc/hosts"), "web_role_arn": ROLE},
        {"web_identity": Secret("oidc/file//etc/hosts"), "web_role_arn": ROLE},
        {"sts_endpoint": "https://sts.evil.example", "role_arn": ROLE, **keys()},
        {"sts_endpoint": "https://sts.amazonaws.com.evil.example", "role_arn": ROLE, **keys()},
    ],
    ids=str,
)
async def test_what_is_not_trusted_uses_nothing_of_this_machine(fields: dict[str, Any]) -> None:
    with pytest.raises(NoToken) as caught:
        await source(AwsIdentity(region="eu-central-1", **fields)).fetch()
    assert "only" in caught.value.why


GARBAGE = [
    Told(200, b""),
    Told(200, b"\xff\xfe<AccessKeyId>a</AccessKeyId>"),
    Told(200, b"<AccessKeyId>a</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"),
    Told(
        200,
        b"<AccessKeyId>a&#13;&#10;x: y</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        b"<SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>",
    ),
    Told(
        200,
        b"<AccessKeyId>a</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        b"<SessionToken>t</SessionToken><Expiration>tomorrow</Expiration>",
    ),
    Told(302, b"", {"location": "http://127.0.0.1:9/"}),
    Told(500, CANARY.encode()),
    Told(200, b"x" * 70_000),
]


@pytest.mark.parametrize("answer", GARBAGE, ids=range(len(GARBAGE)))
async def test_any_other_answer_is_a_fault_that_quotes_nothing(answer: Told) -> None:
    with serving(lambda asked: answer) as service:
        with pytest.raises(NoToken) as caught:
            await source(identity(service, **keys(role_arn=ROLE))).fetch()
        assert CANARY not in caught.value.why
        with pytest.raises(NoToken):
            await source(identity(container=f"{service.url}/")).fetch()


async def test_the_secret_is_in_no_request_and_no_repr(sts: tuple[FakeSts, Service]) -> None:
    _, service = sts
    one = identity(service, **keys(role_arn=ROLE))
    token = await source(one).fetch()
    assert "long secret" not in repr(one) + repr(token) + json.dumps([str(asked) for asked in service.asked])
    assert "made secret" not in repr(token)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_moto_gives_roles_in_the_shape_that_is_read(moto: str) -> None:
    taken = await source(identity(sts_endpoint=moto, **keys(role_arn=ROLE))).fetch()
    by_token = await source(identity(sts_endpoint=moto, web_identity=Secret(JWT), web_role_arn=ROLE)).fetch()
    for token in (taken, by_token):
        assert token.value.access_key_id.startswith("ASIA")
        assert token.value.session_token
        assert 0 < token.expires - time.time() <= 3605
