"""Where Google access tokens come from: a credential file of any usual type, or the machine. It must not follow a file.

A credential file says where to send its secret (`token_uri`, `token_url`). Whoever can give us a file could name his
own host there, so those addresses are not obeyed: a secret goes to Google's own endpoints.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec

from ostiary.core.clock import Clock
from ostiary.core.identity import GoogleIdentity
from ostiary.core.secret import Secret
from ostiary.gateway.signing.bearer import instant, refusal, text_of, token_of
from ostiary.gateway.signing.client import Client
from ostiary.gateway.signing.google_files import Account, External, User, read_credentials
from ostiary.gateway.signing.jwt import assertion, private_key
from ostiary.gateway.signing.reach import Reach
from ostiary.gateway.signing.tokens import NoToken, Token

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 (the name of a type)

_LASTS = 3600
_IMPERSONATION = re.compile(
    r"https://iamcredentials\.googleapis\.com/v1/projects/-/serviceAccounts/([^/:?#]{1,255}):generateAccessToken"
)


class GoogleSource:
    """Fetches the tokens of one identity."""

    def __init__(self, identity: GoogleIdentity, clock: Clock, client: Client | None = None) -> None:
        self._identity = identity
        self._clock = clock
        self._client = client or Client(ca_file=identity.ca_file, proxy=identity.proxy)
        self._reach = Reach.NAMED if identity.trusted else Reach.PUBLIC

    async def fetch(self) -> Token[Secret]:
        """A token in force now.

        Raises:
            NoToken: there is none; says why.
        """
        text = await self._text()
        if not text:
            return await self._of_machine()
        credentials = read_credentials(text)
        if isinstance(credentials, Account):
            return await self._of_account(credentials)
        if isinstance(credentials, User):
            return await self._of_user(credentials)
        return await self._of_external(credentials)

    async def _text(self) -> str:
        """The JSON of the credentials. A path is read anew each time, so that a file may be replaced."""
        stated = self._identity.credentials
        text = stated.reveal().strip() if stated is not None else self._identity.credentials_file
        if not text or text.startswith("{"):
            return text
        if not self._identity.trusted:
            raise NoToken("a file of credentials may be named by the configuration file only")
        return await text_of(text)

    async def _of_account(self, account: Account) -> Token[Secret]:
        """By a signed assertion, RFC 7523 and "Using OAuth 2.0 for server to server applications" of Google."""
        now = int(self._clock.now())
        claims = {
            "iss": account.client_email,
            "scope": self._identity.scope,
            "aud": self._identity.token_url,
            "iat": now,
            "exp": now + _LASTS,
        }
        signed = assertion(private_key(account.private_key), claims, key_id=account.private_key_id)
        form = {"grant_type": JWT_GRANT, "assertion": signed}
        return token_of(await self._client.form(self._identity.token_url, form, self._reach), self._clock.now())

    async def _of_user(self, user: User) -> Token[Secret]:
        """By the refresh token of a person, as `gcloud auth application-default login` leaves it."""
        form = {
            "grant_type": "refresh_token",
            "client_id": user.client_id,
            "client_secret": user.client_secret.reveal(),
            "refresh_token": user.refresh_token.reveal(),
        }
        return token_of(await self._client.form(self._identity.token_url, form, self._reach), self._clock.now())

    async def _of_external(self, external: External) -> Token[Secret]:
        """By the token of another issuer, RFC 8693; with an account to act as, by that account's token."""
        if not self._identity.trusted:
            raise NoToken("an external account reads a file, which only the configuration file may name")
        subject = external.subject_in(await text_of(external.file))
        scope = self._identity.scope
        form = {
            "grant_type": EXCHANGE_GRANT,
            "audience": external.audience,
            "scope": scope,
            "requested_token_type": ACCESS_TOKEN,
            "subject_token": subject.reveal(),
            "subject_token_type": external.subject_token_type,
        }
        answer = await self._client.form(self._identity.exchange_url, form, self._reach)
        token = token_of(answer, self._clock.now())
        if not external.impersonation:
            return token
        return await self._act_as(external.impersonation, token.value)

    async def _act_as(self, address: str, token: Secret) -> Token[Secret]:
        found = _IMPERSONATION.fullmatch(address)
        if found is None:
            raise NoToken("the address of the account to act as is not one of Google's")
        account = quote(found[1], safe="@")
        url = f"{self._identity.impersonation_url}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
        headers = {"authorization": f"Bearer {token.reveal()}", "content-type": "application/json"}
        body = msgspec.json.encode({"scope": [self._identity.scope], "lifetime": f"{_LASTS}s"})
        answer = await self._client.call("POST", url, headers, body, self._reach)
        if answer.status != 200:
            raise refusal(answer)
        value, expires = answer.text("accessToken"), instant(answer.text("expireTime"))
        if not value.isascii() or not value.isprintable() or not value or not expires:
            raise NoToken(f"the answer of {answer.where} holds no token")
        return Token(Secret(value), expires)

    async def _of_machine(self) -> Token[Secret]:
        """Of the account that a machine in the cloud runs as. In the clear: the service is the machine's own."""
        if not self._identity.metadata:
            raise NoToken("no Google credentials are configured: a service account, a file, or the machine's account")
        url = f"{self._identity.metadata.rstrip('/')}/computeMetadata/v1/instance/service-accounts/default/token"
        url += f"?scopes={quote(self._identity.scope, safe='')}"
        answer = await self._client.call("GET", url, {"metadata-flavor": "Google"}, b"", Reach.MACHINE)
        if answer.headers.get("metadata-flavor") != "Google":
            raise NoToken(f"{answer.where} is no metadata service")
        return token_of(answer, self._clock.now())
