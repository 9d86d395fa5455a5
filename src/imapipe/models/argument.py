"""Refusing arguments of the wrong kind, in one sentence that names them."""

from __future__ import annotations

import math


def check_whole(name: str, value: object) -> None:
    """Raise TypeError unless the value is a whole number; a bool is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes a whole number, not {value!r}")


def check_consent(name: str, value: object) -> None:
    """Raise TypeError unless the value is True or False: a text such as "no" would count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")


def check_number(name: str, value: object) -> None:
    """Raise TypeError unless the value is a number; a bool is none. Raise ValueError at NaN, which no bound holds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} takes a number, not {value!r}")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} takes a number, not {value!r}")
