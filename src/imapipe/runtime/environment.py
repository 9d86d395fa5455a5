"""The environment that other programs and worker processes get: without the secrets of this one.

Invariant: a variable of imapipe that holds a password or a secret goes to no process that has no use for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

_SECRET: Final = re.compile(r"IMAPIPE_(?:[A-Z0-9_]+_)?(?:PASSWORD|SECRET)")


def secret_variables(names: Iterable[str]) -> list[str]:
    """Those of the names under which the command line looks for a secret."""
    return [name for name in names if _SECRET.fullmatch(name.upper())]


def environment_of_others() -> dict[str, str]:
    """The environment for a program that is started."""
    environment = dict(os.environ)
    for name in secret_variables(environment):
        del environment[name]
    return environment
