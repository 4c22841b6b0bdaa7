"""Whether an admin key is worth the name. It must not repeat the key."""

from __future__ import annotations

MIN_LENGTH = 16
LONG = 32  # from here on, a beginning such as `sk-my-` is only a label
MIN_DISTINCT = 8  # different characters after the prefix; `sk-aaaaaaaaaaaaaaaa` is long and no secret

# Keys of published examples, and what people make of them.
_PUBLISHED = ("sk-1234", "sk-my-", "sk-test", "sk-master", "sk-litellm", "sk-proxy", "sk-admin", "sk-change", "sk-your")
_RUNS = ("0123456789", "1234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "password", "changeme", "secret")


def weakness(key: str, *, dev: bool) -> str:
    """Why `key` cannot be the admin key; empty when it can.

    Args:
        key: the key's text.
        dev: accept keys that are easy to guess.
    """
    if not key.strip():
        return "is empty"
    if not key.startswith("sk-"):
        return "must start with 'sk-'"
    if any(not 33 <= ord(char) <= 126 for char in key):
        return "holds a character that no header can carry"
    if dev:
        return ""
    if len(key) < MIN_LENGTH:
        return f"is shorter than {MIN_LENGTH} characters and can be guessed"
    published = len(key) < LONG and key.lower().startswith(_PUBLISHED)
    if published or len(set(key[3:])) < MIN_DISTINCT or _is_run(key[3:].lower()):
        return "is an example or a pattern and can be guessed"
    return ""


def _is_run(text: str) -> bool:
    """Whether the text is little else than a well-known run, such as `1234567890123456`."""
    rest = text
    for run in _RUNS:
        for length in range(len(run), 3, -1):
            rest = rest.replace(run[:length], "")
    return len(rest) * 2 < len(text)
