"""Where Microsoft Entra tokens come from: an application's secret, a federated token, or the machine.

It must not send a secret to an authority that a stored model names, unless it is one of Microsoft's clouds.
After "Microsoft identity platform and the OAuth 2.0 client credentials flow" and the endpoint of managed identities.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from ostiary.core.clock import Clock
from ostiary.core.identity import EntraIdentity
from ostiary.core.secret import Secret
from ostiary.gateway.signing.bearer import text_of, token_of
from ostiary.gateway.signing.client import Client
from ostiary.gateway.signing.reach import Reach
from ostiary.gateway.signing.tokens import NoToken, Token

CLOUDS = frozenset(
    {"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn",
     "login.chinacloudapi.cn", "login.windows.net"}
)  # fmt: skip
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MANAGED_API = "2018-02-01"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}")


class EntraSource:
    """Fetches the tokens of one identity."""

    def __init__(self, identity: EntraIdentity, clock: Clock, client: Client | None = None) -> None:
        self._identity = identity
        self._clock = clock
        self._client = client or Client(ca_file=identity.ca_file, proxy=identity.proxy)

    async def fetch(self) -> Token[Secret]:
        """A token in force now.

        Raises:
            NoToken: there is none; says why.
        """
        identity = self._identity
        if identity.client_secret is not None:
            return await self._ask({"client_secret": identity.client_secret.reveal()})
        if identity.federated_file:
            if not identity.trusted:
                raise NoToken("a file with a federated token may be named by the configuration file only")
            token = await text_of(identity.federated_file)
            return await self._ask({"client_assertion_type": ASSERTION, "client_assertion": token})
        if identity.metadata:
            return await self._of_machine()
        raise NoToken("no Entra credentials are configured: client_secret, a federated token, or the machine's")

    async def _ask(self, proof: dict[str, str]) -> Token[Secret]:
        identity = self._identity
        if not _NAME.fullmatch(identity.tenant) or not _NAME.fullmatch(identity.client_id):
            raise NoToken("tenant_id or client_id is missing, or no name of a tenant or application")
        authority = identity.authority.rstrip("/")
        parts = urlsplit(authority)
        if not identity.trusted and (parts.scheme != "https" or parts.netloc not in CLOUDS or parts.path):
            raise NoToken("a stored model may name an authority of Microsoft's clouds only")
        form = {"grant_type": "client_credentials", "client_id": identity.client_id, "scope": identity.scope, **proof}
        url = f"{authority}/{identity.tenant}/oauth2/v2.0/token"
        reach = Reach.NAMED if identity.trusted else Reach.PUBLIC
        return token_of(await self._client.form(url, form, reach), self._clock.now())

    async def _of_machine(self) -> Token[Secret]:
        """Of the managed identity of the machine; `client_id` chooses one where it has several."""
        resource = quote(self._identity.scope.removesuffix("/.default"), safe="")
        url = f"{self._identity.metadata.rstrip('/')}/metadata/identity/oauth2/token?api-version={MANAGED_API}"
        url += f"&resource={resource}"
        if self._identity.client_id:
            url += f"&client_id={quote(self._identity.client_id, safe='')}"
        answer = await self._client.call("GET", url, {"metadata": "true"}, b"", Reach.MACHINE)
        return token_of(answer, self._clock.now())
