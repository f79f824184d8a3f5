"""The shape of the source, as tests: sizes, names, and who may touch what.

What import-linter and ruff already hold (direction, cycles, frameworks at the edges) is not
repeated here.
"""

import ast
import builtins
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from cadenza import events

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "cadenza"
MODULE_LINES = 300
FUNCTION_LINES = 60
ADAPTER_LINES = 250
BANNED_NAMES = {"utils", "helpers", "common", "manager", "service", "base", "core", "handler"}
IRREGULAR_PAST = {"lost"}
LOG_METHODS = {"note", "debug", "info", "warning", "error", "exception", "critical"}
# Joined here, so that this file does not hold what it looks for.
FOREIGN = {
    "a package registry": [
        *("pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js", "npm" + "js.com"),
        *("crates" + ".io", "proxy.golang" + ".org", "rubygems" + ".org"),
    ],
    "a path of one machine": ["tmp/" + "brief", ".py" + "env/", "bash" + "_jobs"],
    "a tool of one workplace": ["farm" + "-", "field-" + "notes", "issues" + " show"],
}
MACHINE_PATH = re.compile(r"(?<![\w./*])/" + r"(?:work|root)(?![\w-])")
LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json", "yarn.lock"}
SQL = re.compile(
    r"\s*(?:SELECT\s|INSERT\s+INTO\s|UPDATE\s+[\w.]+\s+(?:AS\s+\w+\s+|\w+\s+)?SET\s|DELETE\s+FROM\s"
    r"|WITH\s+\w+\s+AS\s|(?:CREATE|ALTER|DROP)\s+(?:TABLE|INDEX|ROLE|SCHEMA|POLICY)\s|TRUNCATE\s)"
)
NOT_BEHIND_A_POOLER = re.compile(
    r"pg_(?:try_)?advisory_(?:un)?lock\s*\(|\bCREATE\s+TEMP|(?:\A|;)\s*(?:LISTEN\s|SET\s+(?!LOCAL\b))"
)


@dataclass(frozen=True, slots=True)
class Module:
    path: str
    text: str
    tree: ast.Module

    @property
    def stem(self) -> str:
        return Path(self.path).stem

    @property
    def is_history(self) -> bool:
        """Migrations are written once and never reshaped, so no size applies to them."""
        return "/migrations/" in self.path


def read_modules(folder: Path) -> list[Module]:
    return [
        Module(
            path=path.relative_to(ROOT).as_posix(),
            text=path.read_text(),
            tree=ast.parse(path.read_text()),
        )
        for path in sorted(folder.rglob("*.py"))
    ]


MODULES = read_modules(SOURCE)
TESTS = read_modules(ROOT / "tests")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node


def dotted(node: ast.expr) -> str:
    """Spell `a.b.c` of an expression; empty when it is something else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case _:
            return ""


def imported(tree: ast.AST) -> Iterator[str]:
    """Every name that is imported, spelled in full."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case _:
                pass


def texts(module: Module) -> Iterator[str]:
    """Every string of the code; docstrings are prose and left out."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose = {
        id(node.body[0].value)
        for node in ast.walk(module.tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def committed() -> list[Path]:
    """Every file that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_there_is_a_source_to_look_at() -> None:
    assert len(MODULES) > 3
    assert SOURCE / "errors.py" in committed()


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {m.path: len(m.text.splitlines()) for m in MODULES if not m.is_history}
    assert {path: lines for path, lines in long.items() if lines > MODULE_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{module.path}:{function.name}"
        for module in [*MODULES, *TESTS]
        if not module.is_history
        for function in functions(module.tree)
        if (function.end_lineno or 0) - function.lineno + 1 > FUNCTION_LINES
    ]
    assert long == []


def test_a_channel_stays_small() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = cast("list[dict[str, object]]", linter["contracts"])
    (independent,) = (c for c in contracts if c["type"] == "independence")
    channels = {name.rpartition(".")[2] for name in cast("list[str]", independent["modules"])}
    long = [
        module.path
        for module in MODULES
        if module.path.startswith("src/cadenza/channels/") and module.stem in channels
        if len(module.text.splitlines()) > ADAPTER_LINES
    ]
    assert long == []


def test_every_module_is_named_for_what_it_is() -> None:
    named = {part for module in MODULES for part in Path(module.path).with_suffix("").parts}
    assert named & BANNED_NAMES == set()


def test_event_names_are_unique_and_in_the_past_tense() -> None:
    names = [*(kind.name for kind in events.EVENTS), *events.NOTES]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    for name in names:
        assert re.fullmatch(r"[a-z]+\.[a-z]+\.[a-z]+", name), name
        last = name.rpartition(".")[2]
        assert last.endswith("ed") or last in IRREGULAR_PAST, name


def test_every_event_class_is_registered() -> None:
    tree = next(module.tree for module in MODULES if module.path.endswith("cadenza/events.py"))
    named = {cls.name for cls in classes(tree) if assigned(cls, "name")}
    assert named - {"Noted"} == {kind.__name__ for kind in events.EVENTS}
    assert events.Noted.name in events.NOTES


def test_only_registered_events_are_logged() -> None:
    known = {*(kind.name for kind in events.EVENTS), *events.NOTES}
    unknown = [
        f"{module.path}:{call.lineno} {call.args[0].value}"
        for module in MODULES
        for call in ast.walk(module.tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in LOG_METHODS
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and call.args[0].value not in known
    ]
    assert unknown == []


def exception_bases() -> dict[str, list[str]]:
    """Every class of the source that is an exception, with its bases' last names."""
    bases = {
        f"{module.path}:{cls.name}": [dotted(base).rpartition(".")[2] for base in cls.bases]
        for module in MODULES
        for cls in classes(module.tree)
    }
    raised = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    while True:
        ours = {
            where.rpartition(":")[2]
            for where, names in bases.items()
            if any(n in raised or n.endswith(("Error", "Exception")) for n in names)
        }
        if ours <= raised:
            return {w: n for w, n in bases.items() if w.rpartition(":")[2] in ours}
        raised |= ours


def test_every_exception_is_one_of_ours() -> None:
    found = exception_bases()
    ours = {"CadenzaError"}
    for _ in found:
        ours |= {where.rpartition(":")[2] for where, names in found.items() if ours & set(names)}
    assert [where for where in found if where.rpartition(":")[2] not in ours] == []


def assigned(cls: ast.ClassDef, name: str) -> list[object]:
    """Return the constants that this class body gives to a name."""
    values: list[object] = []
    for line in cls.body:
        match line:
            case ast.Assign(targets=[target], value=ast.Constant(value=value)):
                values += [value] if dotted(target) == name else []
            case ast.AnnAssign(target=target, value=ast.Constant(value=value)):
                values += [value] if dotted(target) == name else []
            case _:
                pass
    return values


def test_every_exception_has_a_code_of_its_own() -> None:
    found = {where.rpartition(":")[2] for where in exception_bases()}
    codes = {
        f"{module.path}:{cls.name}": assigned(cls, "code")
        for module in MODULES
        for cls in classes(module.tree)
        if cls.name in found
    }
    assert [where for where, given in codes.items() if len(given) != 1] == []
    counted = Counter(code for given in codes.values() for code in given)
    assert [code for code, count in counted.items() if count > 1] == []


def test_no_middleware_hides_the_end_of_a_stream() -> None:
    """Starlette's base class turns an exception in mid-stream into a clean end."""
    banned = "BaseHTTP" + "Middleware"
    users = [m.path for m in MODULES if any(name.endswith(banned) for name in imported(m.tree))]
    assert users == []


def bare_sleeps(module: Module, names: set[str]) -> list[str]:
    """Find sleeps that stand outside every loop: they wait for time, not for a condition."""
    looped = {
        id(inner)
        for loop in ast.walk(module.tree)
        if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
        for inner in ast.walk(loop)
    }
    return [
        f"{module.path}:{call.lineno}"
        for call in ast.walk(module.tree)
        if isinstance(call, ast.Call) and dotted(call.func) in names and id(call) not in looped
        if not (call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)
    ]


def test_nothing_waits_for_time_to_pass() -> None:
    slept = [where for m in MODULES for where in bare_sleeps(m, {"time.sleep"})]
    slept += [w for m in TESTS for w in bare_sleeps(m, {"time.sleep", "asyncio.sleep"})]
    # The pause between two looks of the fixture `until`, which has a deadline.
    assert [where for where in slept if not where.startswith("tests/conftest.py:")] == []
    hidden = {"time.sleep", "asyncio.sleep"}
    assert [m.path for m in [*MODULES, *TESTS] if hidden & set(imported(m.tree))] == []


def test_the_environment_is_read_by_settings_and_the_command_line_only() -> None:
    banned = {"os.environ", "os.getenv", "os.environb", "os.putenv"}
    readers = {
        module.path
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and dotted(node) in banned
    } | {module.path for module in MODULES if banned & set(imported(module.tree))}
    allowed = ("src/cadenza/settings.py", "src/cadenza/cli/")
    assert [path for path in sorted(readers) if not path.startswith(allowed)] == []


def test_sql_is_written_in_stores_only() -> None:
    def may_hold_sql(module: Module) -> bool:
        inside = module.path.startswith("src/cadenza/db/")
        store = "store" in Path(module.path).with_suffix("").parts
        return inside or store or module.path.endswith("telemetry/outcomes.py")

    written = [
        f"{module.path}: {' '.join(text.split())[:60]}"
        for module in MODULES
        if not may_hold_sql(module)
        for text in texts(module)
        if SQL.match(text)
    ]
    assert written == []


def test_no_statement_needs_a_session_of_its_own() -> None:
    """Behind a transaction-mode pooler the next statement may run on another connection."""
    written = [
        f"{module.path}: {' '.join(text.split())[:60]}"
        for module in MODULES
        if not module.is_history
        for text in texts(module)
        if NOT_BEHIND_A_POOLER.search(text)
    ]
    assert written == []


def test_no_committed_text_knows_a_registry_or_one_machine() -> None:
    found: list[str] = []
    for path in committed():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT).as_posix()
        found += [
            f"{name}: {what}" for what, words in FOREIGN.items() if any(w in text for w in words)
        ]
        found += [f"{name}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_no_other_lock_file_disagrees_with_the_pins() -> None:
    assert [path.name for path in committed() if path.name in LOCK_FILES] == []


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_requirements_are_pinned_by_hash_and_come_from_nowhere_in_particular(name: str) -> None:
    lines = (ROOT / "requirements" / name).read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(pins) > 20
    pin = re.compile(r"[\w.-]+(\[[\w,]+\])?==[\w.+!]+( ;[^#]*?)?( +--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in pins if not pin.fullmatch(line)] == []
    whole = "\n".join(lines)
    assert re.findall(r"https?:|file:|--index|--extra|--find|--trusted| @ ", whole) == []
