"""Which cases of a test stand for all of them: they are enough on another Python.

All cases run on one Python. What another one does differently hangs on the test much more than on its hundredth case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

A_FEW: Final = 2


def few_cases(names: Sequence[str], count: int = A_FEW) -> set[int]:
    """Where in a list of names of tests those are that stand for all: of each the first, the last, and some between."""
    cases: defaultdict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        cases[name.partition("[")[0]].append(at)
    return {of[(len(of) - 1) * step // (count - 1)] for of in cases.values() for step in range(count)}
