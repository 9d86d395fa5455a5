"""Whatever stands in a public signature can be imported from a public module."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator

import pytest
from tests.test_public_snapshot import MODULES

PUBLIC = {name: importlib.import_module(name) for name in (*MODULES, "imapipe.errors")}
EXPORTED = {
    id(getattr(module, name)) for module in PUBLIC.values() for name in getattr(module, "__all__", vars(module).keys())
}

# Given by functions and methods, never made by users.
GIVEN = set(
    """Attachment BatchStream CheckpointLayer Command Connection FetchCommand JsonCheckpointHolding Message Pipeline
    Pool RetryLayer Session Stream""".split()
)


def _parts(annotation: object) -> Iterator[object]:
    """Every class in an annotation."""
    arguments = typing.get_args(annotation)
    if isinstance(annotation, list | tuple):
        arguments = tuple(annotation)
    for argument in arguments:
        yield from _parts(argument)
    if isinstance(annotation, type):
        yield annotation


def _functions(value: object) -> Iterator[tuple[str, object]]:
    """A function, or the public methods and properties of a class."""
    if inspect.isfunction(value):
        yield value.__qualname__, value
    if not inspect.isclass(value):
        return
    for name, member in inspect.getmembers(value):
        if name.startswith("_") and (name != "__init__" or value.__name__ in GIVEN):
            continue
        function = member.fget if isinstance(member, property) else inspect.unwrap(member) if callable(member) else None
        if inspect.isfunction(function) and function.__module__.startswith("imapipe"):
            yield f"{value.__qualname__}.{name}", function


def _hidden(value: object) -> list[str]:
    hidden: list[str] = []
    for name, function in _functions(value):
        try:
            hints = typing.get_type_hints(function)
        except NameError:
            # An import for type checkers only; what it names belongs to somebody else.
            continue
        for hint in hints.values():
            hidden += [
                f"{name}: {part.__module__}.{part.__qualname__}"
                for part in _parts(hint)
                if isinstance(part, type) and part.__module__.startswith("imapipe") and id(part) not in EXPORTED
            ]
    return hidden


@pytest.mark.parametrize("module", MODULES)
def test_what_a_signature_names_can_be_imported(module: str) -> None:
    names = PUBLIC[module].__all__
    assert sorted({hidden for name in names for hidden in _hidden(getattr(PUBLIC[module], name))}) == []
