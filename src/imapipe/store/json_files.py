"""The checkpoint files that this process has open: one `JsonFile` for each real path, however many runs use it.

Invariants:

- A file is open as long as somebody is counted as its user; the last one closes it.
- Who comes while it is being closed waits for that, and opens it again.
- For looking only, what this process has open is asked first, for it knows more than the file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from imapipe.store.checkpoint_state import CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.journal import Journal
from imapipe.store.json_file import JsonFile, check_place, read_whole

# By process too: what a forked child inherits is not its own.
_files: Final[dict[tuple[int, str], JsonFile]] = {}
_counting = threading.Lock()


def hold(path: str | os.PathLike[str], key: JobKey) -> JsonFile:
    """Take a key of a file, opening that where this process has not done so yet. Ended by `let_go`.

    Raises:
        CheckpointError: It could not be; see `CheckpointStore.open`.
    """
    return _join(path, key)


def let_go(file: JsonFile, key: JobKey) -> None:
    """Give a key back; the last one closes the file."""
    file.held.discard(key)
    leave(file)


def keep(path: str | os.PathLike[str]) -> JsonFile:
    """Open a file, as `hold` does, for runs to come. Ended by `leave`.

    Raises:
        CheckpointError: It could not be opened.
    """
    return _join(path, None)


def peek(path: str | os.PathLike[str], keys: Iterable[JobKey]) -> dict[JobKey, CheckpointState]:
    """Read states without the lock, for looking only; keys without one are left out."""
    with _open_here(path) as file:
        if file is not None:
            found = ((key, file.current(key)) for key in keys)
            return {key: state for key, state in found if state is not None}
    states = _peek_all(path)
    return {key: states[key] for key in keys if key in states}


def keys_in(path: str | os.PathLike[str]) -> list[JobKey]:
    """The keys that have a state, read without the lock."""
    with _open_here(path) as file:
        if file is not None:
            return file.keys()
    return list(_peek_all(path))


def _peek_all(path: str | os.PathLike[str]) -> dict[JobKey, CheckpointState]:
    real = os.path.realpath(path)
    check_place(str(path), real)
    states, _ = read_whole(Journal(f"{real}.journal"), str(path), real)
    return {state.key.printable(): state for state in states}


@contextmanager
def _open_here(path: str | os.PathLike[str]) -> Iterator[JsonFile | None]:
    """The file where this process has it open: it knows its content. Nobody closes it meanwhile."""
    file = _files.get((os.getpid(), os.path.realpath(path)))
    if file is None:
        yield None
        return
    with file.busy:
        yield file if file.is_open else None


def _join(path: str | os.PathLike[str], key: JobKey | None) -> JsonFile:
    # Through links: what replaces the file must replace the real one, and two names of it are one file.
    real = os.path.realpath(path)
    with _counting:
        file = _files.setdefault((os.getpid(), real), JsonFile(str(path), real))
        file.users += 1
    try:
        file.join(key)
    except BaseException:
        leave(file)
        raise
    return file


def leave(file: JsonFile) -> None:
    """Be one less of those who have it open; the last one closes it."""
    with file.busy:
        with _counting:
            file.users -= 1
            last = not file.users
        try:
            if last:
                file.close()
        finally:
            with _counting:
                # Whoever came meanwhile waits for `busy` and opens the file again.
                if not file.users:
                    _files.pop((os.getpid(), file.real), None)
