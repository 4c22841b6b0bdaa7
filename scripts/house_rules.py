"""The house rules that a linter does not know, as code: each finds its violations in the syntax tree of a module.

It must not import what it reads. Exceptions stand in `ALLOWED`, each with its reason; a stale one is a finding too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Place: TypeAlias = tuple[str, str]  # path of a module below the package, name of a function in it

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
        "fromkeys",
        "items",
        "join",
        "keys",
        "lower",
        "maketrans",
        "replace",
        "split",
        "strip",
        "values",
    ),
    *(
        "array",
        "attrgetter",
        "column",
        "compile",
        "dataclass",
        "date",
        "field",
        "fields",
        "getattr",
        "index",
        "itemgetter",
        "namedtuple",
        "property",
        "staticmethod",
    ),
    *("map", "text", "timedelta", "wraps"),
}

# rule -> {where: reason}. Where is a path below the package, a folder, or "path::Class.function".
ALLOWED: dict[str, dict[str, str]] = {
    "reveal": {
        "vault": "seals and opens",
        "gateway/signing": "signs",
        "cli/bootstrap.py": "digests the administrator's key and keys the vault once, at the start",
        "cli/status.py::Status.metrics": "compares digests of the metrics token",
        "cli/unlock.py::database_url": "connects to the database that the configuration names",
        "cli/unlock.py::key_slots": "connects to the keystore that the environment names",
    },
    "built-sql": {
        "store/bulk.py::Bulk.__init__": "names of our own tables and columns; values are bound",
        "store/migrations/first/isolation.py": "tables, roles and policies take no bound parameters; all are constants",
        "store/sqlite.py::_configure": "pragmas take no bound parameters; all are constants",
        "testing/postgres.py": "names of databases that a test has chosen",
    },
    "print": {
        "cli": "the command line prints",
        "observe/log.py::Log.write": "writes the log",
        "testing/provider.py::_serve_forever": "a program of its own says where it listens",
    },
    "broad-except": {
        "control/api/app.py": "last resort of the management API: an envelope for the caller, the error for the log",
        "gateway/ledger/flush.py": "a store may fail in any way: the records stay and are tried again",
        "testing/provider.py": "hands what went wrong in the fake provider's thread to the test",
    },
    "loose-task": {
        "cli/house.py::House.start": "holds the tasks of the process, reports their failures, ends them",
        "gateway/edge.py": "one task per exchange, held and cancelled by its connection",
        "gateway/signing/tokens.py": "a fetch that several wait for outlives each of them; held, and ended by close",
        "gateway/key_reads.py": "a read that several wait for outlives each of them; it is held until it ends",
        "testing/provider.py": "one task per answer, held and cancelled by its connection",
    },
    "import-effect": {
        "store/schema/columns.py": "declares tables: its functions only sort their arguments",
        "store/migrations/env.py": "a script that Alembic runs, imported by nobody",
        "testing/plugin.py": "pytest registers fixtures",
    },
}


@dataclass(frozen=True)
class Scene:
    """A node of a module's syntax tree, the function around it, and whether importing the module runs it.

    `known` are the names that the module has for functions of the package.
    """

    node: ast.AST
    function: str
    at_import: bool
    known: Collection[str]


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
    node: ast.AST,
    function: str = "",
    at_import: bool = True,
    *,
    run: Collection[str] = (),
    known: Collection[str] = (),
) -> Iterator[Scene]:
    """Every node below `node`. Annotations are left out: with postponed evaluation nothing runs them.

    Args:
        node: a module, or a part of one.
        function: the function or class around it.
        at_import: whether importing the module runs it.
        run: functions of the module whose bodies an import runs too.
        known: the names that the module has for functions of the package.
    """
    for child in ast.iter_child_nodes(node):
        if _is_guarded(child):
            continue
        yield Scene(child, function, at_import, known)
        match child:
            case ast.FunctionDef(name=name, body=body) | ast.AsyncFunctionDef(name=name, body=body):
                inner = f"{function}.{name}".lstrip(".")
                outside = [*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)]
                yield from scenes(_holder(outside), function, at_import, run=run, known=known)
                yield from scenes(_holder(body), inner, inner in run, run=run, known=known)
            case ast.Lambda(body=answer):
                yield from scenes(_holder([answer]), function, False, run=run, known=known)
            case ast.ClassDef(name=name):
                inner = f"{function}.{name}".lstrip(".")
                yield from scenes(child, inner, at_import, run=run, known=known)
            case ast.AnnAssign(value=value):
                yield from scenes(_holder([value] if value else []), function, at_import, run=run, known=known)
            case _:
                yield from scenes(child, function, at_import, run=run, known=known)


def _holder(nodes: Sequence[ast.AST]) -> ast.AST:
    """A node that has these below it."""
    return ast.Tuple(elts=list(nodes))  # type: ignore[arg-type]  # any node with children will do


def functions_of(trees: Mapping[str, ast.Module]) -> dict[str, dict[str, Place]]:
    """path -> the name that a module has for a function of the package -> where that function is defined."""
    own = {path: {n.name for n in tree.body if isinstance(n, ast.FunctionDef)} for path, tree in trees.items()}
    known = {path: {name: (path, name) for name in names} for path, names in own.items()}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ostiary."):
                source = f"{str(node.module).removeprefix('ostiary.').replace('.', '/')}.py"
                defined = own.get(source, set())
                known[path] |= {a.asname or a.name: (source, a.name) for a in node.names if a.name in defined}
    return known


def run_at_import(trees: Mapping[str, ast.Module], known: Mapping[str, Mapping[str, Place]]) -> set[Place]:
    """The functions of the package that importing one of its modules calls, directly or through another."""
    run: set[Place] = set()
    while True:
        found = set()
        for path, tree in trees.items():
            live = frozenset(name for place, name in run if place == path)
            nodes = (scene.node for scene in scenes(tree, run=live) if scene.at_import)
            names = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
            found |= {known[path][name] for name in names & set(known[path])}
        if found == run:
            return run
        run = found


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
    if isinstance(scene.node.func, ast.Name) and name in scene.known:
        return None  # a function of the package: what it calls is judged in its place
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


def findings(modules: Mapping[str, str]) -> list[Finding]:
    """All violations in some modules, allowed or not.

    Args:
        modules: path relative to the package -> source.
    """
    trees = {path: ast.parse(source) for path, source in modules.items()}
    known = functions_of(trees)
    run = run_at_import(trees, known)
    found = []
    for path, tree in trees.items():
        live = {name for place, name in run if place == path}
        for scene in scenes(tree, run=live, known=known[path]):
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


def judge(modules: Mapping[str, str], allowed: dict[str, dict[str, str]]) -> list[Finding]:
    """What is left of all findings once the exceptions are taken away, and the exceptions that excuse nothing."""
    left: list[Finding] = []
    used: set[tuple[str, str]] = set()
    for finding in findings(modules):
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
