"""What is encrypted with what: the list of strings, algorithms and sizes, so that a change of one is seen."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import ostiary
from ostiary.vault import envelope, scope
from ostiary.vault.keystore import KEK
from ostiary.vault.purpose import KEPT, OF_EVERY_SCOPE, OF_THE_INSTANCE, Purpose, Wrap

PACKAGE = Path(ostiary.__file__).parent
VAULT = PACKAGE / "vault"
DOMAIN = re.compile(r"ostiary/[a-z0-9-]+/[a-z0-9/-]+")


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.attack("CRY-19")
def test_cry_19_the_purposes_are_these() -> None:
    assert [str(one) for one in OF_EVERY_SCOPE] == ["db", "blind-index", "row-mac"]
    assert [str(one) for one in OF_THE_INSTANCE] == [
        "db", "blind-index", "row-mac", "apikey-pepper", "object-name", "journal", "backup", "session", "audit-sign",
    ]  # fmt: skip
    assert [str(one) for one in Wrap] == ["mk-wrap", "org-kek-wrap", "data-key-wrap", "instance-stamp"]
    assert {str(one) for one in KEPT} == {"blind-index", "apikey-pepper", "object-name", "audit-sign"}
    assert Counter([*Purpose, *Wrap, KEK]).most_common(1)[0][1] == 1


@pytest.mark.attack("CRY-19")
def test_cry_19_sizes_are_those_of_the_format() -> None:
    assert (envelope.KEY_LENGTH, envelope.SALT_LENGTH, envelope.TAG_LENGTH, envelope.KEY_ID_LENGTH) == (32, 32, 16, 8)
    assert (envelope.HEADER_LENGTH, scope.INDEX_LENGTH) == (76, 16)


@pytest.mark.attack("CRY-19")
def test_cry_19_no_string_of_domain_separation_occurs_in_two_modules() -> None:
    where: dict[str, set[str]] = {}
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            value = node.value if isinstance(node, ast.Constant) else None
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if isinstance(text, str) and "\n" not in text:
                for found in DOMAIN.findall(text):
                    where.setdefault(found, set()).add(module.relative_to(PACKAGE).as_posix())
    assert "ostiary/1/value" in where
    assert {text: modules for text, modules in where.items() if len(modules) > 1} == {}


@pytest.mark.attack("CRY-19")
def test_cry_19_no_weak_algorithm_and_no_weak_randomness() -> None:
    modules = sorted(VAULT.rglob("*.py"))
    assert VAULT / "envelope.py" in modules
    for module in modules:
        names = set(imported(module))
        assert not {name for name in names if name == "random" or name.startswith("random.")}, module
        assert not {name for name in names if "ciphers.modes" in name or name.endswith(("MD5", "SHA1", ".modes"))}, (
            module
        )
        assert not re.search(r"\bmd5\b|\bsha1\b|\bECB\b", module.read_text(), re.IGNORECASE), module
