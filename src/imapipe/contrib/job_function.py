"""A kind of job: a function that was registered, what it takes, and the `Work` that it makes."""

from __future__ import annotations

import inspect
import math
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

import orjson

from imapipe.client import Pool
from imapipe.contrib.errors import WrongParameters
from imapipe.contrib.job import Usable, Work
from imapipe.models.json_value import JSON

_WORDS: Final[Mapping[object, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    types.NoneType: "null",
}
_JSON_TYPES: Final[Mapping[object, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    types.NoneType: "null",
}

MOST_PARAMETERS_BYTES: Final = 64 * 1024
"""As JSON, all parameters of a job are no longer: they are kept, and told with each look at the job."""
# Whoever tells of a job puts them into something that is nested itself.
_MOST_DEPTH: Final = 100


class JobFunction:
    """A function that makes the work of a job from a pool and parameters.

    Args:
        function: `def name(pool, parameter=…) -> Work`, or a coroutine function.

    Attributes:
        name: Its name.
        description: The first line of its docstring.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._signature = inspect.signature(function)
        self._hints = _hints(function)
        self.name = function.__name__
        self.description = (inspect.getdoc(function) or "").partition("\n")[0]
        if not self._signature.parameters:
            raise TypeError(f"{self.name} takes no pool: begin it with `def {self.name}(pool, ...)`")

    @property
    def parameters(self) -> dict[str, JSON]:
        """What it takes, as a JSON schema of an object."""
        properties: dict[str, JSON] = {}
        required: list[JSON] = []
        for parameter in self._takes.values():
            told: dict[str, JSON] = {}
            words = [_JSON_TYPES[kind] for kind in self._kinds(parameter.name) if kind in _JSON_TYPES]
            if words:
                told["type"] = words[0] if len(words) == 1 else [*words]
            if parameter.default is parameter.empty:
                required.append(parameter.name)
            else:
                told["default"] = parameter.default
            properties[parameter.name] = told
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def check(self, parameters: Mapping[str, JSON]) -> None:
        """Look whether it takes these parameters, by their names and by the simple types among its annotations.

        Raises:
            WrongParameters: It does not; the text says which ones it takes.
        """
        _check_size(self.name, parameters)
        takes = self._takes
        for name, value in parameters.items():
            if name not in takes:
                known = ", ".join(takes) or "none"
                raise WrongParameters(f"the job {self.name!r} has no parameter {_shown(name)}; there are: {known}")
            kinds = self._kinds(name)
            if kinds and not any(_fits(value, kind) for kind in kinds):
                wanted = " or ".join(_WORDS.get(kind, "something else") for kind in kinds)
                raise WrongParameters(
                    f"the parameter {name!r} of the job {self.name!r} takes {wanted}, not {_shown(value)}"
                )
        for name, parameter in takes.items():
            if parameter.default is parameter.empty and name not in parameters:
                raise WrongParameters(f"the job {self.name!r} needs the parameter {name!r}")

    def refuse(self, pool: Pool, parameters: Mapping[str, JSON]) -> None:
        """Make the work once, and throw it away: what the function says of a value is said before a job is kept.

        A coroutine function is not called: it may ask a server.

        Raises:
            WrongParameters: The function raises a ValueError or a TypeError, as all of imapipe does of an argument.
        """
        if inspect.iscoroutinefunction(self._function):
            return
        try:
            made = self._function(pool, **parameters)
        except (TypeError, ValueError) as error:
            raise WrongParameters(f"the job {self.name!r} cannot be made of these parameters: {error}") from error
        except Exception:  # noqa: BLE001 - of the application, and maybe gone when the job has its turn.
            return
        if inspect.iscoroutine(made):
            made.close()

    async def work(self, pool: Pool, parameters: Mapping[str, JSON]) -> Work[Usable]:
        """What is to be done. Raises what the function raises, and TypeError where it gives no `Work`."""
        made = self._function(pool, **parameters)
        if inspect.isawaitable(made):
            made = await made
        if not isinstance(made, Work):
            raise TypeError(f"the job {self.name!r} is to return a Work(pipeline, run), not {made!r}")
        return made

    @property
    def _takes(self) -> dict[str, inspect.Parameter]:
        """Its parameters behind the pool."""
        return dict(list(self._signature.parameters.items())[1:])

    def _kinds(self, name: str) -> tuple[object, ...]:
        """The types that a parameter is annotated with, without what is in lists and objects; () is anything."""
        hint = self._hints.get(name)
        union = typing.get_origin(hint) in {typing.Union, types.UnionType}
        kinds = tuple(typing.get_origin(each) or each for each in (typing.get_args(hint) if union else (hint,)))
        return kinds if all(kind in _WORDS for kind in kinds) else ()


def _hints(function: Callable[..., object]) -> dict[str, object]:
    """What a function is annotated with, but for what cannot be known here: local names, imports for type checkers."""
    names = getattr(function, "__globals__", {})
    hints: dict[str, object] = {}
    for name, annotation in inspect.get_annotations(function).items():
        with suppress(NameError, TypeError, SyntaxError):
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            hints |= typing.get_type_hints(alone, globalns=names)
    return hints


def _check_size(name: str, parameters: Mapping[str, JSON]) -> None:
    """Raise WrongParameters where they could not be kept, or told."""
    try:
        text = orjson.dumps(parameters)
    except TypeError as error:
        raise WrongParameters(f"the parameters of the job {name!r} are no JSON: {error}") from None
    if len(text) > MOST_PARAMETERS_BYTES:
        raise WrongParameters(
            f"the parameters of the job {name!r} are longer than {MOST_PARAMETERS_BYTES:,} bytes of JSON"
        )
    deepest: list[JSON] = [*parameters.values()]
    for _ in range(_MOST_DEPTH):
        if any(isinstance(each, float) and not math.isfinite(each) for each in deepest):
            raise WrongParameters(f"the parameters of the job {name!r} are no JSON: no number there is NaN or infinite")
        deepest = [each for value in deepest if isinstance(value, dict | list) for each in _within(value)]
    if deepest:
        raise WrongParameters(f"the parameters of the job {name!r} are nested more than {_MOST_DEPTH} deep")


def _within(value: dict[str, JSON] | list[JSON]) -> Iterable[JSON]:
    return value.values() if isinstance(value, dict) else value


def _shown(value: JSON) -> str:
    """A value of somebody else, cut to what a sentence bears."""
    return reprlib.repr(value)


def _fits(value: JSON, kind: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)
