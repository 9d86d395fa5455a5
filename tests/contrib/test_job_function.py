"""What a kind of job says that it takes, by its annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imapipe.contrib.errors import WrongParameters
from imapipe.contrib.job_function import JobFunction

if TYPE_CHECKING:
    from imapipe import Pool


def test_parameters_are_told_as_a_schema() -> None:
    def scan(
        pool: Pool, words: list[str], days: int | None = None, share: float = 0.5, deep: bool = False, free: object = 1
    ) -> object:
        """Look at all.

        Twice.
        """
        return pool

    kind = JobFunction(scan)
    assert (kind.name, kind.description) == ("scan", "Look at all.")
    assert kind.parameters == {
        "type": "object",
        "properties": {
            "words": {"type": "array"},
            "days": {"type": ["integer", "null"], "default": None},
            "share": {"type": "number", "default": 0.5},
            "deep": {"type": "boolean", "default": False},
            "free": {"default": 1},
        },
        "required": ["words"],
        "additionalProperties": False,
    }
    kind.check({"words": ["a"], "days": None, "share": 1, "free": {"any": "thing"}})
    with pytest.raises(WrongParameters, match="'share' of the job 'scan' takes a number, not True"):
        kind.check({"words": [], "share": True})


def test_what_only_a_type_checker_knows_is_not_checked() -> None:
    class Local:
        """Known in this function only."""

    def scan(pool: Pool, here: Local, days: int = 1) -> object:
        return pool, here

    kind = JobFunction(scan)
    kind.check({"here": 1})
    with pytest.raises(WrongParameters, match="a whole number"):
        kind.check({"here": 1, "days": "x"})


def test_a_function_without_a_pool_is_refused() -> None:
    with pytest.raises(TypeError, match="takes no pool"):
        JobFunction(test_a_function_without_a_pool_is_refused)
