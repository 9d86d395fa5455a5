"""What the documentation says in code, held against the public API: programs, and what stands between backquotes.

Nothing is run here. Names below `imapipe`, keyword arguments of what is known, and attributes of what has a usual name
(`pool`, `message`, `report` …) must exist; what stands between backquotes must be a word of the source.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.test_public_snapshot import MODULES

import imapipe
from imapipe.contrib import jobs as contrib_jobs

ROOT: Final = Path(__file__).parents[1]
# By what name the pages call them, where a block has no import of it.
USUAL: Final = {
    "imapipe": "imapipe",
    "q": "imapipe.search",
    "search": "imapipe.search",
    "sinks": "imapipe.sinks",
    "events": "imapipe.events",
}
# A variable of this name is one of these.
OF_A_KIND: Final[Mapping[str, tuple[type, ...]]] = {
    "pool": (imapipe.Pool,),
    "message": (imapipe.Message,),
    "group": (imapipe.MailboxGroup,),
    "job": (imapipe.Pipeline, imapipe.AccountPipeline, imapipe.ChangePipeline, contrib_jobs.Job),
    "jobs": (contrib_jobs.JobManager,),
    "pools": (contrib_jobs.Pools,),
    "report": tuple(getattr(imapipe, name) for name in imapipe.__all__ if name.endswith("Report")),
    "plan": (imapipe.JobPlan, imapipe.AccountPlan, imapipe.ChangePlan),
    "connection": (imapipe.Lease,),
    "snapshot": (imapipe.ProgressSnapshot, imapipe.MetricsSnapshot),
}


@dataclass(frozen=True)
class Block:
    """A piece of code of a page.

    Attributes:
        page: The page.
        line: Where it begins.
        language: What it is said to be: `python`, `{testcode}`, `{code-block} python`, `sh` …
        code: The code.
    """

    page: str
    line: int
    language: str
    code: str

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"


def pages() -> Sequence[Path]:
    """What people read: the README and the documentation, without what is generated."""
    written = (path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
    return [ROOT / "README.md", *sorted(path for path in written if path.name != "modules.md")]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page; what is written `{code-block} python` is of other libraries, and named so."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\S+(?: \w+)?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 2
        yield Block(str(page.relative_to(ROOT)), line, match[1], match[2])


def words(page: Path) -> Iterator[Block]:
    """What stands between backquotes in the text of a page."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", lambda match: "\n" * match[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        for _, code in re.findall(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", line):
            yield Block(str(page.relative_to(ROOT)), number, "words", code.strip().replace("\\|", "|"))


def examples_in_docstrings(path: Path) -> Iterator[str]:
    """What stands behind `::` in the docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = f"{ast.get_docstring(node) or ''}\n\n"
            yield from (textwrap.dedent(code) for code in re.findall(r"::\n\n((?:(?:    .*)?\n)+)", text))


# -- the API ---------------------------------------------------------------------------------------


@cache
def _everything() -> Mapping[str, Sequence[object]]:
    """All that is public, by its simple name."""
    found: dict[str, list[object]] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for each in module.__all__:
            value = getattr(module, each)
            if value not in found.setdefault(each, []):
                found[each].append(value)
    return found


@cache
def public() -> Mapping[str, object]:
    """What is public, by its simple name. Of two that are called the same, imports say which is meant."""
    return {name: values[0] for name, values in _everything().items() if len(values) == 1}


@cache
def methods() -> Mapping[str, Sequence[inspect.Signature]]:
    """The methods of public classes, by name."""
    found: dict[str, list[inspect.Signature]] = {}
    for kind in (each for values in _everything().values() for each in values):
        if inspect.isclass(kind):
            for name, each in inspect.getmembers(kind, callable):
                if not name.startswith("_") and (signature := _signature(each)) is not None:
                    found.setdefault(name, []).append(signature)
    return found


def has(kind: type, name: str) -> bool:
    """Whether objects of a class have an attribute of this name."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    if hasattr(kind, name) or name in {each.name for each in fields}:
        return True
    if any(name in getattr(base, "__annotations__", ()) for base in kind.__mro__):
        return True
    # Set by __init__, and described there.
    return re.search(rf"^ +{name}: ", inspect.getdoc(kind) or "", re.MULTILINE) is not None


def _signature(each: object) -> inspect.Signature | None:
    try:
        return inspect.signature(each)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _takes(signature: inspect.Signature, keyword: str) -> bool:
    parameters = signature.parameters.values()
    return any(
        each.kind is each.VAR_KEYWORD or (each.name == keyword and each.kind is not each.POSITIONAL_ONLY)
        for each in parameters
    )


# -- a piece of code -------------------------------------------------------------------------------


def parse(code: str) -> ast.Module | None:
    """Code of a page as a tree; None where it is no Python. `…` stands for what is left out."""
    shown = code.strip().replace("…", "...")
    if shown.startswith("."):
        shown = f"_{shown}"
    for each in (shown, f"{shown}\n pass", f"{shown}: pass"):
        indented = "\n".join(f" {line}" for line in each.splitlines())
        try:
            return ast.parse(f"async def _():\n{indented}")
        except SyntaxError:
            continue
    return None


def problems(tree: ast.AST) -> Iterator[str]:
    """What is not there: modules and names that are imported, attributes, keyword arguments."""
    names: dict[str, object] = {name: importlib.import_module(module) for name, module in USUAL.items()}
    names |= public()
    own: set[str] = set()
    assigned: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "imapipe":
            yield from _imported(node, names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imported = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            own |= imported - {"imapipe"}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        if isinstance(node, ast.Assign):
            targets = [each for target in node.targets for each in ast.walk(target)]
            assigned |= {each.id for each in targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.For):
            assigned |= {each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)}
    for name in own:
        names.pop(name, None)
    # What a program assigns to a usual name may be something else.
    kinds = {name: kind for name, kind in OF_A_KIND.items() if name not in assigned}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from _attribute(node, names, kinds)
        elif isinstance(node, ast.Call):
            yield from _call(node, names, kinds)


def _imported(node: ast.ImportFrom, names: dict[str, object]) -> Iterator[str]:
    module = importlib.import_module(node.module or "")
    for alias in node.names:
        try:
            names[alias.asname or alias.name] = getattr(module, alias.name)
        except AttributeError:
            try:
                names[alias.asname or alias.name] = importlib.import_module(f"{node.module}.{alias.name}")
            except ImportError:
                yield f"{node.module} has no {alias.name}"


def _value(node: ast.expr, names: Mapping[str, object]) -> object:
    """What an expression is, where that is known: a module, a class, a function; else None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, names)
        return getattr(owner, node.attr, None) if isinstance(owner, types.ModuleType | type) else None
    return None


def _attribute(node: ast.Attribute, names: Mapping[str, object], kinds: Mapping[str, Sequence[type]]) -> Iterator[str]:
    owner = _value(node.value, names)
    if isinstance(owner, types.ModuleType) and not hasattr(owner, node.attr):
        if not hasattr(owner, "__path__") or importlib.util.find_spec(f"{owner.__name__}.{node.attr}") is None:
            yield f"{owner.__name__} has no {node.attr}"
    elif isinstance(owner, type) and not has(owner, node.attr):
        yield f"{owner.__name__} has no {node.attr}"
    elif isinstance(node.value, ast.Name) and node.value.id in kinds:
        if not any(has(kind, node.attr) for kind in kinds[node.value.id]):
            yield f"{node.value.id} has no {node.attr}"


def _root(node: ast.expr) -> str:
    """The name that a chain of attributes and calls begins with; "_" where a page leaves it out."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Await | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _call(node: ast.Call, names: Mapping[str, object], kinds: Mapping[str, Sequence[type]]) -> Iterator[str]:
    called = _value(node.func, names)
    if called is not None:
        signature = _signature(called)
        signatures = [] if signature is None else [signature]
    elif isinstance(node.func, ast.Attribute) and _root(node.func) in {*kinds, *names, "_"}:
        signatures = [*methods().get(node.func.attr, ())]
    else:
        return
    for keyword in node.keywords:
        if keyword.arg and signatures and not any(_takes(signature, keyword.arg) for signature in signatures):
            yield f"{ast.unparse(node.func)} takes no {keyword.arg}="


# -- words -----------------------------------------------------------------------------------------


@cache
def source() -> str:
    """All text of the source, of tools, examples and benchmarks, with the names of the tests."""
    folders = ("src", "tools", "examples", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".html"}]
    files += [ROOT / "noxfile.py", ROOT / "pyproject.toml"]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@cache
def identifiers() -> frozenset[str]:
    """Every word of the source, and the name of every test."""
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(re.findall(r"\w+", source())) | frozenset(re.findall(r"def (test_\w+)", tests))


@cache
def files() -> frozenset[str]:
    """The path of every file and folder, and the name of every file."""
    folders = ("src", "docs", "tests", "tools", "examples", "benchmarks", ".ci")
    found = [path for name in folders for path in (ROOT / name).rglob("*")]
    found += ROOT.glob("*")
    return frozenset(str(path.relative_to(ROOT)) for path in found) | frozenset(path.name for path in found)


def unknown_words(code: str) -> list[str]:
    """What of a piece of text nothing of ours has: names with an underscore or capitals inside, `name=`, and files."""
    paths = re.findall(r"[\w./-]+\.py\b|\b(?:tests|tools|examples|docs|benchmarks)/[\w/.-]*\w", code)
    missing = [path for path in paths if not {path, f"src/imapipe/{path}"} & files()]
    code = re.sub(r"[\w./-]+\.py\b", "", code)
    names = set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b|\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b|\b[a-z]\w*(?==)", code))
    return sorted([*missing, *(names - identifiers())])
