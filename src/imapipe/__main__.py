"""`python -m imapipe` is the same as the command `imapipe`."""

from __future__ import annotations

import sys

from imapipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
