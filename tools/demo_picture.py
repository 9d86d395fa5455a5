"""Make the moving picture of the demo that the README shows: `python tools/demo_picture.py docs/demo.svg`.

The demo runs in a terminal that exists in memory (pyte); what its screen showed, and when, becomes an SVG that moves by
itself, with text that can be searched and read aloud. Pauses are shortened, so that nobody waits for the picture.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import pyte

COLUMNS: Final = 96
ROWS: Final = 34
# How finely time is told, the longest that nothing moves, and how long the last screen stands.
STEP_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 1.5
END_SECONDS: Final = 6.0
CELL_WIDTH: Final = 7.8
CELL_HEIGHT: Final = 17.0
MARGIN: Final = 14.0


@dataclass(frozen=True)
class Frame:
    """A screen, and when it was first seen."""

    seconds: float
    lines: Sequence[str]


def record(command: Sequence[str]) -> Iterator[Frame]:
    """Run a program in a terminal; gives its screens, each once."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(ROWS), "NO_COLOR": "1"}
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    began, shown = time.monotonic(), None
    is_open = True
    while is_open:
        until = time.monotonic() + STEP_SECONDS
        while is_open and (left := until - time.monotonic()) > 0:
            if select.select([ours], [], [], left)[0]:
                try:
                    stream.feed(os.read(ours, 65_536))
                except OSError:
                    # The other end is closed: the program has ended.
                    is_open = False
        lines = tuple(line.rstrip() for line in screen.display)
        if lines != shown:
            shown = lines
            yield Frame(time.monotonic() - began, lines)
    os.close(ours)
    if program.wait():
        raise SystemExit(f"the demo ended with status {program.returncode}")


def shorten(frames: Sequence[Frame]) -> list[Frame]:
    """The same screens, without long waits, from time 0 on."""
    at, before, shortened = 0.0, frames[0].seconds, []
    for frame in frames:
        at += min(frame.seconds - before, LONGEST_SECONDS)
        before = frame.seconds
        shortened.append(Frame(round(at, 2), frame.lines))
    return shortened


def draw(frames: Sequence[Frame], command: str) -> str:
    """The picture: each line of text once for each time that it was shown."""
    total = frames[-1].seconds + END_SECONDS
    # Some space of a long screen is never written to.
    rows = max(number + 1 for frame in frames for number, line in enumerate(frame.lines) if line)
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, (rows + 1) * CELL_HEIGHT + 2 * MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13">'
        f"\n<title>{escape(command)}: a job is killed in the middle and resumed, and nothing is lost</title>"
        "\n<style>svg{background:#10151c;border-radius:8px}text{fill:#d7dde5;white-space:pre}"
        ".prompt{fill:#7fd1a8}.yes{fill:#8fd694}</style>"
        # The clock that everything hangs on: it begins anew when it ends.
        f'\n<rect width="0" height="0"><animate id="turn" attributeName="x" from="0" to="0" dur="{total:.2f}s" '
        'begin="0s;turn.end"/></rect>'
    )
    parts = [head, _text(0, f"$ {command}", "prompt")]
    for row in range(rows):
        for line, begin, end in _spans(frames, row, total):
            kind = "yes" if line.lstrip().startswith("yes ") or line.startswith("Proven") else ""
            when = f'begin="turn.begin+{begin:.2f}s" dur="{end - begin:.2f}s"'
            parts.append(_text(row + 1, line, kind, f'<set attributeName="visibility" to="visible" {when}/>'))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _spans(frames: Sequence[Frame], row: int, total: float) -> Iterator[tuple[str, float, float]]:
    """What stood in a row, from when to when."""
    line, begin = "", 0.0
    for frame in frames:
        if frame.lines[row] != line:
            if line:
                yield line, begin, frame.seconds
            line, begin = frame.lines[row], frame.seconds
    if line:
        yield line, begin, total


def _text(row: int, line: str, kind: str, shown: str = "") -> str:
    y = MARGIN + (row + 0.8) * CELL_HEIGHT
    how = f' class="{kind}"' if kind else ""
    hidden = ' visibility="hidden"' if shown else ""
    length = f' textLength="{len(line) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{MARGIN:.0f}" y="{y:.1f}" xml:space="preserve"{how}{hidden}{length}>{escape(line)}{shown}</text>'


def main() -> None:
    """Record and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--messages", default="5000")
    options = parser.parse_args()
    frames = list(record([sys.executable, "-m", "imapipe", "demo", "--messages", options.messages]))
    options.picture.write_text(draw(shorten(frames), "imapipe demo"), encoding="utf-8")


if __name__ == "__main__":
    main()
