"""Who the gateway is towards a cloud: what it signs or asks for tokens with. It must not hold a way to ask.

One value per scheme, filled by the compiler from parameters and environment. Equal values share one token. `trusted`
is for what the configuration file names: only then files of this machine are read and hosts other than the cloud's own
are asked. `metadata` is the address of the machine's metadata service, empty where the operator did not ask for it.
`ca_file` and `proxy` are the instance's own for calls of this kind.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ostiary.core.secret import Secret

GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
ENTRA_AUTHORITY = "https://login.microsoftonline.com"


class AwsIdentity(msgspec.Struct, frozen=True):
    """For Signature Version 4. The first of these that is there: keys, web identity, profile, container, machine.

    `web_identity` is a token, or the path of a file with one (also as `oidc/file/PATH`); it gives the role
    `web_role_arn`. With what the first gives, `role_arn` is taken on where it is named. An empty `profile` is the
    default one, which may be missing where there is something else to ask.
    """

    region: str
    service: str = "bedrock"
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    web_identity: Secret | None = None
    web_role_arn: str = ""
    profile: str = ""
    config_file: str = ""
    credentials_file: str = ""
    role_arn: str = ""
    session_name: str = "ostiary"
    external_id: str = ""
    sts_endpoint: str = ""  # empty: the region's public one
    container: str = ""  # URL of the container's credential service
    container_token: Secret | None = None
    container_token_file: str = ""
    metadata: str = ""
    trusted: bool = False
    ca_file: str | None = None
    proxy: str | None = None


class GoogleIdentity(msgspec.Struct, frozen=True):
    """For Google access tokens. `credentials` is the JSON text of a credential file, or the path of one."""

    credentials: Secret | None = None
    credentials_file: str = ""  # asked where `credentials` is absent
    scope: str = GOOGLE_SCOPE
    token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 (an address)
    exchange_url: str = "https://sts.googleapis.com/v1/token"
    impersonation_url: str = "https://iamcredentials.googleapis.com"
    metadata: str = ""
    trusted: bool = False
    ca_file: str | None = None
    proxy: str | None = None


class EntraIdentity(msgspec.Struct, frozen=True):
    """For Microsoft Entra access tokens: an application with a secret, or with a token of another issuer in a file."""

    tenant: str = ""
    client_id: str = ""
    client_secret: Secret | None = None
    federated_file: str = ""
    scope: str = ENTRA_SCOPE
    authority: str = ENTRA_AUTHORITY
    metadata: str = ""
    trusted: bool = False
    ca_file: str | None = None
    proxy: str | None = None


Identity: TypeAlias = AwsIdentity | GoogleIdentity | EntraIdentity
