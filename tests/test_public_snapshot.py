"""The public names, as a file: a change of them is seen in review, and stands in the changelog."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import imapipe

MODULES = (
    "imapipe",
    "imapipe.cluster",
    "imapipe.connection",
    "imapipe.contrib.aiohttp",
    "imapipe.contrib.cluster",
    "imapipe.contrib.fastapi",
    "imapipe.contrib.jobs",
    "imapipe.doctor",
    "imapipe.events",
    "imapipe.middleware",
    "imapipe.oauth",
    "imapipe.search",
    "imapipe.sinks",
    "imapipe.store",
    "imapipe.testing",
)
SNAPSHOT = Path(__file__).with_name("public_names.txt")


def _names(module: str) -> list[str]:
    return sorted(f"{module}.{name}" for name in importlib.import_module(module).__all__)


def test_the_public_names_are_those_of_the_file() -> None:
    names = [name for module in MODULES for name in _names(module)]
    assert SNAPSHOT.read_text(encoding="utf-8").splitlines() == names


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_says_what_it_is(module: str) -> None:
    loaded = importlib.import_module(module)
    classes = [getattr(loaded, name) for name in loaded.__all__]
    silent = [each for each in classes if inspect.isclass(each) or inspect.isfunction(each) if not inspect.getdoc(each)]
    assert silent == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_page_of_the_reference(module: str) -> None:
    page = "package" if module == "imapipe" else module.removeprefix("imapipe.")
    text = (Path(__file__).parents[1] / "docs" / "api" / f"{page}.md").read_text(encoding="utf-8")
    assert f"automodule:: {module}\n" in text


def test_exceptions_have_their_one_place_in_the_reference() -> None:
    """Where one is described on two pages, a reference to it is ambiguous, and the documentation does not build."""
    text = (Path(__file__).parents[1] / "docs/api/package.md").read_text(encoding="utf-8")
    left_out = text.partition(":exclude-members: ")[2].partition("\n")[0].split(", ")
    public = {name: getattr(imapipe, name) for name in imapipe.__all__}
    exceptions = [name for name, each in public.items() if inspect.isclass(each) and issubclass(each, BaseException)]
    assert sorted(left_out) == sorted(exceptions)
