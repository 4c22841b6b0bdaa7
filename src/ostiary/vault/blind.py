"""One canonical form of what is looked up by a blind index. It must not make an index: that takes a scope's key."""

from __future__ import annotations

import unicodedata


def canonical_text(text: str) -> str:
    """A name as it is compared: NFKC, without white space around it. Upper and lower case stay different."""
    return unicodedata.normalize("NFKC", text).strip()


def canonical_email(text: str) -> str:
    """An e-mail address as it is compared: the domain in lower case, the part before it as it is (RFC 5321, 2.4).

    What has no `@` is a name like any other.
    """
    local, at, domain = canonical_text(text).rpartition("@")
    # the full stops that IDNA takes for one (RFC 3490, 3.1); NFKC has already turned the half- and full-width ones
    return local + at + domain.casefold().replace("\u3002", ".").rstrip(".") if at else domain
