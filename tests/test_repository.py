"""The files around the code agree with each other."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest

import imapipe

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
    headings = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert {imapipe.__version__, "Unreleased"} & set(headings)


def test_the_version_has_one_source() -> None:
    """The metadata is made from it when imapipe is installed."""
    assert importlib.metadata.version("imapipe") == imapipe.__version__
    project = tomllib.loads(read("pyproject.toml"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/imapipe/__init__.py"


def test_the_hook_before_a_commit_uses_the_ruff_of_the_checks() -> None:
    groups = tomllib.loads(read("pyproject.toml"))["dependency-groups"]
    (ruff,) = (each for each in groups["lint"] if each.startswith("ruff"))
    hooks = re.findall(r'additional_dependencies: \["(.+)"\]', read(".pre-commit-config.yaml"))
    assert hooks == [ruff, ruff]


def test_every_extra_is_used() -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    assert (
        sorted(extras) == "aiohttp autodiscover charset cli cluster fastapi keyring otel parquet proxy uvloop".split()
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/**/*.y*ml")), ids=lambda path: path.name)
def test_continuous_integration_elsewhere_runs_what_is_here(path: Path) -> None:
    """Workflows set a machine up; what is checked stands in .ci/run and in the noxfile."""
    steps = re.findall(r"^ +(?:- )?run: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(step.startswith((".ci/run", "pipx run")) for step in steps)


@pytest.mark.parametrize("contract", ["wire", "net.bridge", "testing"])
def test_the_import_rules_speak_of_what_matters(contract: str) -> None:
    assert f"imapipe.{contract}" in read("pyproject.toml")


@pytest.mark.parametrize(
    ("name", "key", "without"),
    [
        ("The testing server shares nothing with us", "forbidden_modules", {"testing"}),
        ("Only the command line (its demo) uses the testing server", "source_modules", {"cli", "testing"}),
        ("The command line's packages stay in the command line", "source_modules", {"cli"}),
    ],
)
def test_the_import_rules_leave_no_module_out(name: str, key: str, without: set[str]) -> None:
    """They are lists: what is not in them may import whatever it likes; `__main__` is the door of the command line."""
    (contract,) = (
        each
        for each in tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
        if each["name"] == name
    )
    source = ROOT / "src" / "imapipe"
    modules = {path.parent.name for path in source.glob("*/__init__.py")} | {path.stem for path in source.glob("*.py")}
    assert set(contract[key]) == {f"imapipe.{module}" for module in modules - without - {"__init__", "__main__"}}
