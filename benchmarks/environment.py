"""The machine and the software that figures were made on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers import ROOT
from dovecot_server import DovecotServer


def environment(server: DovecotServer, configuration: str) -> dict[str, str]:
    """Describe where we are, without the names of machines or people."""
    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": _processor(),
        "processors": str(os.cpu_count()),
        "memory": f"{_memory_gib():.0f} GiB",
        "dovecot": ".".join(map(str, server.version)),
        "dovecot configuration": configuration,
    }
    if shutil.which("node"):
        found["node"] = _said("node", "--version")
    return found


def commit() -> str:
    """The commit that is checked out, with a plus sign where files differ from it; "unknown" outside a clone."""
    name = _said("git", "rev-parse", "--short=10", "HEAD")
    changed = _said("git", "status", "--porcelain", "--untracked-files=no", "--", "src")
    return (name + ("+" if changed else "")) or "unknown"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
