"""The files around the code agree with each other."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def readme_commands() -> list[str]:
    """The commands in the section of the README that promises two of them."""
    section = re.findall(r"^## Two commands\n(.*?)^## ", read("README.md"), re.MULTILINE | re.DOTALL)[0]
    return re.findall(r"^```sh\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)


def test_the_readme_has_two_commands_of_one_line() -> None:
    commands = readme_commands()
    assert len(commands) == 2
    assert all("\n" not in command for command in commands)
    assert commands[0].endswith("nox -s demo")


def test_continuous_integration_runs_exactly_the_test_command_of_the_readme() -> None:
    lines = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert lines[-1] == readme_commands()[1]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_version_is_in_the_changelog_or_yet_unreleased() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert {version, "Unreleased"} & set(headings)


@pytest.mark.parametrize("contract", ["wire", "net.bridge", "testing"])
def test_the_import_rules_speak_of_what_matters(contract: str) -> None:
    assert f"imapipe.{contract}" in read("pyproject.toml")
