"""`python -m fuzz --minutes N`: hostile input until the time is over; the figures at the end.

A finding ends the session with status 1. It is kept in `tests/fuzz/inputs`, where the tests read it from then on; of a
dialog its seed is told.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import logging
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz import dialogs, inputs, methods, parsers, targets

KEPT: Final = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "inputs"
EXAMPLES: Final = 150
DIALOGS: Final = 48
METHODS: Final = 24


class Session:
    """One session of the fuzzer.

    Attributes:
        executions: How often each target was run.
        findings: What was found.
        slowest: Seconds, name and input of the slowest parser.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.parsers = parsers.find()
        self.methods = methods.find()
        self.executions: Counter[str] = Counter()
        self.findings: list[str] = []
        self.slowest: tuple[float, str, bytes] = (0.0, "", b"")
        self.ended: Counter[str] = Counter()

    def parse(self, text: bytes) -> None:
        """Give a text to every parser."""
        for parser in self.parsers:
            check = partial(parsers.check, parser, text)
            took = self.guard("parsers", text, check)
            if took > self.slowest[0]:
                # It may have been the garbage collector.
                self.slowest = max(self.slowest, (min(took, self.guard("parsers", text, check)), parser.name, text))

    def round(self) -> None:
        """Some of everything."""

        @seed(self.chance.getrandbits(64))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs.texts(), inputs.texts(), inputs.pumps(), st.integers(0, 1 << 30))
        def examples(text: bytes, other: bytes, pump: tuple[bytes, bytes, bytes], number: int) -> None:
            self.parse(text)
            stream = text + b"\r\n" + other
            self.guard("framer", stream, lambda: targets.check_framer(stream, number))
            self.guard("messages", stream, lambda: targets.check_message(text, other))
            parser = self.parsers[number % len(self.parsers)]
            self.guard("growth", b"".join(pump), lambda: targets.check_growth(parser, pump))

        examples()
        first = self.chance.getrandbits(40)
        for dialog in dialogs.play(range(first, first + DIALOGS)):
            self.executions["dialogs"] += 1
            self.ended[dialog.ended.partition(":")[0] or "well"] += 1
            self.findings += [f"dialog {dialog.seed}: {finding}" for finding in dialog.findings]
        called = self.chance.sample(self.methods, METHODS)
        self.executions["methods"] += METHODS
        self.findings += methods.play(called, [self.chance.getrandbits(40)])

    def guard(self, target: str, data: bytes, run: Callable[[], object]) -> float:
        """Run a target; what it raises is a finding, and its input is kept. Gives the seconds of processor it took."""
        self.executions[target] += 1
        begin = time.thread_time()
        try:
            run()
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            path = KEPT / f"{target}_{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            self.findings.append(f"{path.name}: {type(error).__name__}: {str(error)[:500]}")
        return time.thread_time() - begin

    def figures(self, seconds: float) -> str:
        """What a person wants to know."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took, name, text = self.slowest
        return "\n".join(
            (
                f"{seconds:.0f} s on Python {sys.version.split()[0]}: "
                + ", ".join(f"{count:,} {target}" for target, count in self.executions.items()),
                f"dialogs ended: {', '.join(f'{how} {count}' for how, count in self.ended.most_common())}",
                f"slowest: {took * 1000:.1f} ms of processor, {name} of {len(text)} bytes",
                f"peak memory: {peak / 1024:.0f} MB",
                f"findings: {len(self.findings)}",
                *self.findings,
            )
        )


def main() -> int:
    """Fuzz for as long as is said."""
    options = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--seed", type=int, default=None, help="of the session; a random one by default")
    given_options = options.parse_args()
    number = given_options.seed if given_options.seed is not None else random.SystemRandom().getrandbits(32)
    # What the library says of a server, and asyncio of a client that has gone, is thousands of lines.
    logging.disable(logging.CRITICAL)
    session = Session(random.Random(number))
    begin = time.monotonic()
    seconds = given_options.minutes * 60
    if importlib.util.find_spec("atheris") is not None:
        guided = [sys.executable, "-m", "fuzz.guided", str(max(1, int(seconds / 3)))]
        session.findings += ["atheris"] if subprocess.run(guided, check=False).returncode else []
        # However long it took to begin: the rest is for the others.
        begin, seconds = time.monotonic(), seconds * 2 / 3
    while not session.findings and time.monotonic() - begin < seconds:
        session.round()
    sys.stdout.write(f"{session.figures(time.monotonic() - begin)}\nseed: {number}\n")
    return 1 if session.findings else 0


if __name__ == "__main__":
    sys.exit(main())
