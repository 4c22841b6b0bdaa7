"""Roles of AWS, taken on by the Security Token Service. It must not choose with what.

After the API reference of STS, version 2011-06-15: form fields in, XML out.
"""

from __future__ import annotations

import hashlib
import re
from html import unescape
from urllib.parse import urlencode, urlsplit

from ostiary.core.identity import AwsIdentity
from ostiary.core.secret import Secret
from ostiary.gateway.signing.bearer import instant
from ostiary.gateway.signing.client import FORM, Answer, Client
from ostiary.gateway.signing.reach import Reach
from ostiary.gateway.signing.sigv4 import AwsCredentials, signature_lines
from ostiary.gateway.signing.tokens import NoToken, Token

VERSION = "2011-06-15"

_CODE = re.compile(r"<Code>([A-Za-z.]{1,60})</Code>")
_OWN_HOST = re.compile(r"https://sts(?:-fips)?(?:\.[a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?/?")


class Role:
    """A role to take on: who, under which name, and what its trust policy may ask for."""

    __slots__ = ("arn", "external_id", "session_name")

    def __init__(self, arn: str, session_name: str, external_id: str) -> None:
        self.arn = arn
        self.session_name = session_name
        self.external_id = external_id

    def fields(self, action: str) -> dict[str, str]:
        """The form of a call."""
        form = {
            "Action": action,
            "Version": VERSION,
            "RoleArn": self.arn,
            "RoleSessionName": self.session_name,
        }
        if self.external_id and action == "AssumeRole":
            form["ExternalId"] = self.external_id
        return form


async def assume(
    client: Client, identity: AwsIdentity, role: Role, base: AwsCredentials, now: float
) -> Token[AwsCredentials]:
    """AssumeRole, signed by the credentials in hand.

    Raises:
        NoToken: denied, or no usable answer.
    """
    url = _endpoint(identity)
    body = urlencode(role.fields("AssumeRole")).encode()
    host = urlsplit(url).netloc
    lines = signature_lines(
        "POST",
        host,
        urlsplit(url).path or "/",
        hashlib.sha256(body).hexdigest(),
        base,
        region=_region_of(url, identity.region),
        service="sts",
        now=now,
        headers={"content-type": FORM},
    )
    headers = dict(line.split(": ", 1) for line in lines.decode("latin-1").splitlines())
    answer = await client.call("POST", url, {"content-type": FORM, **headers}, body, _reach(identity))
    return _credentials(answer, role)


async def assume_by_token(client: Client, identity: AwsIdentity, role: Role, token: str) -> Token[AwsCredentials]:
    """AssumeRoleWithWebIdentity: the token proves who we are, nothing is signed.

    Raises:
        NoToken: denied, or no usable answer.
    """
    form = {**role.fields("AssumeRoleWithWebIdentity"), "WebIdentityToken": token}
    return _credentials(await client.form(_endpoint(identity), form, _reach(identity)), role)


def _endpoint(identity: AwsIdentity) -> str:
    suffix = "amazonaws.com.cn" if identity.region.startswith("cn-") else "amazonaws.com"
    stated = identity.sts_endpoint
    if stated and not identity.trusted and not _OWN_HOST.fullmatch(stated):
        raise NoToken("a stored model may name an STS endpoint of AWS only")
    return f"{(stated or f'https://sts.{identity.region}.{suffix}').rstrip('/')}/"


def _region_of(url: str, region: str) -> str:
    """The region that a call is signed for: the global endpoint is in us-east-1."""
    return "us-east-1" if urlsplit(url).hostname == "sts.amazonaws.com" else region


def _reach(identity: AwsIdentity) -> Reach:
    return Reach.NAMED if identity.trusted else Reach.PUBLIC


def _credentials(answer: Answer, role: Role) -> Token[AwsCredentials]:
    text = answer.body.decode("utf-8", "replace")
    if answer.status != 200:
        code = _CODE.search(text)
        shown = f" {code[1]}" if code else ""
        raise NoToken(f"{answer.where} does not give the role {role.arn}: it answers {answer.status}{shown}")
    key_id, secret, session, expires = (
        _element(text, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    )
    if not key_id or not secret or not session or not instant(expires):
        raise NoToken(f"the answer of {answer.where} holds no credentials")
    return Token(AwsCredentials(key_id, Secret(secret), Secret(session)), instant(expires))


def _element(text: str, name: str) -> str:
    """The text of the one element of this name; the answer has a fixed form, and no reader of XML is needed."""
    found = re.findall(f"<{name}>([^<]{{1,8192}})</{name}>", text)
    value = unescape(found[0].strip()) if len(found) == 1 else ""
    return value if value.isascii() and value.isprintable() else ""
