"""Where the subjects run: imapipe with our own interpreter, its peers in environments of the cache folder.

What cannot be had on this machine is absent, with a reason, and its entries say so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_PINS: Final = Path(__file__).with_name("peers.txt")
# imapflow does not take mail apart; mailparser is what its manual does it with.
_NODE_PACKAGES: Final = ("imapflow@2.10.2", "mailparser@3.14.2")
# They need the standard library only.
_STANDARD: Final = frozenset(
    {"drain", "imaplib_peer", "imaplib_change_peer", "mbsync_peer", "mbsync_copy_peer", "imapsync_peer"}
)
_OURS: Final = frozenset(
    {
        "imapipe_subject",
        "import_subject",
        "rate_subject",
        "processes_subject",
        "sink_subject",
        "hostile_subject",
        "follow_subject",
        "copy_subject",
        "change_subject",
        "service_subject",
        "store_subject",
    }
)
_PROGRAMS: Final = {"mbsync_peer": "mbsync", "mbsync_copy_peer": "mbsync", "imapsync_peer": "imapsync"}
_INSTALL_TIMEOUT_SECONDS: Final = 300


class Peers:
    """Gives the command line of each subject.

    Args:
        cache: The cache folder; what has to be installed is installed when it is first needed.
    """

    def __init__(self, cache: Path) -> None:
        self._python = cache / "peers"
        self._node = cache / "node"
        self._absent: dict[str, str] = {}

    def command(self, subject: str) -> list[str]:
        """The command that runs a subject.

        Raises:
            FileNotFoundError: It is absent; the text says why.
        """
        program = _PROGRAMS.get(subject)
        if program is not None and shutil.which(program) is None:
            raise FileNotFoundError(f"{program} is not installed")
        if subject in _STANDARD | _OURS:
            return [sys.executable, "-m", "benchmarks.subject", subject]
        prepare = self._prepare_node if subject == "imapflow" else self._prepare_python
        if prepare.__name__ not in self._absent:
            self._absent[prepare.__name__] = prepare()
        if reason := self._absent[prepare.__name__]:
            raise FileNotFoundError(reason)
        if subject == "imapflow":
            return ["node", str(Path(__file__).with_name("subjects") / "imapflow.mjs"), str(self._node)]
        return [str(self._python / "bin" / "python"), "-m", "benchmarks.subject", subject]

    def _prepare_python(self) -> str:
        stamp = self._python / "installed"
        wanted = hashlib.sha256(_PINS.read_bytes() + sys.version.encode()).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted:
            return ""
        print("installing the Python peers", flush=True)
        shutil.rmtree(self._python, ignore_errors=True)
        return (
            _do([sys.executable, "-m", "venv", str(self._python)])
            or _do([str(self._python / "bin" / "pip"), "install", "--quiet", "--requirement", str(_PINS)])
            or _write(stamp, wanted)
        )

    def _prepare_node(self) -> str:
        if shutil.which("node") is None or shutil.which("npm") is None:
            return "Node is not installed"
        stamp = self._node / "installed"
        if stamp.exists() and stamp.read_text() == " ".join(_NODE_PACKAGES):
            return ""
        print("installing imapflow and mailparser", flush=True)
        shutil.rmtree(self._node, ignore_errors=True)
        self._node.mkdir(parents=True)
        _write(self._node / "package.json", json.dumps({"private": True}))
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(self._node), *_NODE_PACKAGES]
        return _do(command) or _write(stamp, " ".join(_NODE_PACKAGES))


def _do(command: list[str]) -> str:
    """Run a command; give "" or, as the reason of an absence, the end of what it said."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"could not be installed: {error}"
    if done.returncode == 0:
        return ""
    last = (done.stderr or done.stdout).strip().splitlines()[-1:]
    return f"could not be installed: {' '.join(last)}"


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return ""
