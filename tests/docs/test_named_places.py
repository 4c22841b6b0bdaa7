"""What the pages name exists: files, symbols, calls. A page that lies about the code fails here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from pages import ROOT, pages

from ostiary.control.api.routes import ROUTES
from ostiary.gateway.app import RouteTable
from ostiary.wire.dialects.openai_chat import raw
from ostiary.wire.realtime import events
from ostiary.wire.registry import SPOKEN as DIALECTS

PACKAGE = ROOT / "src" / "ostiary"
TICKED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FILE = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*(?:\.(?:py|md|toml|lock|txt|jsonl)|/)")
SYMBOL = re.compile(r"(_?[A-Z]\w*[a-z]\w*(?:\.\w+)?|\w+\(\))")  # `Class`, `Class.member`, `function()`
CALL = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/\S+)")
# Made when the gateway runs, or by a tool: not in the repository.
MADE = {"ostiary-data/", "bench/out/", "bench/.peers/"}
# Words of HTTP that look like names of classes.
HEADERS = {"Host", "Expect", "Authorization"}
SELF = {"/health/liveliness", "/health/liveness", "/health/readiness", "/metrics", "/openapi.json", "/v1/models",
        "/v1/models/{id}"}  # fmt: skip
PAGES = pages()


def ticked(text: str) -> list[str]:
    """What stands between backticks, outside code blocks."""
    return TICKED.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def defined() -> set[str]:
    """Every class, function, constant and member of the package: `name`, `Class`, `Class.member`."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names |= _own(tree.body)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{member}" for member in _own(node.body)}
    return names


def _own(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


DEFINED = defined()


def is_there(name: str) -> bool:
    """Whether a path is one of the repository, or of the package."""
    if name in MADE or any(name.startswith(made) for made in MADE):
        return True
    if "/" not in name.rstrip("/"):
        return (ROOT / name).exists() or any(PACKAGE.rglob(name.rstrip("/")))
    return any(any(top.glob(name.rstrip("/"))) for top in (ROOT, PACKAGE))


SPOKEN = (*(each for dialect in DIALECTS.values() for each in dialect.endpoints), *raw.ENDPOINTS, *events.ENDPOINTS)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    missing = [name for name in ticked(PAGES[page]) if FILE.fullmatch(name) and not is_there(name)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_symbol_that_a_page_names_exists(page: str) -> None:
    named = {name.removesuffix("()") for name in ticked(PAGES[page]) if SYMBOL.fullmatch(name)}
    assert sorted(named - HEADERS - DEFINED) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_call_that_a_page_names_is_served(page: str) -> None:
    table = RouteTable(SPOKEN)
    management = {(route.method, route.path) for route in ROUTES}
    unknown = [
        text
        for text in ticked(PAGES[page])
        if (call := CALL.fullmatch(text))
        and call[2] not in SELF
        and (call[1], call[2]) not in management
        and table.find(call[1].encode(), call[2].replace("{id}", "x").replace("{model}", "m")) is None
    ]
    assert unknown == []


def test_the_readme_names_every_operation() -> None:
    named = set(ticked(PAGES["README.md"]))
    served = {f"{endpoint.method} {endpoint.prefixes[0]}{endpoint.path}" for endpoint in SPOKEN}
    assert sorted(served - named) == []


def test_the_map_has_a_way_to_every_room() -> None:
    text = PAGES["docs/life-of-a-request.md"]
    inside = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    rooms = {str(path.parent) for path in inside if path.parent != Path()}
    assert sorted(room for room in rooms if f"`{room}/" not in text) == []


@pytest.mark.parametrize("name", ["Nothing.here", "Exchange.nothing", "no_such_thing()"])
def test_a_symbol_that_is_not_there_is_noticed(name: str) -> None:
    assert SYMBOL.fullmatch(name)
    assert name.removesuffix("()") not in DEFINED


@pytest.mark.parametrize("name", ["gateway/nowhere.py", "nowhere.md", "docs/nowhere/"])
def test_a_file_that_is_not_there_is_noticed(name: str) -> None:
    assert FILE.fullmatch(name)
    assert not is_there(name)
