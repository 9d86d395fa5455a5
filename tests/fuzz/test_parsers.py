"""Every public parser raises what it says it raises, and takes time in proportion to its input."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz import inputs, parsers, targets
from fuzz.growth import pumped, superlinear

FOUND = parsers.find()
# Each of them took seconds or more, or raised something that nobody expects.
KEPT = sorted(Path(__file__).with_name("inputs").glob("*"))
by_name = pytest.mark.parametrize("parser", FOUND, ids=lambda parser: parser.name.removeprefix("imapipe."))

# What leads to the parts of a text that are read in different ways, and what may be repeated there.
PREFIXES = (b"", b"(", b'"', b"* OK [", b"* LIST (", b"* 1 FETCH (UID 1 ", b"text/plain; ", b"Content-Type: text/plain")
PUMPS = (
    *inputs.TOKENS[:33],
    b"()",
    b"a=b;",
    b"a b ",
    b'"a" ',
    b"1,",
    b"1 2 ",
    b"X 1 ",
    b"&-",
    b"=?a?q?b?= ",
    b"(a ",
    b"\r\n ",
)
SIZES = (8, 64, 512, 4096)


def test_every_parser_is_found() -> None:
    names = {parser.name.rpartition(".")[2] for parser in FOUND}
    assert len(FOUND) > 100
    assert names >= {
        "parse_response",
        "parse_url",
        "parse_parts",
        "parse",
        "raw",
        "parse_addresses",
        "parse_message_date",
        # Those that are no part of the protocol, and those of modules that do something else, too.
        "parse_autoconfig",
        "parse_kept",
        "name_of_proxy",
        "check_url",
        "parse_size",
        "read_flags",
        "read_document",
        "read_owed",
        "from_fields",
    }


def test_a_parser_with_unknown_parameters_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(parsers.ARGUMENTS, "span")
    with pytest.raises(LookupError, match="span"):
        parsers.find()


@pytest.mark.parametrize(
    ("module", "name", "is_found"),
    [
        ("imapipe.contrib.new", "parse_new", True),
        ("imapipe.cli.new", "read_new", True),
        ("imapipe.cli.new", "do_new", False),
        ("imapipe.oauth.kept", "do_new", True),
        ("imapipe.testing.new", "parse_new", False),
    ],
)
def test_a_parser_of_a_new_module_is_found(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, is_found: bool
) -> None:
    made = ModuleType(module)
    exec(f"def {name}(text: str): raise KeyError", vars(made))
    vars(made)[name].__module__ = module
    monkeypatch.setattr(parsers, "every_module", lambda: [made])
    found = [parser for parser in parsers.find() if parser.name == f"{module}.{name}"]
    assert len(found) == is_found
    for parser in found:
        with pytest.raises(AssertionError, match="raises KeyError"):
            parsers.check(parser, b"x")


def test_what_is_documented_is_read() -> None:
    raises = {parser.name: {kind.__name__ for kind in parser.raises} for parser in FOUND}
    assert raises["imapipe.wire.response.response.parse_response"] == {"ProtocolError"}
    assert raises["imapipe.wire.date.parse_message_date"] == set()


@pytest.mark.no_cover
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(inputs.texts())
def test_nearly_right_texts(text: bytes) -> None:
    for parser in FOUND:
        parsers.check(parser, text)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_what_was_found_once(path: Path) -> None:
    text = path.read_bytes()
    for parser in FOUND:
        parsers.check(parser, text)
    body, _, answer = text.partition(b"\r\n")
    targets.check_framer(text, 0)
    targets.check_message(body, answer)


@pytest.mark.no_cover
@pytest.mark.parametrize("number", range(len(FOUND)), ids=[parser.name.removeprefix("imapipe.") for parser in FOUND])
def test_time_is_linear(number: int) -> None:
    """Every parser with every pump, behind some of what may lead to it; `nox -s fuzz` tries all, and many more."""
    for at, pump in enumerate(PUMPS):
        for prefix in PREFIXES[(number + at) % 4 :: 4]:
            times = superlinear(FOUND[number].parse, partial(pumped, prefix, pump, b""), SIZES)
            assert times is None, f"{prefix!r} {pump!r}: {times:.0f} times as long for 8 times as much"
