"""Which key service wraps the root key, as `OSTIARY_KMS` says. It must not take a host from anywhere but there.

aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID     transit://MOUNT/KEY
gcp-kms://projects/…/cryptoKeys/KEY             azure-kv://NAME.vault.azure.net/keys/KEY
"""

from __future__ import annotations

from collections.abc import Mapping

from ostiary.vault.kms.aws import KIND as AWS
from ostiary.vault.kms.aws import AwsKms
from ostiary.vault.kms.azure import KIND as AZURE
from ostiary.vault.kms.azure import AzureKeyVault
from ostiary.vault.kms.client import Client, origin_of
from ostiary.vault.kms.faults import KeyServiceMisnamed
from ostiary.vault.kms.google import KIND as GOOGLE
from ostiary.vault.kms.google import GoogleKms
from ostiary.vault.kms.root import KeyService, KmsRoot
from ostiary.vault.kms.transit import FAMILIES, Transit
from ostiary.vault.kms.transit import KIND as TRANSIT

ENV_KMS = "OSTIARY_KMS"
ENV_CA_FILE = "OSTIARY_KMS_CA_FILE"
ENV_PROXY = "OSTIARY_KMS_PROXY"


def wrapper_from(uri: str, environment: Mapping[str, str]) -> KmsRoot:
    """The key service named by `uri`. No call is made.

    Args:
        uri: the value of `OSTIARY_KMS`.
        environment: credentials and addresses, as each service's own tools name them; `OSTIARY_KMS_CA_FILE` for a
            private authority; `OSTIARY_KMS_PROXY` for a proxy, since `HTTPS_PROXY` is not obeyed.

    Raises:
        KeyServiceMisnamed: another form, or something that goes with it is missing; says which, never a value.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in {AWS, TRANSIT, GOOGLE, AZURE}:
        raise KeyServiceMisnamed(f"{ENV_KMS} must begin with {AWS}://, {TRANSIT}://, {GOOGLE}:// or {AZURE}://")
    return KmsRoot(_service(scheme, rest, environment, _client(scheme, environment)))


def _service(scheme: str, rest: str, environment: Mapping[str, str], client: Client) -> KeyService:
    if scheme == AWS:
        return AwsKms(rest, environment, client)
    if scheme == TRANSIT:
        return Transit(rest, environment, client)
    if scheme == GOOGLE:
        return GoogleKms(rest, environment, client)
    return AzureKeyVault(rest, environment, client)


def _client(scheme: str, environment: Mapping[str, str]) -> Client:
    """Trust and route. The servers' own tools know a variable for a private authority too."""
    names = [ENV_CA_FILE]
    if scheme == TRANSIT:
        names += [f"{family}_CACERT" for family in FAMILIES if environment.get(f"{family}_ADDR")]
    ca_file = next((environment[name] for name in names if environment.get(name)), None)
    return Client(ca_file=ca_file, proxy=_proxy(environment.get(ENV_PROXY)))


def _proxy(text: str | None) -> str | None:
    """A proxy may be of plain HTTP on any host: it sees a tunnel, and TLS ends at the service."""
    if not text:
        return None
    origin_of(text.replace("http://", "https://", 1), ENV_PROXY)
    return text
