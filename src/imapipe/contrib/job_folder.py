"""What is kept of jobs between two runs of a service: a folder with a small file for each job.

One file for each, because a job that begins or ends then costs what it is large, not what all of them are.

Invariants:

- A job whose `save` has returned is there after a loss of power (`durable_file`).
- One process has the folder at a time; the system takes it back when that dies.
- A file that cannot be read is an error that names it, never a job that is silently gone.
- A job is in the file that has its id as its name, so that no file has a say in where others are written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from imapipe.contrib.errors import JobFolderError
from imapipe.durable_file import read_object, remove, remove_leftovers, save_file
from imapipe.models.json_value import JSON
from imapipe.runtime.lock_file import LockFile

VERSION: Final = 1
_SUFFIX: Final = ".job.json"


class JobFolder:
    """The folder; its methods block, and are for a thread.

    Args:
        path: Where; made where it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = LockFile(str(self._path / "jobs.lock"))

    def take(self) -> list[dict[str, JSON]]:
        """Take the folder, and give what is kept, the oldest first.

        Raises:
            JobFolderError: It is another process's, or something in it cannot be read.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            is_ours = self._lock.acquire()
        except OSError as error:
            raise JobFolderError(str(self._path), error.strerror or str(error)) from error
        if not is_ours:
            reason = "another process has these jobs; run the service with one worker, or give each a folder of its own"
            raise JobFolderError(str(self._path), reason)
        try:
            return [self._read(path) for path in sorted(self._path.glob(f"*{_SUFFIX}"))]
        except BaseException:
            self.release()
            raise

    def save(self, job_id: str, document: Mapping[str, JSON]) -> None:
        """Keep a job.

        Raises:
            JobFolderError: It could not be written; what was kept of it before is there still.
        """
        path = self._file(job_id)
        try:
            save_file(path, [orjson.dumps({"version": VERSION, **document}, option=orjson.OPT_INDENT_2)])
        except OSError as error:
            raise JobFolderError(path, error.strerror or str(error)) from error

    def forget(self, job_id: str) -> None:
        """Keep a job no more."""
        remove(self._file(job_id))

    def unreadable(self, job_id: str, error: Exception) -> JobFolderError:
        """What to raise where a job is in the folder that cannot be one."""
        return JobFolderError(self._file(job_id), f"it is not whole ({error}); put a copy back, or move it away")

    def release(self) -> None:
        """Give the folder back."""
        self._lock.release()

    def _file(self, job_id: str) -> str:
        return str(self._path / f"{job_id}{_SUFFIX}")

    def _read(self, path: Path) -> dict[str, JSON]:
        remove_leftovers(str(path))
        try:
            document = orjson.loads(read_object(str(path)))
        except OSError as error:
            raise JobFolderError(str(path), error.strerror or str(error)) from error
        except orjson.JSONDecodeError as error:
            raise JobFolderError(str(path), f"it is no JSON ({error}); put a copy back, or move it away") from error
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise JobFolderError(str(path), "another version of imapipe wrote it; use that, or move it away")
        if document.get("id") != path.name.removesuffix(_SUFFIX):
            raise JobFolderError(str(path), "it is the file of another job; give it its name, or move it away")
        return document
