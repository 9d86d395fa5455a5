"""`python -m fuzz.guided SECONDS`: the parsers fuzzed by atheris, whose inputs follow what code they reach.

It is optional: `python -m fuzz` gives it a third of the time where it is installed. Python's own changes of texts know
the grammar better; this one finds what nobody thought of.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

from fuzz import inputs, parsers

FOUND = parsers.find()


def one_input(data: bytes) -> None:
    """Give an input to one parser, or to all."""
    if not data:
        return
    chosen = FOUND if data[0] >= len(FOUND) else FOUND[data[0] : data[0] + 1]
    for parser in chosen:
        parsers.check(parser, data[1:])


def main() -> None:
    """Fuzz for so many seconds; a finding ends the process with a status that is not 0, and is kept."""
    kept = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "inputs"
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, text in enumerate(inputs.SEEDS):
            Path(corpus, str(number)).write_bytes(b"\xff" + text)
        words.write_text("".join(f'"{_escaped(token)}"\n' for token in inputs.TOKENS))
        atheris.instrument_all()
        options = [f"-max_total_time={sys.argv[1]}", f"-artifact_prefix={kept}/atheris_", f"-dict={words}"]
        atheris.Setup([sys.argv[0], *options, "-verbosity=0", "-max_len=2000", str(corpus)], one_input)
        atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(rf"\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    main()
