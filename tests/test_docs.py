"""What the README and the documentation say in code is so: programs, calls, names, options, files."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.docs_code import (
    ROOT,
    Block,
    blocks,
    examples_in_docstrings,
    pages,
    parse,
    problems,
    source,
    unknown_words,
    words,
)

import imapipe

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the docs are not part of the wheel")

# Of other libraries and of providers.
OF_OTHERS = {
    "AccessAsApp",
    "IMAPSearchCriteria",
    "MailboxPermission",
    "MessageSet",
    "ServicePrincipal",
    "and_criteria",
    "invalid_client",
    "ks_c_5601",
    "start_http_server",
    "unauthorized_client",
}
PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


def _programs(page_blocks: list[Block]) -> Iterator[Block]:
    """The programs of a page; what is run when the documentation is built is one."""
    run = [block for block in page_blocks if block.language == "{testcode}"]
    if run:
        yield Block(run[0].page, run[0].line, "{testcode}", "\n".join(block.code for block in run))
    yield from (block for block in page_blocks if block.language == "python")


@PAGES
def test_programs_use_what_there_is(page: Path) -> None:
    found = []
    for program in _programs([*blocks(page)]):
        tree = parse(program.code)
        assert tree is not None, f"{program.place} is no Python"
        found += [f"{program.place}: {problem}" for problem in problems(tree)]
    assert found == []


@PAGES
def test_what_stands_between_backquotes_is_there(page: Path) -> None:
    found = []
    for word in words(page):
        if word.code in source():
            continue
        tree = parse(word.code)
        told = [] if tree is None else [*problems(tree)]
        told += [f"nothing is called {name}" for name in unknown_words(word.code) if name not in OF_OTHERS]
        found += [f"{word.place}: `{word.code}`: {each}" for each in told]
    assert found == []


def _command_lines() -> Iterator[tuple[str, str]]:
    """What the pages say at the prompt, and in tables of options."""
    for page in pages():
        for block in blocks(page):
            # The text there is a crontab.
            if block.language == "sh" or (block.language == "text" and page.name == "deploying.md"):
                yield from ((block.place, line) for line in block.code.replace("\\\n", " ").splitlines())
        yield from ((word.place, word.code) for word in words(page))
    for unit in (ROOT / "examples" / "systemd").iterdir():
        yield from ((unit.name, line) for line in unit.read_text(encoding="utf-8").splitlines())


def test_every_command_and_option_of_the_pages_is_there() -> None:
    typer = pytest.importorskip("typer")
    from imapipe.cli.app import app  # noqa: PLC0415

    group = typer.main.get_command(app)
    found = []
    for place, line in _command_lines():
        called = re.search(r"(?:^|[\s;&]|=)(imapipe [a-z-].*)", line)
        # What people get wrong is tried by tests/cli/test_mistakes.py.
        if called is None or place.startswith("docs/errors.md"):
            continue
        try:
            name, *rest = shlex.split(re.sub(r"[>|].*", "", called[1]))[1:]
        except ValueError:
            # A quote that a sentence goes on behind.
            name, *rest = re.sub(r"[>|].*", "", called[1]).split()[1:]
        if name.startswith("-"):
            options, command = [name, *rest], group
        elif name in group.commands:
            options, command = rest, group.commands[name]
        else:
            found.append(f"{place}: there is no command {name!r}")
            continue
        if options and options[0] in getattr(command, "commands", {}):
            # One of several, such as `imapipe jobs list`.
            command, options = command.commands[options[0]], options[1:]
        known = {each for parameter in command.params for each in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"--help"}
        given = {word.partition("=")[0] for word in options if word.startswith("--") and word != "--"}
        found += [f"{place}: {name} has no {option}" for option in sorted(given - known)]
    assert found == []


def test_every_session_module_and_tool_that_the_pages_name_is_there() -> None:
    sessions = set(re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    found = []
    for place, line in _command_lines():
        found += [f"{place}: {name}" for name in re.findall(r"\bnox -s (\w+)", line) if name not in sessions]
        for name in re.findall(r"\bpython -m (benchmarks[\w.]*|fuzz|imapipe[\w.]*)", line):
            path = name.replace(".", "/")
            places = [
                ROOT / folder / f"{path}{end}" for folder in (".", "tools", "src") for end in (".py", "/__main__.py")
            ]
            found += [] if any(each.is_file() for each in places) else [f"{place}: {name}"]
        for name in re.findall(r"\bpython3? ((?:tools|examples)/\S+?\.py)", line):
            found += [] if (ROOT / name).is_file() else [f"{place}: {name}"]
    assert found == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_what_a_page_outside_of_the_site_links_to_is_there(page: str) -> None:
    """Of the pages of the site Sphinx looks at them."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("heading", "called", "beside"),
    [
        ("create_pool", imapipe.create_pool, {"url"}),
        ("job.run", imapipe.Pipeline.run, {"self", "handler"}),
        ("Checkpoint", imapipe.Checkpoint, {"store"}),
        # What tests put in the place of time and chance.
        ("Retry", imapipe.Retry, {"sleep", "random"}),
    ],
)
def test_the_page_of_settings_has_every_argument_and_what_holds_without_it(
    heading: str, called: Callable[..., object], beside: set[str]
) -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    section = text.partition(f": `{heading}`\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+?) \|$", section, re.MULTILINE)
    parameters = {name: each for name, each in inspect.signature(called).parameters.items() if name not in beside}
    assert [(name, ast.literal_eval(default)) for name, default, _ in rows] == [
        (name, each.default) for name, each in parameters.items()
    ]


def test_the_programs_in_docstrings_use_what_there_is() -> None:
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for code in examples_in_docstrings(path):
            # Pictures of files stand there, too.
            if (tree := parse(code)) is not None:
                found += [f"{path.relative_to(ROOT)}: {problem}" for problem in problems(tree)]
    assert found == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("pool.mailboxen()", "pool has no mailboxen"),
        ("imapipe.Retri()", "imapipe has no Retri"),
        ("q.sins(3)", "imapipe.search has no sins"),
        ("Retry(outage=…)", "Retry takes no outage="),
        ("imapipe.create_pool(url, pasword=…)", "imapipe.create_pool takes no pasword="),
        ('.move_to("Archive", dryrun=True)', "_.move_to takes no dryrun="),
        ("async with pool.acquire('INBOX', readonly=True) as lease", "pool.acquire takes no readonly="),
        ("from imapipe import Retri", "imapipe has no Retri"),
        ("message.atachments", "message has no atachments"),
    ],
)
def test_what_is_not_there_is_seen(code: str, says: str) -> None:
    tree = parse(code)
    assert tree is not None
    assert says in [*problems(tree)]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("on_uidvaliditi", ["on_uidvaliditi"]),
        ("max_failurs=3", ["max_failurs"]),
        ("JobManger", ["JobManger"]),
        ("examples/servce.py", ["examples/servce.py"]),
        ("tests/net/test_dial.py, wire/uid_set.py, max_failures=, JobManager", []),
    ],
)
def test_words_that_nothing_is_called_are_seen(text: str, missing: list[str]) -> None:
    assert unknown_words(text) == missing
