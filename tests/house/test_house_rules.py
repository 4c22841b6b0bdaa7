"""Each house rule catches what it is there for, and leaves alone what is right beside it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]

WRONG = [
    ("vague-name", "class KeyManager: ..."),
    ("vague-name", "class BaseStore: ..."),
    ("vague-name", "class _HttpUtils: ..."),
    ("reveal", "def f(secret):\n    return secret.reveal()"),
    ("reveal", "def f(secrets):\n    return map(Secret.reveal, secrets)"),
    ("random-id", "from uuid import uuid4"),
    ("random-id", "import uuid\ndef f():\n    return uuid.uuid4()"),
    ("built-sql", "def f(name):\n    return f'SELECT * FROM keys WHERE name = {name}'"),
    ("built-sql", "def f(name):\n    return 'DELETE FROM keys WHERE name = %s' % name"),
    ("built-sql", "def f(name):\n    return 'UPDATE keys SET name = ' + name"),
    ("built-sql", "def f(name):\n    return 'DROP TABLE {}'.format(name)"),
    ("built-sql", "def f(db, table):\n    db.execute(f'{table}')"),
    ("print", "def f():\n    print('x')"),
    ("broad-except", "def f():\n    try:\n        g()\n    except Exception:\n        pass"),
    ("broad-except", "def f():\n    try:\n        g()\n    except (OSError, BaseException) as e:\n        log(e)"),
    ("broad-except", "def f():\n    try:\n        g()\n    except:\n        pass"),
    ("broad-except", "def f():\n    with suppress(Exception):\n        g()"),
    ("loose-task", "def f():\n    asyncio.create_task(g())"),
    ("loose-task", "def f(loop):\n    loop.create_task(g())"),
    ("loose-task", "def f():\n    return asyncio.ensure_future(g())"),
    ("import-effect", "HOME = os.environ.get('HOME')"),
    ("import-effect", "DATA = open('data.json')"),
    ("import-effect", "class A:\n    started = time.time()"),
    ("import-effect", "def f(at=time.time()): ..."),
    ("import-effect", "def table():\n    return load_file()\nTABLE = table()"),
    ("import-effect", "def inner():\n    return load_file()\ndef table():\n    return inner()\nTABLE = table()"),
    ("import-effect", "@register('x')\ndef f(): ..."),
    ("import-effect", "NAMES = [probe(n) for n in range(3)]"),
]

RIGHT = [
    "class Keyring: ...\nclass Database: ...\nclass Manage: ...",
    "def f(number):\n    return f'selected {number} of them'",
    "def f(db, name):\n    db.execute('SELECT * FROM keys WHERE name = ?', (name,))",
    "def f():\n    try:\n        g()\n    except Exception:\n        undo()\n        raise",
    "def f():\n    try:\n        g()\n    except OSError:\n        pass",
    "async def f(group):\n    group.create_task(g())",
    "PATTERN = re.compile('a')\nDECODER = msgspec.json.Decoder(int)\nNAMES = frozenset({'a'})",
    "def table():\n    return tuple(sorted(['b', 'a']))\nTABLE = table()",
    "def f():\n    return os.environ.get('HOME')",
    "f = lambda: os.getcwd()",
    "if TYPE_CHECKING:\n    load()",
    "if __name__ == '__main__':\n    load()",
    "def f(a: g() = 1) -> h(): ...",
]


@pytest.mark.parametrize(("rule", "source"), WRONG)
def test_a_planted_violation_is_found(script: Load, rule: str, source: str) -> None:
    found = script("scripts/house_rules.py").findings({"gateway/planted.py": source})
    assert rule in {finding.rule for finding in found}


@pytest.mark.parametrize("source", RIGHT)
def test_what_is_right_is_left_alone(script: Load, source: str) -> None:
    assert script("scripts/house_rules.py").findings({"gateway/planted.py": source}) == []


@pytest.mark.parametrize(("body", "expected"), [("return (1,)", []), ("return open('rows')", ["wire/rows.py"])])
def test_a_function_of_another_module_is_judged_where_it_is_defined(
    script: Load, body: str, expected: list[str]
) -> None:
    modules = {
        "wire/rows.py": f"def row():\n    {body}",
        "wire/table.py": "from ostiary.wire.rows import row as made\nTABLE = made()",
    }
    assert [finding.path for finding in script("scripts/house_rules.py").findings(modules)] == expected


def test_every_rule_has_a_planted_violation(script: Load) -> None:
    assert {rule for rule, _ in WRONG} == set(script("scripts/house_rules.py").RULES)


@pytest.mark.parametrize("place", ["gateway/edge.py", "gateway/edge.py::Edge.serve", "gateway"])
def test_an_exception_covers_its_file_its_function_or_its_folder(script: Load, place: str) -> None:
    rules = script("scripts/house_rules.py")
    source = "class Edge:\n    def serve(self):\n        print('x')"
    assert rules.judge({"gateway/edge.py": source}, {"print": {place: "why"}}) == []


@pytest.mark.parametrize("place", ["gateway/edge.py::Edge.other", "gateway/edges.py", "gate", "control"])
def test_an_exception_covers_nothing_else_and_is_reported_when_stale(script: Load, place: str) -> None:
    rules = script("scripts/house_rules.py")
    source = "class Edge:\n    def serve(self):\n        print('x')"
    left = rules.judge({"gateway/edge.py": source}, {"print": {place: "why"}})
    assert [finding.path for finding in left] == ["gateway/edge.py", place]


def test_exceptions_name_only_rules_that_exist(script: Load) -> None:
    rules = script("scripts/house_rules.py")
    assert set(rules.ALLOWED) <= set(rules.RULES)
    assert all(reason for places in rules.ALLOWED.values() for reason in places.values())
