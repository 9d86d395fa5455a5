"""Commands whose parameters are groups of options.

typer reads the options of a command from its signature, so a group would have to be repeated in each. Here a parameter
that is a dataclass stands for its fields: they become options of the command, which gets them back as one value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import get_type_hints


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
        for field, hint in zip(fields(kind), get_type_hints(kind, include_extras=True).values(), strict=True):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            option = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            options.append(option)

    def called(**given: object) -> int:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)

    called.__doc__ = command.__doc__
    called.__name__ = command.__name__
    called.__annotations__ = {option.name: option.annotation for option in options}
    called.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # what typer reads
    return called
