"""The command line `imapipe`; it needs the extra `imapipe[cli]`.

This module imports neither typer nor rich, so that their absence is one sentence and not a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

_NEEDED = ("typer", "rich")
_USAGE_STATUS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Instead of those of the process.

    Returns:
        The exit status: 0 complete, 3 partial, 4 login refused, 2 usage, 1 the rest, 130 after Ctrl-C.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"imapipe: the command line needs {' and '.join(missing)}, not installed here; "
            "install them with: pip install 'imapipe[cli]'\n"
        )
        return _USAGE_STATUS
    status: int = import_module("imapipe.cli.app").run(arguments)
    return status
