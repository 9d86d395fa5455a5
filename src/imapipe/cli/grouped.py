"""Commands whose parameters are groups of options.

typer reads the options of a command from its signature, so a group would have to be repeated in each. Here a parameter
that is a dataclass stands for its fields: they become options of the command, which gets them back as one value.

A group with an attribute `prefix`, such as "target", has it before each of its options (`--target-password-file`),
arguments (`TARGET_URL`) and variables of the environment (`IMAPIPE_TARGET_PASSWORD`).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Final, get_args, get_type_hints

from typer.models import ArgumentInfo

_DASHES: Final = "--"


def grouped(command: Callable[..., int]) -> Callable[..., int]:
    """Make options of the fields of those parameters that are dataclasses; their order is that of the signature."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            options.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(kind, type)
        groups[parameter.name] = kind
        declared = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            options.append(
                inspect.Parameter(
                    _name(kind, field.name),
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=_prefixed(declared[field.name], prefix_of(kind)),
                )
            )

    def called(**given: object) -> int:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(_name(kind, field.name)) for field in fields(kind)})
        return command(**given)

    called.__doc__ = command.__doc__
    called.__name__ = command.__name__
    called.__annotations__ = {option.name: option.annotation for option in options}
    called.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # what typer reads
    return called


def prefix_of(kind: object) -> str:
    """What the options of a group begin with, "" as a rule."""
    return str(getattr(kind, "prefix", ""))


def _name(kind: type, name: str) -> str:
    prefix = prefix_of(kind)
    return f"{prefix}_{name}" if prefix else name


def _prefixed(hint: object, prefix: str) -> object:
    """The declaration of an option, the prefix before each of its names."""
    if not prefix:
        return hint
    kind, declared = get_args(hint)
    option = copy.copy(declared)
    # In this style of declaration the names stand where the default does in others.
    if isinstance(option.default, str) and option.default.startswith(_DASHES):
        option.default = _with_prefix(option.default, prefix)
    if isinstance(option, ArgumentInfo):
        option.metavar = f"{prefix.upper()}_{option.metavar}"
    # Of the environment, too.
    option.help = option.help.replace("IMAPIPE_", f"IMAPIPE_{prefix.upper()}_")
    return Annotated[kind, option]


def _with_prefix(names: str, prefix: str) -> str:
    """`--x/--no-x` becomes `--target-x/--target-no-x`."""
    return "/".join(
        name.replace(f"{_DASHES}no-", f"{_DASHES}{prefix}-no-", 1)
        if name.startswith(f"{_DASHES}no-")
        else name.replace(_DASHES, f"{_DASHES}{prefix}-", 1)
        for name in names.split("/")
    )
