"""Who the gateway is towards a cloud, as parameters and environment say; and what a stored model may not make it be."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostiary.catalog.models import load_models
from ostiary.catalog.providers import parse_providers
from ostiary.config.load import load
from ostiary.control.compile import Compiled, StoredModel, compile_snapshot
from ostiary.core.identity import AwsIdentity, EntraIdentity, GoogleIdentity
from ostiary.core.secret import Secret
from ostiary.core.snapshot import AuthStyle, Deployment
from ostiary.vault.document import guarded

PROVIDERS = """
[amazon]
title = "Signed by AWS"
base_url = "https://bedrock-runtime.{aws_region_name}.amazonaws.com"
key_env = ["AWS_BEARER_TOKEN_BEDROCK"]
sign_in = "aws"

[vertex]
title = "Signed in to Google"
base_url = "https://{vertex_location}-aiplatform.googleapis.com/v1/projects/{vertex_project}"
auth = "header"
auth_header = "x-goog-api-key"
sign_in = "google"

[azure]
title = "Signed in to Entra"
base_env = ["AZURE_API_BASE"]
key_env = ["AZURE_API_KEY"]
auth = "header"
auth_header = "api-key"
sign_in = "entra"
"""
ROLE = "arn:aws:iam::111122223333:role/caller"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0ZXN0In0.c2ln"
KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "s"}
AZURE = {"model": "azure/m", "api_base": "https://x.openai.azure.com"}
PLACE = {"vertex_project": "p", "vertex_location": "europe-west4"}


def compiled(
    directory: Path,
    *params: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    more: str = "",
    stored: list[StoredModel] | None = None,
) -> Compiled:
    path = directory / "config.yaml"
    rows = [{"model_name": "m", "litellm_params": one} for one in params]
    path.write_text(f"model_list: {msgspec.json.encode(rows).decode()}\n{textwrap.dedent(more)}")
    loaded = load(str(path), environ or {})
    assert loaded.ok, [str(problem) for problem in loaded.problems]
    return compile_snapshot(
        loaded, stored or [], parse_providers(PROVIDERS), load_models(), revision=1, admin_digest=b""
    )


def one(directory: Path, params: Mapping[str, Any], **more: Any) -> Deployment:
    done = compiled(directory, params, **more)
    assert not done.problems, [str(problem) for problem in done.problems]
    (found,) = done.snapshot.deployments.values()
    return found


def why(directory: Path, params: Mapping[str, Any], **more: Any) -> str:
    (problem,) = compiled(directory, params, **more).problems
    return str(problem)


def of_store(directory: Path, params: Mapping[str, Any], **more: Any) -> Compiled:
    row = StoredModel("db-1", "m", guarded(dict(params)), {})
    return compiled(directory, stored=[row], **more)


def aws(**params: Any) -> dict[str, Any]:
    return {"model": "amazon/x", "aws_region_name": "eu-central-1", **params}


def test_stated_keys_sign_for_the_region(tmp_path: Path) -> None:
    found = one(tmp_path, aws(**KEYS, aws_session_token="t", aws_role_name=ROLE, aws_external_id="e-1"))
    assert (found.host, found.auth, found.credential) == (
        "bedrock-runtime.eu-central-1.amazonaws.com", AuthStyle.AWS, None,
    )  # fmt: skip
    assert found.identity == AwsIdentity(
        region="eu-central-1",
        access_key_id=Secret("AKID"),
        secret_access_key=Secret("s"),
        session_token=Secret("t"),
        role_arn=ROLE,
        external_id="e-1",
        trusted=True,
    )


def test_the_region_may_come_from_the_environment(tmp_path: Path) -> None:
    for variable in ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"):
        found = one(tmp_path, {"model": "amazon/x", **KEYS}, environ={variable: "us-west-2"})
        assert found.host == "bedrock-runtime.us-west-2.amazonaws.com"
        assert isinstance(found.identity, AwsIdentity)
        assert found.identity.region == "us-west-2"
    missing = why(tmp_path, {"model": "amazon/x", **KEYS})
    assert "aws_region_name: warning: is missing" in missing
    assert "vertex_location: warning: is missing" in why(tmp_path, {"model": "vertex/x", "vertex_project": "p"})


def test_an_endpoint_of_ones_own_is_the_address(tmp_path: Path) -> None:
    endpoint = "https://vpce-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com"
    found = one(tmp_path, aws(aws_bedrock_runtime_endpoint=endpoint), environ={"AWS_PROFILE": "work"})
    assert found.host == endpoint.removeprefix("https://")
    assert isinstance(found.identity, AwsIdentity)
    assert found.identity.profile == "work"


def test_a_bearer_key_goes_before_signing(tmp_path: Path) -> None:
    stated = one(tmp_path, aws(api_key="k", **KEYS))
    named = one(tmp_path, aws(), environ={"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_ACCESS_KEY_ID": "a"})
    for found in (stated, named):
        assert (found.auth, found.credential, found.identity) == (AuthStyle.BEARER, Secret("k"), None)


@pytest.mark.parametrize(
    ("environ", "fields"),
    [
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"},
         {"access_key_id": Secret("a"), "secret_access_key": Secret("b"), "session_token": Secret("c")}),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": ROLE, "AWS_ROLE_SESSION_NAME": "n"},
         {"web_identity": Secret("/t"), "web_role_arn": ROLE, "session_name": "n"}),
        ({"AWS_PROFILE": "p", "AWS_CONFIG_FILE": "/c", "AWS_SHARED_CREDENTIALS_FILE": "/s"},
         {"profile": "p", "config_file": "/c", "credentials_file": "/s"}),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"},
         {"container": "http://169.254.170.2/v2/x", "config_file": "~/.aws/config",
          "credentials_file": "~/.aws/credentials"}),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t"},
         {"container": "http://169.254.170.23/v1", "container_token": Secret("t"), "config_file": "~/.aws/config",
          "credentials_file": "~/.aws/credentials"}),
    ],
)  # fmt: skip
def test_without_parameters_the_environment_is_asked_as_the_sdks_do(
    tmp_path: Path, environ: dict[str, str], fields: dict[str, Any]
) -> None:
    found = one(tmp_path, aws(), environ=environ)
    assert found.identity == AwsIdentity(region="eu-central-1", trusted=True, **fields)


def test_the_machine_is_asked_only_where_the_configuration_says_so(tmp_path: Path) -> None:
    more = "ostiary: {upstream: {instance_metadata: true}}"
    rows = [(aws(), "http://169.254.169.254"), ({"model": "vertex/m", **PLACE}, "http://metadata.google.internal"),
            (AZURE, "http://169.254.169.254")]  # fmt: skip
    for params, address in rows:
        identity = one(tmp_path, params, more=more).identity
        assert identity is not None
        assert identity.metadata == address
    without = one(tmp_path, aws()).identity
    assert isinstance(without, AwsIdentity)
    assert without.metadata == ""
    off = one(tmp_path, aws(), more=more, environ={"AWS_EC2_METADATA_DISABLED": "true"}).identity
    assert off == without
    assert "api_key: warning: is missing" in why(tmp_path, {"model": "vertex/m", **PLACE})
    assert "api_key: warning: is missing" in why(tmp_path, AZURE)


def test_proxy_and_trust_of_the_instance_hold_for_token_services_too(tmp_path: Path) -> None:
    more = "ostiary: {upstream: {proxy: 'http://proxy:3128', ca_file: /ca.pem}}"
    identity = one(tmp_path, aws(**KEYS), more=more).identity
    assert identity is not None
    assert (identity.proxy, identity.ca_file) == ("http://proxy:3128", "/ca.pem")
    asked = "ostiary: {upstream: {use_environment_proxy: true}}"
    for text, more, proxy in (("http://p:1/", asked, "http://p:1"), ("http://p:1/", "", None)):
        identity = one(tmp_path, aws(**KEYS), more=more, environ={"HTTPS_PROXY": text}).identity
        assert identity is not None
        assert identity.proxy == proxy
    assert "HTTPS_PROXY is not" in why(tmp_path, aws(**KEYS), more=asked, environ={"HTTPS_PROXY": "http://u:p@h:1"})


@pytest.mark.parametrize("credentials", ["/etc/account.json", '{"type": "x"}', {"type": "x", "private_key": "k"}])
def test_google_credentials_are_a_path_a_text_or_a_document(tmp_path: Path, credentials: Any) -> None:
    found = one(tmp_path, {"model": "vertex/m", **PLACE, "vertex_credentials": credentials})
    assert (found.auth, found.host) == (AuthStyle.GOOGLE, "europe-west4-aiplatform.googleapis.com")
    text = credentials if isinstance(credentials, str) else msgspec.json.encode(credentials).decode()
    assert found.identity == GoogleIdentity(credentials=Secret(text), trusted=True)


def test_google_default_credentials_and_keys(tmp_path: Path) -> None:
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": "/adc.json", "VERTEXAI_PROJECT": "p", "VERTEXAI_LOCATION": "us-east5"}
    found = one(tmp_path, {"model": "vertex/m"}, environ=environ)
    assert found.identity == GoogleIdentity(credentials_file="/adc.json", trusted=True)
    assert (found.host, found.base_path) == ("us-east5-aiplatform.googleapis.com", "/v1/projects/p")
    key = one(tmp_path, {"model": "vertex/m", "api_key": "k"}, environ=environ)
    assert (key.auth, key.auth_header, key.identity) == (AuthStyle.HEADER, "x-goog-api-key", None)
    elsewhere = {"model": "vertex/m", "api_base": "https://other.example", **PLACE}
    assert one(tmp_path, elsewhere, environ=environ).identity is None


def test_entra_signs_in_with_parameters_or_the_environment(tmp_path: Path) -> None:
    stated = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
    found = one(tmp_path, {**AZURE, **stated, "azure_authority_host": "login.microsoftonline.us", "azure_scope": "x"})
    assert found.auth is AuthStyle.ENTRA
    assert found.identity == EntraIdentity(
        "t", "c", Secret("s"), scope="x", authority="https://login.microsoftonline.us", trusted=True
    )
    secret = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}
    assert one(tmp_path, AZURE, environ=secret).identity == EntraIdentity("t", "c", Secret("s"), trusted=True)
    federated = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_FEDERATED_TOKEN_FILE": "/f"}
    assert one(tmp_path, AZURE, environ=federated).identity == EntraIdentity(
        "t", "c", federated_file="/f", trusted=True
    )
    key = one(tmp_path, {**AZURE, **stated, "api_key": "k"})
    token = one(tmp_path, {**AZURE, **stated, "azure_ad_token": "eyJ"})
    named = one(tmp_path, AZURE, environ={**secret, "AZURE_API_KEY": "k"})
    assert [(one.auth, one.identity) for one in (key, token, named)] == [
        (AuthStyle.HEADER, None), (AuthStyle.BEARER, None), (AuthStyle.HEADER, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (aws(aws_access_key_id="a"), "aws_secret_access_key: error: is missing beside its other half"),
        (aws(aws_web_identity_token="/t"), "aws_role_name: error: is missing beside aws_web_identity_token"),
        (aws(**KEYS, aws_role_name="nonsense"), "aws_role_name: error: is not of the form"),
        (aws(**KEYS, aws_session_name="a b"), "aws_session_name: error: is not of the form"),
        (aws(**KEYS, aws_sts_endpoint="https://u:p@h"), "aws_sts_endpoint: error: holds a user or password"),
        ({**aws(**KEYS), "aws_region_name": "eu-central-1.evil"}, "aws_region_name: error: is not of the form"),
        ({**AZURE, "tenant_id": "../x"}, "tenant_id: error: is not of the form"),
        ({**AZURE, "tenant_id": "t", "client_id": "c"}, "client_secret: warning: is missing, and signing in needs it"),
        ({**AZURE, "azure_authority_host": "https://h/?q"}, "azure_authority_host: error: holds a query"),
    ],
)
def test_a_wrong_parameter_is_said_in_one_line(tmp_path: Path, params: dict[str, Any], text: str) -> None:
    assert text in why(tmp_path, params)


SHARED = f"""
    credential_list:
    - {{credential_name: aws, credential_values: {{aws_profile_name: work, aws_role_name: "{ROLE}"}}}}
    - {{credential_name: gcp, credential_values: {{vertex_credentials: /account.json}}}}
"""


def test_a_credential_of_the_list_is_used_by_file_and_store(tmp_path: Path) -> None:
    for name, params in (("aws", aws()), ("gcp", {"model": "vertex/m", **PLACE})):
        named = {**params, "litellm_credential_name": name}
        (stored,) = of_store(tmp_path, named, more=SHARED).snapshot.deployments.values()
        written = one(tmp_path, named, more=SHARED)
        assert stored.identity == written.identity
        assert stored.identity is not None
        assert stored.identity.trusted


STORED_REFUSED = [
    (aws(aws_profile_name="work"), "may be named by the configuration file only"),
    (aws(**KEYS, aws_profile_name="work"), "may be named by the configuration file only"),
    (aws(aws_role_name=ROLE), "needs credentials of its own"),
    (aws(**KEYS, aws_sts_endpoint="https://sts.evil.example"), "is not the cloud's own"),
    (aws(**KEYS, aws_sts_endpoint="http://sts.eu-central-1.amazonaws.com"), "is not the cloud's own"),
    (aws(**KEYS, aws_sts_endpoint="https://sts.amazonaws.com.evil.example"), "is not the cloud's own"),
    (aws(aws_session_name="name"), "is missing"),
    (aws(litellm_credential_name="aws", aws_role_name=ROLE), "may not be stated beside"),
    (aws(litellm_credential_name="aws", aws_sts_endpoint="https://sts.amazonaws.com"), "may not be stated beside"),
    (aws(litellm_credential_name="aws", aws_bedrock_runtime_endpoint="https://evil.example"), "is not the address"),
    ({**AZURE, "tenant_id": "t", "client_id": "c", "client_secret": "s", "azure_authority_host": "evil.example"},
     "is not the cloud's own"),
    ({**AZURE, "tenant_id": "evil", "client_id": "c"}, "is missing, and signing in needs it"),
    ({**AZURE, "tenant_id": "evil"}, "is missing, and signing in needs it"),
]  # fmt: skip


@pytest.mark.parametrize(("params", "text"), STORED_REFUSED, ids=range(len(STORED_REFUSED)))
def test_aig_06_a_stored_model_makes_no_use_of_what_is_the_machines(
    tmp_path: Path, params: dict[str, Any], text: str
) -> None:
    """Whatever the environment has: its secrets, files and roles are for the configuration to name."""
    environ = {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_SECRET": "s", "AZURE_FEDERATED_TOKEN_FILE": "/f",
    }  # fmt: skip
    done = of_store(tmp_path, params, environ=environ, more=SHARED)
    assert not [name for name in done.snapshot.deployments if name != "demo"]
    assert any(text in str(problem) for problem in done.problems), [str(problem) for problem in done.problems]


def test_a_stored_model_with_credentials_of_its_own_signs_in_untrusted(tmp_path: Path) -> None:
    rows = [
        aws(**KEYS, aws_role_name=ROLE),
        aws(aws_web_identity_token=JWT, aws_role_name=ROLE),
        {"model": "vertex/m", **PLACE, "vertex_credentials": {"type": "service_account", "private_key": "k"}},
        {**AZURE, "tenant_id": "t", "client_id": "c", "client_secret": "s"},
    ]
    for params in rows:
        (found,) = of_store(tmp_path, params).snapshot.deployments.values()
        assert found.identity is not None
        assert not found.identity.trusted


def test_aig_06_a_stored_model_takes_no_identity_of_the_environment_elsewhere(tmp_path: Path) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "GOOGLE_APPLICATION_CREDENTIALS": "/adc.json",
               "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}  # fmt: skip
    for params in (aws(api_base="https://evil.example"), {**AZURE, "api_base": "https://evil.example"},
                   {"model": "vertex/m", **PLACE, "api_base": "https://evil.example"}):  # fmt: skip
        done = of_store(tmp_path, params, environ=environ)
        assert all(found.identity is None for found in done.snapshot.deployments.values())


def test_one_identity_for_all_providers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("router_settings: {default_litellm_params: {client_secret: s, aws_region_name: eu-central-1}}")
    (problem,) = load(str(path), {}).problems
    assert "default_litellm_params.client_secret: error: One identity would be used toward every" in str(problem)
