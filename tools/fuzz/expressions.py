"""Every regular expression of imapipe, how it is used, and the texts that would make it go back over what it took.

The source is read for uses of `re`, so that an expression is found on the day it is written, also one inside a
function. What is put together at run time cannot be read there and is named in `MADE`; `find` fails where it is not.
"""

from __future__ import annotations

import ast
import re
import string
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from re import _compiler, _parser  # type: ignore[attr-defined]
from re import _constants as sre  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

from every_module import every_module
from imapipe.wire.response.repair import _STRINGS, _STRUCTURES

_WAYS: Final = {"match": "match", "fullmatch": "fullmatch", "search": "search"}
_EACH: Final = ("sub", "subn", "split", "findall", "finditer")
# Where no use is seen, every way is tried.
_ANY_WAY: Final = frozenset({"match", "fullmatch", "search", "each"})

_Element: TypeAlias = "tuple[Any, Any]"
_REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_USUAL: Final = 'a0 \t\n"();<=?&-.,:\\' + string.printable + "\x80\xff"
_SUFFIXES: Final = ("", "\0\n")
_MOST_SAMPLES: Final = 4

# What `compile_shape` makes of items of every kind.
_SHAPE: Final = (
    rb'\* \d+ FETCH \(UID (\d{1,10}) FLAGS (\([^()"\\\r\n{]*\)) RFC822\.SIZE (\d{1,20}) BODY\[\] ~?\{\d+\+?\}\r\n\)\Z'
)
MADE: Final[dict[tuple[str, str], tuple[bytes | str, ...]]] = {
    ("imapipe.wire.response.repair", "_compiled"): (*_STRINGS, *_STRUCTURES),
    ("imapipe.wire.response.shape", "compile_shape"): (_SHAPE,),
    # The pattern of a LIST comes from the client under test, who is nobody's enemy.
    ("imapipe.testing.mailboxes", "name_matches"): (),
}
"""Module and name of what makes expressions at run time, and examples of them."""


class Expression(NamedTuple):
    """A regular expression.

    Attributes:
        place: Module and line.
        pattern: What it is.
        ways: How it is used: `match`, `fullmatch`, `search` or `each` (all matches in a text, one after the other).
    """

    place: str
    pattern: re.Pattern[Any]
    ways: frozenset[str]


def find() -> list[Expression]:
    """Every expression in the source of the package, once.

    Raises:
        LookupError: One cannot be read from the source and is not in `MADE`.
    """
    found: dict[tuple[bytes | str, int], Expression] = {}
    for module in every_module():
        for place, pattern, ways in _of_module(module):
            first = found.get((pattern.pattern, pattern.flags), Expression(place, pattern, frozenset()))
            found[pattern.pattern, pattern.flags] = Expression(first.place, pattern, first.ways | ways)
    return list(found.values())


def _of_module(module: ModuleType) -> Iterator[Expression]:
    source = Path(module.__file__ or "").read_text("utf-8")
    if re.search(r"^\s*(?:from re import (?!Match\b|Pattern\b)|import re as)", source, re.MULTILINE):
        raise LookupError(
            f"{module.__name__}: write `import re` and `re.…`, by which fuzz.expressions finds expressions"
        )
    # Every process of the tests does this before its first test, and most modules have no expression.
    if not re.search(r"\bre\.", source):
        return
    tree = ast.parse(source)
    nodes = {statement: list(ast.walk(statement)) for statement in tree.body}
    calls = {node.func: node for node in chain(*nodes.values()) if isinstance(node, ast.Call)}
    uses: defaultdict[str, set[str]] = defaultdict(set)
    for node in chain(*nodes.values()):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in _WAYS or node.attr in _EACH:
                uses[node.value.id].add(_WAYS.get(node.attr, "each"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_match":
            for argument in node.args:
                if isinstance(argument, ast.Name):
                    uses[argument.id].add("match")
    for owner, node in _uses_of_re(nodes):
        place = f"{module.__name__}:{node.lineno}"
        try:
            pattern = _evaluate(calls[node], module)
        except (NameError, KeyError):
            if (module.__name__, owner) not in MADE:
                raise LookupError(f"{place}: fuzz.expressions.MADE does not know what {owner} makes") from None
            for number, text in enumerate(MADE[module.__name__, owner]):
                yield Expression(f"{place}.{number}", re.compile(text), _ANY_WAY)
        else:
            ways = uses[owner] if node.attr == "compile" else {_WAYS.get(node.attr, "each")}
            yield Expression(place, pattern, frozenset(ways) or _ANY_WAY)


def _uses_of_re(nodes: Mapping[ast.stmt, Sequence[ast.AST]]) -> Iterator[tuple[str, ast.Attribute]]:
    """Each `re.…` that takes an expression, with the name at the top of the module to which it belongs."""
    for statement, inside in nodes.items():
        match statement:
            case ast.Assign(targets=[ast.Name(owner)]) | ast.AnnAssign(target=ast.Name(owner)):
                pass
            case ast.FunctionDef(name=owner) | ast.AsyncFunctionDef(name=owner) | ast.ClassDef(name=owner):
                pass
            case _:
                owner = ""
        for node in inside:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re":
                if node.attr in _WAYS or node.attr in _EACH or node.attr == "compile":
                    yield owner, node


def _evaluate(call: ast.Call, module: ModuleType) -> re.Pattern[Any]:
    """The expression that a call of `re` is given.

    Raises:
        NameError: It is made of variables.
    """
    flags = [word.value for word in call.keywords if word.arg == "flags"]
    if isinstance(call.func, ast.Attribute) and call.func.attr == "compile":
        flags += call.args[1:2]
    given = ast.Expression(ast.Tuple([call.args[0], *flags], ast.Load()))
    return re.compile(*eval(compile(ast.fix_missing_locations(given), "", "eval"), vars(module)))


def run(pattern: re.Pattern[Any], way: str, text: bytes | str) -> None:
    """Use an expression in one way."""
    if way == "each":
        for _ in pattern.finditer(text):
            pass
    else:
        getattr(pattern, way)(text)


def hostile(pattern: re.Pattern[Any]) -> list[tuple[Any, Any, Any]]:
    """What to make hostile texts of: prefix, pump and suffix, as `growth.pumped` takes them.

    Every repeated part of the expression is a pump, behind what leads to it; so is each character that it names, also
    behind a whole match.
    """
    parsed = _parser.parse(pattern.pattern, pattern.flags)
    seeds = dict.fromkeys(_pumps(parsed, ""))
    characters = sorted({chr(code) for element in _flat(parsed) for code in _named(element)} | {"a", " "})[:24]
    seeds |= dict.fromkeys(("", character) for character in characters)
    for sample in _samples(parsed)[:2]:
        seeds |= dict.fromkeys((sample, character) for character in characters)
        seeds |= dict.fromkeys(("", sample + character) for character in characters)
    made = [(prefix, pump, suffix) for prefix, pump in seeds if pump for suffix in _SUFFIXES]
    if isinstance(pattern.pattern, str):
        return list(made)
    return [
        (prefix.encode("latin-1"), pump.encode("latin-1"), suffix.encode("latin-1")) for prefix, pump, suffix in made
    ]


def _flat(parsed: Iterable[_Element]) -> Iterator[_Element]:
    for element in parsed:
        yield element
        for part in _parts(element):
            yield from _flat(part)


def _parts(element: _Element) -> list[Iterable[_Element]]:
    """The expressions within an element of one."""
    op, value = element
    if op in _REPEATS:
        return [value[2]]
    if op is sre.SUBPATTERN:
        return [value[3]]
    if op is sre.BRANCH:
        return list(value[1])
    if op is sre.ATOMIC_GROUP:
        return [value]
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return [value[1]]
    if op is sre.GROUPREF_EXISTS:
        return [part for part in value[1:] if part is not None]
    return []


def _named(element: _Element) -> Iterator[int]:
    """The characters that an element names."""
    op, value = element
    if op in (sre.LITERAL, sre.NOT_LITERAL):
        yield value
    elif op is sre.IN:
        for kind, what in value:
            if kind is sre.LITERAL:
                yield what
            elif kind is sre.RANGE:
                yield from what


def _pumps(parsed: Iterable[_Element], before: str) -> Iterator[tuple[str, str]]:
    """Each repeated part of an expression, and a text that leads to it."""
    for element in parsed:
        op, value = element
        for part in _parts(element):
            if op in _REPEATS and value[1] > 1:
                yield from ((before, sample) for sample in _samples(part))
            yield from _pumps(part, before)
        before += _of_one(element)[0]


def _samples(parsed: Iterable[_Element]) -> list[str]:
    """Texts that an expression matches, or nearly so: what looks ahead is left out."""
    texts = [""]
    for element in parsed:
        texts = [text + more for more in _of_one(element) for text in texts][:_MOST_SAMPLES]
    return texts


def _of_one(element: _Element) -> list[str]:
    op, value = element
    if op is sre.LITERAL:
        return [chr(value)]
    if op in (sre.NOT_LITERAL, sre.ANY, sre.IN):
        matches = _compiler.compile(_parser.SubPattern(_parser.State(), [element])).fullmatch
        return [character for character in _USUAL if matches(character)][:3] or [chr(code) for code in _named(element)]
    if op in _REPEATS:
        return [sample * max(value[0], 1) for sample in _samples(value[2])]
    if op in (sre.SUBPATTERN, sre.ATOMIC_GROUP, sre.GROUPREF_EXISTS):
        return _samples(_parts(element)[0])
    if op is sre.BRANCH:
        return [_samples(part)[0] for part in value[1]]
    return [""]
