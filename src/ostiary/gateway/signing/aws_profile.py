"""Profiles of the AWS configuration files. It must not run a program or open a browser, as some profiles ask for.

After "Configuration and credential file settings" of the AWS SDKs reference guide: sections `[profile NAME]` in
`config`, `[NAME]` in `credentials`, where the latter wins.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping

from ostiary.core.secret import Secret
from ostiary.gateway.signing.bearer import text_of
from ostiary.gateway.signing.sigv4 import AwsCredentials
from ostiary.gateway.signing.tokens import NoToken

DEFAULT = "default"
MOST_ROLES = 5

_NOT_OFFERED = {
    "sso_session": "signs in by a browser",
    "sso_start_url": "signs in by a browser",
    "login_session": "signs in by a browser",
    "credential_process": "runs a program",
    "mfa_serial": "asks for a code of a device",
}


class Profile:
    """One profile: keys, or a role and where the credentials to take it on come from. Never shown: it holds keys."""

    __slots__ = ("_settings", "name")

    def __init__(self, name: str, settings: Mapping[str, str]) -> None:
        self.name = name
        self._settings = settings

    def get(self, name: str) -> str:
        """A setting; empty where it is absent."""
        return self._settings.get(name, "")

    @property
    def keys(self) -> AwsCredentials | None:
        """The static keys, if it has any."""
        key_id, secret = self.get("aws_access_key_id"), self.get("aws_secret_access_key")
        session = self.get("aws_session_token")
        if not key_id or not secret:
            return None
        return AwsCredentials(key_id, Secret(secret), Secret(session) if session else None)

    def refuse_what_is_not_offered(self) -> None:
        """Raises NoToken where only a person or a program could give the credentials."""
        for name, does in _NOT_OFFERED.items():
            if self.get(name):
                raise NoToken(f"the AWS profile {self.name} {does}, which is not offered")


class Profiles:
    """All profiles of the two files, as they are at this moment."""

    def __init__(self, by_name: Mapping[str, Mapping[str, str]]) -> None:
        self._by_name = by_name

    def find(self, name: str) -> Profile | None:
        """The profile of this name."""
        settings = self._by_name.get(name)
        return None if settings is None else Profile(name, settings)


async def read_profiles(config_file: str, credentials_file: str, *, must_exist: bool) -> Profiles:
    """The profiles.

    Args:
        config_file, credentials_file: paths; one may be missing.
        must_exist: whether a machine without both files is a failure.

    Raises:
        NoToken: a file cannot be read, or is none of this kind.
    """
    by_name: dict[str, dict[str, str]] = {}
    missing = 0
    for path, prefixed in ((config_file, True), (credentials_file, False)):
        try:
            text = await text_of(path) if path else ""
        except NoToken:
            missing += 1
            if missing == 2 and must_exist:
                raise
            continue
        for section, settings in _sections(text, path).items():
            name = section.removeprefix("profile ").strip() if prefixed else section
            if not prefixed or section == DEFAULT or section.startswith("profile "):
                by_name.setdefault(name, {}).update(settings)
    return Profiles(by_name)


def _sections(text: str, path: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(default_section="\0", strict=False, allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error:
        raise NoToken(f"{path} is not an AWS configuration file") from None  # the error quotes the line
    return {name: {key: value or "" for key, value in parser.items(name)} for name in parser.sections()}
