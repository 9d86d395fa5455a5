"""Brings source archives of Debian packages whose own tests carry odd mails, for `tests/mime/test_corpus.py`.

    python3 tools/mail_corpora.py .corpora

Nothing of them is copied into this repository. What the package mirrors of this machine do not have is left out, in a
line, and its tests are skipped. The lists of sources are kept apart from those of the system, which are only read.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

PACKAGES: Final = ("gmime", "golang-github-jhillyerd-enmime", "notmuch", "php-horde-mime")
_APT: Final = Path("/etc/apt")
_TIMEOUT_SECONDS: Final = 60


def bring(folder: Path) -> list[str]:
    """Bring the archives that are not there yet; gives the packages that could not be had."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _absent(folder)
    if not wanted or shutil.which("apt-get") is None:
        return wanted
    with tempfile.TemporaryDirectory(prefix="mail-corpora-") as scratch:
        parts, lists, cache = (Path(scratch, name) for name in ("parts", "lists", "cache"))
        for each in (parts, lists / "partial", cache / "archives" / "partial"):
            each.mkdir(parents=True)
        _write_sources(parts)
        options = [
            f"-oDir::Etc::sourceparts={parts}",
            "-oDir::Etc::sourcelist=/dev/null",
            f"-oDir::State::lists={lists}",
            f"-oDir::Cache={cache}",
        ]
        _run(["apt-get", "-q", *options, "update"], cache)
        for package in wanted:
            if _run(["apt-get", "-q", *options, "source", "--download-only", "--tar-only", package], cache):
                # Not before it is whole.
                for archive in cache.glob(f"{package}_*.orig.tar.*"):
                    shutil.move(archive, folder)
    return _absent(folder)


def _absent(folder: Path) -> list[str]:
    return [package for package in PACKAGES if not any(folder.glob(f"{package}_*.orig.tar.*"))]


def _write_sources(parts: Path) -> None:
    """The sources of this machine, asked for source packages instead of binary ones."""
    for path in sorted([*_APT.glob("sources.list"), *_APT.glob("sources.list.d/*.list")]):
        lines = [line for line in path.read_text().splitlines() if re.match(r"deb\s", line)]
        (parts / path.name).with_suffix(".list").write_text("\n".join(["deb-src" + line[3:] for line in lines]) + "\n")
    for path in sorted(_APT.glob("sources.list.d/*.sources")):
        (parts / path.name).write_text(re.sub(r"(?m)^Types:.*$", "Types: deb-src", path.read_text()))


def _run(command: list[str], folder: Path) -> bool:
    """Run a command that says nothing; whether it went well within a minute."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to keep the archives")
    absent = bring(parser.parse_args().folder.resolve())
    if absent:
        print(f"mail corpora that could not be had: {', '.join(absent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
