"""Every module of the package, imported; `coverage run tools/every_module.py` sees their own lines."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import imapipe


def every_module() -> Iterator[ModuleType]:
    """Import the package and all that is in it, one after the other, but for what runs when it is imported."""
    yield imapipe
    for found in pkgutil.walk_packages(imapipe.__path__, "imapipe."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


if __name__ == "__main__":
    print(f"{len(list(every_module()))} modules")
