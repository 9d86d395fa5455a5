"""What a kind of job says that it takes, by its annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imapipe.contrib.errors import WrongParameters
from imapipe.contrib.job_function import JobFunction
from imapipe.models.json_value import JSON

if TYPE_CHECKING:
    from imapipe import Pool


def _nested(depth: int) -> JSON:
    value: JSON = 1
    for _ in range(depth):
        value = [value]
    return value


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


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x" * 70_000, "longer than 65,536 bytes"),
        (10**400, "are no JSON"),
        (float("nan"), "no number there is NaN or infinite"),
        ({"a": [float("inf")]}, "no number there is NaN or infinite"),
        ("\ud800", "are no JSON"),
        ({"a\ud800": 1}, "are no JSON"),
        (_nested(120), "nested more than 100 deep"),
        (_nested(600), "are no JSON"),
    ],
    ids=["long", "number", "nan", "infinite", "surrogate", "key", "nested", "deeply"],
)
def test_what_could_not_be_kept_or_told_is_refused(value: JSON, said: str) -> None:
    """One job of these would keep a service from telling of any: `GET /jobs` has them all."""

    def scan(pool: object, free: object = 1) -> object:
        return pool, free

    kind = JobFunction(scan)
    kind.check({"free": [_nested(90), 2**63, "ü\0"]})
    with pytest.raises(WrongParameters, match=said) as caught:
        kind.check({"free": value})
    assert len(str(caught.value)) < 200


def test_what_is_shown_of_a_wrong_value_is_short() -> None:
    def scan(pool: object, days: int = 1) -> object:
        return pool, days

    cases: list[dict[str, JSON]] = [{"days": "x" * 60_000}, {"y" * 60_000: 1}, {"days": [[1] * 1000]}]
    for wrong in cases:
        with pytest.raises(WrongParameters) as caught:
            JobFunction(scan).check(wrong)
        assert len(str(caught.value)) < 200


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
