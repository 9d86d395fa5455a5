"""Every public parser of imapipe: what takes text or bytes from outside and makes something of it.

They are found by their signatures, so that a new one is covered on the day it is written: in the modules that do
nothing but read, every function that takes a text; in all others, also those of the command line, of services and of
logging in, what is called as those that read are. What a signature does not say, a table here does: `find` fails where
neither is enough.
"""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, datetime
from types import ModuleType
from typing import Any, Final, NamedTuple

import orjson

import imapipe
from every_module import every_module
from imapipe import errors
from imapipe.mime.part import parse_parts
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.token import _STRUCTURE, Cursor, ItemSpan
from imapipe.wire.search_key import SearchKey

_WHERE: Final = (
    *("imapipe.wire.", "imapipe.mime.", "imapipe.search", "imapipe.net.account", "imapipe.net.signals"),
    *("imapipe.https", "imapipe.net.proxy", "imapipe.providers", "imapipe.discovery.autoconfig", "imapipe.oauth.kept"),
    *("imapipe.cli.sizes", "imapipe.cli.terminal"),
)
"""Modules that do nothing but read."""
_PUBLIC: Final = re.compile(r"[^_]\w*")
_READS: Final = re.compile(r"(?:parse|read)(?:_\w+)?|from_(?:json|text|fields|dict)")
"""How those that read are called, in all other modules."""
_ELSEWHERE_NOT: Final = (
    # A server for tests: who speaks to it is the client under test.
    "imapipe.testing.",
    # What a database says is what we wrote there.
    *("imapipe.contrib.cluster.", "imapipe.store.sql."),
)
_TEXTS: Final = frozenset(
    {
        "bytes",
        "str",
        "Cursor",
        "Raw",
        "object",
        "bytes | bytearray | memoryview",
        "str | bytes",
        "str | bytes | bytearray | memoryview",
        "UidSet | str | int | Iterable[int]",
        "Iterable[bytes]",
        "Iterable[str]",
        "Iterable[bytes | bytearray | memoryview]",
        "Iterable[tuple[bytes, bytes]]",
        "Iterable[Pieces]",
        "list[Value]",
        "Mapping[str, bytes]",
        "JSON",
        "bytes | str",
        "str | None",
        "Mapping[str, JSON]",
        "Mapping[str, object]",
    }
)
_TODAY: Final = date(2024, 6, 1)


def literals_of(data: bytes) -> tuple[Literal, ...]:
    """As many literals as a response has markers; some are long, some hold what looks like protocol."""
    samples = (b"x", b"", b'* 1 FETCH (UID 1 "', b"\0\xff=?utf-8?q?=C3?=\r\n", bytearray(b"Subject: a\r\n\r\n"))
    return tuple(samples[number % len(samples)] for number in range(data.count(b"}\r\n")))


ARGUMENTS: Final[dict[str, Callable[[bytes], object]]] = {
    "literals": literals_of,
    "span": lambda data: ItemSpan(0, len(data), 0),
    "parts": parse_parts,
    "lowered": bytes.lower,
    "structure": lambda _: _STRUCTURE,
    "offset": lambda _: 0,
    "index": lambda _: 0,
    "reading": lambda data: len(data) % 2,
    "star": lambda _: None,
    "codec": lambda _: "utf-8",
    "charset": lambda _: "utf-8",
    "encoding": lambda data: ("7bit", "base64", "quoted-printable", "x-uuencode")[len(data) % 4],
    "kind": lambda _: "text/html",
    "default": lambda _: "part",
    "size": len,
    "tagged": lambda _: None,
    "what": lambda _: "the URL",
    "option": lambda _: "--size",
    "keep": lambda _: "\n",
    "commands": lambda _: {},
    "word": lambda _: "done",
    "now": lambda _: 1.0e9,
    "path": lambda _: "state.json",
}
"""What goes into a parameter of this name, beside the text."""

AS_JSON: Final[dict[str, object]] = {"as": "JSON"}
"""Says that an object is what a JSON parser makes of a text."""

OVERRIDES: Final[dict[str, dict[str, object]]] = {
    "imapipe.wire.response.item_value.is_readable": {"name": "FLAGS"},
    "imapipe.wire.response.label.match_labels": {"asked": ("BODY[HEADER.FIELDS (SUBJECT)]", "FLAGS")},
    "imapipe.mime.field.find_field": {"name": b"content-type"},
    "imapipe.wire.search_term.read_uids": {"name": "UID"},
    "imapipe.discovery.autoconfig.parse_autoconfig": {"address": "ann@example.org"},
    "imapipe.store.checkpoint_state.CheckpointState.from_fields": AS_JSON,
    "imapipe.store.checkpoint_state.CheckpointChange.from_fields": AS_JSON,
    "imapipe.store.notes_state.NotesState.from_fields": AS_JSON,
    "imapipe.models.flag_table.FlagTable.from_json": AS_JSON,
}
NOT_PARSERS: Final = frozenset(
    {
        # They make what is sent, or errors, of what is known.
        "imapipe.wire.response.token.malformed",
        "imapipe.wire.search_term.make_term",
        "imapipe.net.signals.status_error",
        "imapipe.net.signals.to_error",
        "imapipe.net.signals.as_error_of",
        "imapipe.net.signals.is_full",
        # They read a file, or ask a program: what is in it, or comes, is read by those below.
        "imapipe.durable_file.read_lines",
        "imapipe.durable_file.read_object",
        "imapipe.durable_file.read_small",
        "imapipe.secret_source.read_secret",
        "imapipe.cli.secrets.read_secret",
        "imapipe.journal.journal.read_journal",
        "imapipe.store.json_file.read_whole",
        # The server under test is told of itself.
        "imapipe.cli.demo_job.Order.from_json",
        # Asked by the framer, about a line in which it has found a marker; the framer is given everything.
        "imapipe.wire.response.literal.is_text_line",
    }
)


class Parser(NamedTuple):
    """A function that takes text from outside.

    Attributes:
        name: Where it is.
        parse: Calls it with a text, and looks at all of the result.
        raises: What it says it raises.
    """

    name: str
    parse: Callable[[bytes], object]
    raises: tuple[type[Exception], ...]


def find() -> list[Parser]:
    """Every public parser.

    Raises:
        LookupError: One takes what no table knows.
    """
    found = [_of_cursor(name) for name, method in vars(Cursor).items() if _takes_nothing(name, method)]
    for module in every_module():
        if module.__name__.startswith(_WHERE) and not module.__name__.startswith("imapipe.wire.command"):
            found += _of_module(module, _PUBLIC)
        elif not module.__name__.startswith(("imapipe.wire.command", *_ELSEWHERE_NOT)):
            found += _of_module(module, _READS)
    return found


def _of_module(module: ModuleType, called: re.Pattern[str]) -> Iterator[Parser]:
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(value) and called.fullmatch(name) and not inspect.iscoroutinefunction(value):
            parser = _of_function(f"{module.__name__}.{name}", value)
            if parser is not None:
                yield parser
        elif inspect.isclass(value):
            for own, method in vars(value).items():
                if isinstance(method, classmethod) and called.fullmatch(own):
                    parser = _of_function(f"{module.__name__}.{name}.{own}", getattr(value, own))
                    if parser is not None:
                        yield parser


def _of_function(name: str, function: Callable[..., object]) -> Parser | None:
    fixed = OVERRIDES.get(name, {})
    parameters = inspect.signature(function).parameters
    texts = [p.name for p in parameters.values() if p.annotation in _TEXTS]
    free = [name for name in texts if not _is_known(parameters[name], fixed)]
    input_name = next(iter(free or texts), None)
    if input_name is None or name in NOT_PARSERS:
        return None
    others = [p for p in parameters.values() if p.name != input_name and p.default is p.empty]
    unknown = [p.name for p in others if not _is_known(p, fixed) and p.kind is not p.VAR_POSITIONAL]
    if unknown:
        raise LookupError(f"{name}: fuzz.parsers does not know what to give for {', '.join(unknown)}")

    annotation = str(fixed.get("as", parameters[input_name].annotation))

    def parse(data: bytes) -> object:
        given: dict[str, Any] = {input_name: _as(annotation, data)}
        for parameter in others:
            if parameter.name in fixed:
                given[parameter.name] = fixed[parameter.name]
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                given[parameter.name] = ARGUMENTS[parameter.name](data)
        return look_at(function(**given))

    return Parser(name, parse, documented(function))


def _is_known(parameter: inspect.Parameter, fixed: dict[str, object]) -> bool:
    return parameter.name in fixed or parameter.name in ARGUMENTS


def _takes_nothing(name: str, method: object) -> bool:
    return inspect.isfunction(method) and not name.startswith("_") and len(inspect.signature(method).parameters) == 1


def _of_cursor(name: str) -> Parser:
    def parse(data: bytes) -> object:
        return look_at(getattr(Cursor(data, 0, literals_of(data)), name)())

    return Parser(f"{Cursor.__module__}.Cursor.{name}", parse, (errors.ProtocolError,))


def _as(annotation: str, data: bytes) -> object:
    """A text in the type that is asked for."""
    if annotation in ("bytes", "Raw", "bytes | bytearray | memoryview"):
        return data
    if annotation == "Cursor":
        return Cursor(data, 0, literals_of(data))
    if annotation == "Iterable[bytes]":
        return data.split(b" ")
    if annotation == "Iterable[bytes | bytearray | memoryview]":
        return [data]
    if annotation == "Iterable[tuple[bytes, bytes]]":
        return [(piece[: len(piece) // 2], piece[len(piece) // 2 :]) for piece in data.split(b" ")]
    if annotation == "Iterable[Pieces]":
        pieces = data.split(b" ")
        return list(zip(pieces, [*pieces[1:], None], [*pieces[2:], None, b"x"], strict=False))
    if annotation == "list[Value]":
        with suppress(errors.ProtocolError):
            value = Cursor(data, 0, literals_of(data)).parse_value()
            return value if isinstance(value, list) else [value] * 10
        return []
    if annotation in ("JSON", "Mapping[str, JSON]", "Mapping[str, object]"):
        read: object = data.decode("latin-1")
        with suppress(orjson.JSONDecodeError):
            read = orjson.loads(data)
        return read if annotation == "JSON" or isinstance(read, dict) else {"": read}
    if annotation == "Mapping[str, bytes]":
        return dict.fromkeys(("BODY[]", "ENVELOPE", "RFC822.SIZE"), data)
    text = data.decode("utf-8", "surrogateescape")
    return text.split(" ") if annotation == "Iterable[str]" else text


def documented(function: object) -> tuple[type[Exception], ...]:
    """What the docstring of a function says it raises."""
    text = inspect.getdoc(function) or ""
    lines = re.search(r"^Raises:\n((?:    .*\n?)+)", text, re.MULTILINE)
    names = re.findall(r"^    ([\w, ]+):", lines[1], re.MULTILINE) if lines is not None else []
    names += re.findall(r"\b[Rr]aises ([A-Z]\w+(?:, [A-Z]\w+)*)", text)
    here = getattr(inspect.unwrap(function), "__globals__", {}) if callable(function) else {}
    found = (_kind(name, here) for name in ", ".join(names).split(", "))
    return tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception))


def _kind(name: str, here: dict[str, object]) -> object:
    known = (getattr(where, name) for where in (errors, imapipe, builtins) if hasattr(where, name))
    return next(known, here.get(name))


def look_at(value: object, depth: int = 3) -> object:
    """Read everything that a value offers to be read, as whoever gets it may."""
    if isinstance(value, SearchKey):
        str(value)
        value.program(today=_TODAY, literal_plus=True, utf8=False)
    elif isinstance(value, Iterator | list | tuple | set | frozenset | dict):
        for part in value.items() if isinstance(value, dict) else value:
            look_at(part, depth)
    elif depth and type(value).__module__.startswith("imapipe"):
        repr(value)
        for name in dir(value):
            if not name.startswith("_") and not callable(getattr(type(value), name, None)):
                with suppress(*documented(getattr(type(value), name, None))):
                    look_at(getattr(value, name), depth - 1)
    elif isinstance(value, datetime):
        value.isoformat()
        value.timestamp()
    return value


def check(parser: Parser, data: bytes) -> None:
    """Let a parser read a text; what it documents that it raises is no matter.

    Raises:
        AssertionError: It raises something else.
    """
    try:
        parser.parse(data)
    except parser.raises:
        pass
    except Exception as error:
        raise AssertionError(f"{parser.name} of {data!r} raises {error!r}") from error
