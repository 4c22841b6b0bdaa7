"""The house rules that a linter does not know, as code: each finds its violations in the syntax tree of a module.

It must not import what it reads. Exceptions stand in `ALLOWED`, each with its reason; a stale one is a finding too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "ostiary"

VAGUE = re.compile(r"^_?Base[A-Z]|(Manager|Handler|Helper|Helpers|Util|Utils|Wrapper|Common|Misc)$")
SQL = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|PRAGMA|WITH|VACUUM|ATTACH)\s")
RUNS_SQL = {"text", "execute", "executemany", "executescript", "exec_driver_sql"}
CONSTRUCTOR = re.compile(r"^_?[A-Z][A-Za-z0-9]*$")
# Functions that may be called while a module is imported: pure, and they leave nothing behind.
PURE = {
    *("bytes", "dict", "frozenset", "int", "len", "max", "min", "range", "sorted", "str", "sum", "tuple", "type"),
    *(
        "append",
        "dumps",
        "encode",
        "format",
        "fromhex",
        "items",
        "join",
        "keys",
        "lower",
        "replace",
        "split",
        "strip",
        "values",
    ),
    *("array", "column", "compile", "dataclass", "date", "field", "fields", "namedtuple", "timedelta", "wraps"),
}

# rule -> {place: reason}. A place is a path below the package, a folder, or "path::Class.function".
ALLOWED: dict[str, dict[str, str]] = {
    "reveal": {
        "vault": "seals and opens",
    },
    "print": {"cli": "the command line prints"},
    "broad-except": {},
    "loose-task": {},
    "import-effect": {},
}


@dataclass(frozen=True)
class Scene:
    """A node of a module's syntax tree, the function around it, and whether importing the module runs it.

    `run` names the module's functions that the import runs.
    """

    node: ast.AST
    function: str
    at_import: bool
    run: frozenset[str]


@dataclass(frozen=True)
class Finding:
    """One violation: the rule's name, where it is, and what is wrong."""

    rule: str
    path: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: [{self.rule}] {self.text}" + (f" (in {self.function})" if self.function else "")


def scenes(
    node: ast.AST, function: str = "", at_import: bool = True, run: frozenset[str] = frozenset()
) -> Iterator[Scene]:
    """Every node below `node`. Annotations are left out: with postponed evaluation nothing runs them.

    Args:
        node: a module, or a part of one.
        function: the function or class around it.
        at_import: whether importing the module runs it.
        run: functions of the module whose bodies the import runs too.
    """
    for child in ast.iter_child_nodes(node):
        if _is_guarded(child):
            continue
        yield Scene(child, function, at_import, run)
        match child:
            case ast.FunctionDef(name=name, body=body) | ast.AsyncFunctionDef(name=name, body=body):
                inner = f"{function}.{name}".lstrip(".")
                outside = [*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)]
                yield from _each(outside, function, at_import, run)
                yield from _each(body, inner, inner in run, run)
            case ast.Lambda(body=answer):
                yield from _each([answer], function, False, run)
            case ast.ClassDef(name=name):
                yield from scenes(child, f"{function}.{name}".lstrip("."), at_import, run)
            case ast.AnnAssign(value=value):
                yield from _each([value] if value else [], function, at_import, run)
            case _:
                yield from scenes(child, function, at_import, run)


def _each(nodes: Sequence[ast.AST], function: str, at_import: bool, run: frozenset[str]) -> Iterator[Scene]:
    """The scenes of some nodes and of all below them."""
    holder = ast.Tuple(elts=list(nodes))  # type: ignore[arg-type]  # any node with children will do
    return scenes(holder, function, at_import, run)


def run_at_import(tree: ast.Module) -> frozenset[str]:
    """The module's own functions that importing it calls, directly or through another."""
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    run: frozenset[str] = frozenset()
    while True:
        live = (scene.node for scene in scenes(tree, run=run) if scene.at_import)
        calls = {node.func.id for node in live if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        if calls & own == run:
            return run
        run = frozenset(calls & own)


def _is_guarded(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:` or `if __name__ == …:`, which an import does not enter."""
    if not isinstance(node, ast.If):
        return False
    test = node.test.left if isinstance(node.test, ast.Compare) else node.test
    return last_name(test) in {"TYPE_CHECKING", "__name__"}


def last_name(node: ast.AST) -> str:
    """`c` for `a.b.c` and for `c`, else nothing."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def called(node: ast.AST) -> str:
    """The last name of what a call calls, else nothing."""
    return last_name(node.func) if isinstance(node, ast.Call) else ""


def vague_name(scene: Scene) -> str | None:
    """Class names that say nothing of what the class is."""
    node = scene.node
    if isinstance(node, ast.ClassDef) and VAGUE.search(node.name):
        return f"class {node.name} has a name that says nothing; see the table of names"
    return None


def reveal(scene: Scene) -> str | None:
    """A `Secret` shown outside the few places that have to."""
    return "only signing and sealing may reveal a Secret" if last_name(scene.node) == "reveal" else None


def random_id(scene: Scene) -> str | None:
    """Ids that carry no time, which scatter over an index, or carry the machine's address."""
    name = scene.node.name if isinstance(scene.node, ast.alias) else last_name(scene.node)
    return f"{name}: ids are time-ordered, see core/ids.py" if name in {"uuid1", "uuid4"} else None


def built_sql(scene: Scene) -> str | None:
    """SQL put together from pieces of text."""
    node = scene.node
    built = _is_built(node) and SQL.match(_leading_text(node))
    passed = called(node) in RUNS_SQL and isinstance(node, ast.Call) and node.args and _is_built(node.args[0])
    return "SQL is never built from text: use bound parameters" if built or passed else None


def _is_built(node: ast.AST) -> bool:
    """Whether this text is put together at run time: f-string, `%`, `+` or `.format`."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
        return bool(_leading_text(node)) and not isinstance(node.right, ast.Constant)
    return called(node) == "format" and bool(_leading_text(node))


def _leading_text(node: ast.AST) -> str:
    """The literal text that a put-together text begins with."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[first, *_]):
            return _leading_text(first)
        case ast.BinOp(left=left):
            return _leading_text(left)
        case ast.Call(func=ast.Attribute(value=value, attr="format")):
            return _leading_text(value)
    return ""


def prints(scene: Scene) -> str | None:
    """Output that is neither an answer nor a structured log line."""
    return "print belongs to the command line" if called(scene.node) == "print" else None


def broad_except(scene: Scene) -> str | None:
    """Failures swallowed without knowing which. Cleaning up and raising again is fine."""
    node = scene.node
    broad = {"Exception", "BaseException"}
    if isinstance(node, ast.ExceptHandler):
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        if not raises_again and any(kind is None or last_name(kind) in broad for kind in kinds):
            return "only a boundary may catch every exception"
    if called(node) == "suppress" and isinstance(node, ast.Call) and any(last_name(a) in broad for a in node.args):
        return "only a boundary may suppress every exception"
    return None


def loose_task(scene: Scene) -> str | None:
    """Tasks that nobody is seen to wait for. A task group's own are fine (`group.create_task`)."""
    node = scene.node
    if called(node) not in {"create_task", "ensure_future"}:
        return None
    owner = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    return None if owner is not None and last_name(owner) == "group" else "tasks belong to a task group"


def import_effect(scene: Scene) -> str | None:
    """Calls that run when a module is imported, beyond building values."""
    name = called(scene.node)
    if not scene.at_import or not isinstance(scene.node, ast.Call) or name in PURE or CONSTRUCTOR.match(name):
        return None
    if isinstance(scene.node.func, ast.Name) and name in scene.run:
        return None  # the module's own function: what it calls is judged in its place
    return f"importing calls {ast.unparse(scene.node.func)}(): importing a module does nothing"


RULES: dict[str, Callable[[Scene], str | None]] = {
    "vague-name": vague_name,
    "reveal": reveal,
    "random-id": random_id,
    "built-sql": built_sql,
    "print": prints,
    "broad-except": broad_except,
    "loose-task": loose_task,
    "import-effect": import_effect,
}


def findings(path: str, source: str) -> list[Finding]:
    """All violations in one module, allowed or not. `path` is relative to the package."""
    found = []
    tree = ast.parse(source)
    for scene in scenes(tree, run=run_at_import(tree)):
        for rule, check in RULES.items():
            text = check(scene)
            if text is not None:
                found.append(Finding(rule, path, getattr(scene.node, "lineno", 0), scene.function, text))
    return found


def excuse(finding: Finding, allowed: dict[str, dict[str, str]]) -> tuple[str, str] | None:
    """The entry of `allowed` that covers a finding, as (rule, place)."""
    exact = f"{finding.path}::{finding.function}"
    for place in allowed.get(finding.rule, {}):
        if place in {finding.path, exact} or finding.path.startswith(f"{place}/"):
            return finding.rule, place
    return None


def judge(modules: dict[str, str], allowed: dict[str, dict[str, str]]) -> list[Finding]:
    """What is left of all findings once the exceptions are taken away, and the exceptions that excuse nothing."""
    left: list[Finding] = []
    used: set[tuple[str, str]] = set()
    for path, source in modules.items():
        for finding in findings(path, source):
            entry = excuse(finding, allowed)
            used.update([entry] if entry else [])
            left.extend([] if entry else [finding])
    for rule, places in allowed.items():
        stale = (place for place in places if (rule, place) not in used)
        left.extend(Finding(rule, place, 0, "", "nothing here needs this exception any more") for place in stale)
    return left


def main() -> int:
    """Judge the package; print what is wrong."""
    modules = {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    left = judge(modules, ALLOWED)
    for finding in left:
        print(finding)
    print(f"{len(modules)} modules, {len(RULES)} rules, {len(left)} findings")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
