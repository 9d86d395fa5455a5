"""mutt as a reader of what was written: it copies all messages of a mailbox to a Maildir."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import struct
import termios
import time
from pathlib import Path
from typing import Final

WINDOW: Final = struct.pack("HHHH", 40, 120, 0, 0)
# Each of them, and a folder that exists, is a question that the keys would answer.
SETTINGS: Final = (
    "set auto_tag=yes confirmcreate=no confirmappend=no delete=no move=no mbox_type=Maildir sort=mailbox-order "
    "quit=yes wait_key=no folder=/"
)
GIVES_UP_AFTER_SECONDS: Final = 300


def is_there() -> bool:
    """Whether mutt is installed."""
    return shutil.which("mutt") is not None


def copy_all(source: Path, target: Path, home: Path) -> None:
    """Have mutt read a Maildir or an mbox, and copy every message to a Maildir that is not there yet."""
    keys = f'push "<tag-pattern>~A<enter><copy-message>{target}<enter><quit>"'
    pid, terminal = pty.fork()
    if not pid:
        fcntl.ioctl(0, termios.TIOCSWINSZ, WINDOW)
        environment = {**os.environ, "TERM": "xterm", "HOME": str(home)}
        os.execvpe(
            "mutt", ["mutt", "-n", "-F", os.devnull, "-R", "-e", SETTINGS, "-e", keys, "-f", str(source)], environment
        )
    end = time.monotonic() + GIVES_UP_AFTER_SECONDS
    try:
        while time.monotonic() < end:
            readable, _, _ = select.select([terminal], [], [], 1)
            # It ends with EIO on Linux, with nothing elsewhere.
            if readable and not os.read(terminal, 65536):
                break
    except OSError:
        pass
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
