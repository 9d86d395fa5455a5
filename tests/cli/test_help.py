"""`--help` can be typed from: it has every option, whole, however narrow the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from imapipe.cli.app import app
from imapipe.cli.export import KINDS

if TYPE_CHECKING:
    from tests.cli.conftest import Call


def _commands(group: object, *path: str) -> Iterator[tuple[tuple[str, ...], object]]:
    commands = getattr(group, "commands", None)
    if commands is None:
        yield path, group
    else:
        for name, command in commands.items():
            yield from _commands(command, *path, name)


COMMANDS = dict(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_every_option_whole_at_any_width(
    call: Call, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = call(*path, "--help").out
    assert shown.startswith(f"Usage: imapipe {path[0]}")
    assert "{" not in shown.partition("\n\n")[0]
    # Types are told as people say them, not as Python does.
    assert not re.search(r"<(str|int|float|path)|INTEGER|FLOAT|\[default: \(", shown)
    names = [name for option in COMMANDS[path].params for name in (*option.opts, *option.secondary_opts)]  # type: ignore[attr-defined]
    assert {name for name in names if name.startswith("--")} <= set(re.findall(r"--[a-z-]+", shown))


@pytest.mark.parametrize("command", ["export", "backup"])
def test_help_and_pages_name_every_format(call: Call, command: str) -> None:
    shown = call(command, "--help").out
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for kind, sink in KINDS.items():
        assert f"{kind}:" in shown, kind
        assert f"`{getattr(sink, '__name__', kind)}(" in page, kind


def test_help_of_a_copy_names_the_password_of_the_target(call: Call) -> None:
    shown = call("copy", "--help").out
    assert "IMAPIPE_TARGET_PASSWORD" in shown
    assert "--target-proxy URL" in shown
