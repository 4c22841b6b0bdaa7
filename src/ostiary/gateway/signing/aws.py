"""Where AWS credentials come from: keys, web identity, profile, container, machine. It must not ask one unasked for."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from ostiary.core.clock import Clock
from ostiary.core.identity import AwsIdentity
from ostiary.core.secret import Secret
from ostiary.gateway.signing.aws_profile import DEFAULT, MOST_ROLES, Profile, Profiles, read_profiles
from ostiary.gateway.signing.aws_sts import Role, assume, assume_by_token
from ostiary.gateway.signing.bearer import instant, text_of
from ostiary.gateway.signing.client import Answer, Client
from ostiary.gateway.signing.reach import Reach, is_loopback
from ostiary.gateway.signing.sigv4 import AwsCredentials
from ostiary.gateway.signing.tokens import FOREVER, NoToken, Token

OIDC_FILE = "oidc/file/"

_TOKEN_SECONDS = "21600"  # noqa: S105 (how long a session with the metadata service lasts)
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_JWT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2,4}")
# The credential services of ECS and EKS, which have no certificate: they are on the machine.
_CONTAINER_HOSTS = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})


def static_keys(identity: AwsIdentity) -> AwsCredentials | None:
    """The keys that need no asking; None where there are none, or where they only serve to take on a role."""
    return None if identity.role_arn else _stated_keys(identity)


class AwsSource:
    """Fetches the credentials of one identity."""

    def __init__(self, identity: AwsIdentity, clock: Clock, client: Client | None = None) -> None:
        self._identity = identity
        self._clock = clock
        self._client = client or Client(ca_file=identity.ca_file, proxy=identity.proxy)

    async def fetch(self) -> Token[AwsCredentials]:
        """Credentials in force now.

        Raises:
            NoToken: none of the ways gives any; says why the first that was open did not.
        """
        identity = self._identity
        keys = _stated_keys(identity)
        if keys is not None:
            base = Token(keys)
        elif identity.web_identity is not None:
            web_role = Role(identity.web_role_arn, identity.session_name, "")
            token = await self._web_token(identity.web_identity)
            base = await assume_by_token(self._client, identity, web_role, token)
        else:
            base = await self._ambient()
        if not identity.role_arn:
            return base
        role = Role(identity.role_arn, identity.session_name, identity.external_id)
        return await assume(self._client, identity, role, base.value, self._clock.now())

    async def _ambient(self) -> Token[AwsCredentials]:
        """From the profile, else the container, else the machine."""
        identity = self._identity
        if identity.profile or identity.config_file or identity.credentials_file:
            self._must_be_trusted("a profile")
            stated = bool(identity.profile)
            profiles = await read_profiles(identity.config_file, identity.credentials_file, must_exist=stated)
            profile = profiles.find(identity.profile or DEFAULT)
            if profile is None and stated:
                raise NoToken(f"there is no AWS profile {identity.profile}")
            if profile is not None and (stated or profile.keys is not None or profile.get("role_arn")):
                return await self._of_profile(profile, profiles, 0)
        if identity.container:
            return await self._of_container()
        if identity.metadata:
            return await self._of_machine()
        raise NoToken("no AWS credentials are configured: keys, a profile, a web identity or a container's")

    async def _of_profile(self, profile: Profile, profiles: Profiles, depth: int) -> Token[AwsCredentials]:
        profile.refuse_what_is_not_offered()
        arn, source = profile.get("role_arn"), profile.get("source_profile")
        if not arn:
            if profile.keys is None:
                raise NoToken(f"the AWS profile {profile.name} has neither keys nor a role")
            return Token(profile.keys)
        role = Role(arn, profile.get("role_session_name") or self._identity.session_name, profile.get("external_id"))
        file = profile.get("web_identity_token_file")
        if file:
            return await assume_by_token(self._client, self._identity, role, await _token_in(file))
        if depth >= MOST_ROLES:
            raise NoToken(f"the AWS profile {profile.name} is at the end of too many roles")
        base = await self._base_of(profile, source, profiles, depth)
        return await assume(self._client, self._identity, role, base.value, self._clock.now())

    async def _base_of(self, profile: Profile, source: str, profiles: Profiles, depth: int) -> Token[AwsCredentials]:
        """What a profile takes its role on with."""
        if source == profile.name and profile.keys is not None:
            return Token(profile.keys)
        if source:
            found = profiles.find(source)
            if found is None:
                raise NoToken(f"the AWS profile {profile.name} names a source_profile that there is not")
            return await self._of_profile(found, profiles, depth + 1)
        where = profile.get("credential_source")
        if where == "EcsContainer" and self._identity.container:
            return await self._of_container()
        if where == "Ec2InstanceMetadata" and self._identity.metadata:
            return await self._of_machine()
        raise NoToken(f"the AWS profile {profile.name} has a role and nothing that may take it on")

    async def _of_container(self) -> Token[AwsCredentials]:
        identity = self._identity
        self._must_be_trusted("a container's credentials")
        parts = urlsplit(identity.container)
        host = parts.hostname or ""
        if parts.scheme != "https" and not (parts.scheme == "http" and (host in _CONTAINER_HOSTS or is_loopback(host))):
            raise NoToken("the address of the container's credentials is neither https nor the container's own")
        token = identity.container_token.reveal() if identity.container_token is not None else ""
        if identity.container_token_file:
            token = await text_of(identity.container_token_file)
        if token and not token.isprintable():
            raise NoToken("the container's authorization token cannot stand in a header")
        headers = {"authorization": token} if token else {}
        reach = Reach.MACHINE if host in _CONTAINER_HOSTS else Reach.NAMED
        return _credentials(await self._client.call("GET", identity.container, headers, b"", reach))

    async def _of_machine(self) -> Token[AwsCredentials]:
        """Of the role of the machine, by the second version of its metadata service: a session first."""
        base = f"{self._identity.metadata.rstrip('/')}/latest"
        ttl = {"x-aws-ec2-metadata-token-ttl-seconds": _TOKEN_SECONDS}
        session = await self._client.call("PUT", f"{base}/api/token", ttl, b"", Reach.MACHINE)
        text = session.body.decode("latin-1")
        if session.status != 200 or not text or not text.isprintable():
            raise NoToken(f"{session.where} opens no session: it answers {session.status}")
        headers = {"x-aws-ec2-metadata-token": text}
        url = f"{base}/meta-data/iam/security-credentials/"
        listed = await self._client.call("GET", url, headers, b"", Reach.MACHINE)
        name = listed.body.decode("latin-1").strip()
        if listed.status != 200 or not _ROLE_NAME.fullmatch(name):
            raise NoToken("this machine has no role; attach an instance profile to it")
        return _credentials(await self._client.call("GET", f"{url}{quote(name)}", headers, b"", Reach.MACHINE))

    async def _web_token(self, stated: Secret) -> str:
        text = stated.reveal()
        if _JWT.fullmatch(text):
            return text
        self._must_be_trusted("a file with a web identity")
        if text.startswith("oidc/") and not text.startswith(OIDC_FILE):
            raise NoToken("of the oidc/ forms, aws_web_identity_token takes oidc/file/PATH only")
        return await _token_in(text.removeprefix(OIDC_FILE))

    def _must_be_trusted(self, what: str) -> None:
        if not self._identity.trusted:
            raise NoToken(f"{what} may be named by the configuration file only")


async def _token_in(path: str) -> str:
    text = await text_of(path)
    if not _JWT.fullmatch(text):
        raise NoToken(f"{path} holds no token")
    return text


def _stated_keys(identity: AwsIdentity) -> AwsCredentials | None:
    key_id, secret = identity.access_key_id, identity.secret_access_key
    if key_id is None or secret is None:
        return None
    return AwsCredentials(key_id.reveal(), secret, identity.session_token)


def _credentials(answer: Answer) -> Token[AwsCredentials]:
    """Of the JSON that the container's and the machine's services have in common."""
    if answer.status != 200:
        raise NoToken(f"{answer.where} gives no credentials: it answers {answer.status}")
    document = answer.document
    texts = [document.get(name) for name in ("AccessKeyId", "SecretAccessKey", "Token")]
    key_id, secret, session = (
        one if isinstance(one, str) and one.isascii() and one.isprintable() else "" for one in texts
    )
    if not key_id or not secret:
        raise NoToken(f"the answer of {answer.where} holds no credentials")
    expires = instant(answer.text("Expiration")) if "Expiration" in document else FOREVER
    return Token(AwsCredentials(key_id, Secret(secret), Secret(session) if session else None), expires)
