"""How long it takes from `pip install` to the first output: `python tools/first_output.py`.

In a folder of its own it makes an environment, installs the checkout there as a user would install the package (nothing
kept from earlier times, and wheels only, so that no compiler is needed), runs a first job on the mail server that comes
with it, and the demo. What it prints stands in docs/quickstart.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FIRST_JOB: Final = """
import asyncio
import imapipe
from imapipe import search as q
from imapipe.testing import Server

async def main():
    async with Server(messages=300) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        async for message in pool.mailbox("INBOX").search(q.ALL).fetch("envelope"):
            print(message.date, message.sender, message.subject)

asyncio.run(main())
"""


def timed(command: Sequence[str], folder: Path) -> tuple[float, str]:
    """Run a program in a folder: how many seconds it took, and what it wrote. Raises CalledProcessError."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return time.monotonic() - began, done.stdout


def install(folder: Path) -> tuple[str, float]:
    """Make an environment with the package in it: its interpreter, and how long pip took."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
    python = str(folder / "environment" / "bin" / "python")
    pip = (python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--only-binary", ":all:", f"{ROOT}[cli]")
    return python, timed(pip, folder)[0]


def first_outputs(python: str, folder: Path, *, demo_messages: int) -> list[tuple[str, float]]:
    """How long the first job and the demo take, with what they do."""
    job, printed = timed((python, "-c", FIRST_JOB), folder)
    demo, told = timed((python, "-m", "imapipe", "demo", "--messages", str(demo_messages)), folder)
    if len(printed.splitlines()) != 300 or "Proven" not in told:
        raise SystemExit("the outputs are not what they should be")
    return [("a first job: 300 messages printed", job), (f"`imapipe demo`, {demo_messages:,} messages", demo)]


def main() -> None:
    """Measure, and print a row for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="use this interpreter, which has imapipe, and install nothing")
    parser.add_argument("--demo-messages", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        python = options.python
        if python is None:
            python, seconds = install(folder)
            rows.append(("`pip install 'imapipe[cli]'`, nothing cached", seconds))
        rows += first_outputs(python, folder, demo_messages=options.demo_messages)
    for what, seconds in rows:
        print(f"| {what} | {seconds:.1f} s |")


if __name__ == "__main__":
    main()
