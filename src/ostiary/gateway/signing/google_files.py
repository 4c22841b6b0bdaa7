"""The credential files of Google, by their `type`. It must not keep an address that such a file names for its secret.

After AIP-4110 and the files that the console and `gcloud` write.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ostiary.core.secret import Secret
from ostiary.gateway.signing.tokens import NoToken

_TYPES = "service_account, authorized_user or external_account"


class Account(msgspec.Struct, frozen=True):
    """The key of a service account."""

    client_email: str
    private_key: Secret
    private_key_id: str


class User(msgspec.Struct, frozen=True):
    """The refresh token of a person."""

    client_id: str
    client_secret: Secret
    refresh_token: Secret


class External(msgspec.Struct, frozen=True):
    """Workload identity federation: a file with another issuer's token, `field` of it where it is JSON."""

    audience: str
    subject_token_type: str
    file: str
    field: str
    impersonation: str

    def subject_in(self, text: str) -> Secret:
        """The token in the text of the file.

        Raises:
            NoToken: there is none.
        """
        if self.field:
            try:
                found = msgspec.json.decode(text, type=dict[str, object]).get(self.field)
            except msgspec.MsgspecError:
                found = None
            text = found if isinstance(found, str) else ""
        if not text or not text.isascii() or not text.isprintable():
            raise NoToken(f"{self.file} holds no token")
        return Secret(text)


Credentials: TypeAlias = Account | User | External


class _Format(msgspec.Struct, frozen=True):
    type: str = "text"
    subject_token_field_name: str = ""


class _Source(msgspec.Struct, frozen=True):
    file: str = ""
    format: _Format = _Format()


class _File(msgspec.Struct, frozen=True):
    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""
    audience: str = ""
    subject_token_type: str = ""
    credential_source: _Source = _Source()
    service_account_impersonation_url: str = ""

    def __repr__(self) -> str:
        return f"_File({self.type!r})"


def read_credentials(text: str) -> Credentials:
    """The credentials in the JSON text of a file.

    Raises:
        NoToken: another type of file, or one that lacks what its type needs.
    """
    try:
        file = msgspec.json.decode(text, type=_File)
    except msgspec.MsgspecError:
        raise NoToken(f"the Google credentials are no JSON document of type {_TYPES}") from None
    if file.type == "service_account" and file.client_email and file.private_key:
        return Account(file.client_email, Secret(file.private_key), file.private_key_id)
    if file.type == "authorized_user" and file.client_id and file.client_secret and file.refresh_token:
        return User(file.client_id, Secret(file.client_secret), Secret(file.refresh_token))
    if file.type == "external_account" and file.audience and file.subject_token_type:
        source = file.credential_source
        if not source.file:
            raise NoToken("an external account needs a credential_source with a file; no other source is offered")
        field = source.format.subject_token_field_name if source.format.type == "json" else ""
        return External(
            file.audience, file.subject_token_type, source.file, field, file.service_account_impersonation_url
        )
    raise NoToken(f"the Google credentials are not a complete file of type {_TYPES}")
