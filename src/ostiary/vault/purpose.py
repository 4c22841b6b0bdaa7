"""What keys are for: the one table of domain separation. It must not list a string twice."""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """What a data key of an organisation or of the instance is for. Each is random, wrapped, and has versions."""

    DB = "db"
    BLIND_INDEX = "blind-index"
    ROW_MAC = "row-mac"
    # of the instance only
    APIKEY_PEPPER = "apikey-pepper"
    OBJECT_NAME = "object-name"
    JOURNAL = "journal"
    BACKUP = "backup"
    SESSION = "session"
    AUDIT_SIGN = "audit-sign"


class Wrap(StrEnum):
    """What wraps keys. Derived from the key above, never used for data."""

    MASTER = "mk-wrap"  # the master key wraps the instance root key
    ORGANIZATION = "org-kek-wrap"  # the root key wraps the key of each organisation
    DATA = "data-key-wrap"  # that key wraps data keys
    STAMP = "instance-stamp"  # the root key seals what the keystore says of the instance


OF_EVERY_SCOPE = (Purpose.DB, Purpose.BLIND_INDEX, Purpose.ROW_MAC)
OF_THE_INSTANCE = tuple(Purpose)
# Digests and indexes are looked up by equality, so these keys stay when the others are rotated.
KEPT = (Purpose.BLIND_INDEX, Purpose.APIKEY_PEPPER, Purpose.OBJECT_NAME, Purpose.AUDIT_SIGN)
