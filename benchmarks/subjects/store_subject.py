"""imapipe with its checkpoint in a file or a database: what any of them needs is imported before the clock starts."""

from __future__ import annotations

import filelock  # noqa: F401
import tenacity  # noqa: F401

import imapipe.database.postgres
import imapipe.database.sqlite  # noqa: F401
from benchmarks.subjects.imapipe_subject import VERSION, run

__all__ = ["VERSION", "run"]
