"""Arguments of the wrong kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

import imapipe
from imapipe.models.argument import check_number, check_whole


@pytest.mark.parametrize("value", ["1", None, 1.5, True])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(TypeError, match=r"^size takes a whole number, not "):
        check_whole("size", value)


@pytest.mark.parametrize("value", ["1", None, False])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(TypeError, match=r"^seconds takes a number, not "):
        check_number("seconds", value)


def test_what_is_one() -> None:
    check_whole("size", 0)
    check_number("seconds", 0.5)
    check_number("seconds", 3)


def test_nan_is_no_number() -> None:
    """No bound holds it: a job with `attempts=nan` would try again for ever."""
    with pytest.raises(ValueError, match=r"^seconds takes a number, not nan"):
        check_number("seconds", float("nan"))


_POOL = partial(imapipe.create_pool, "imaps://ann@imap.example.org", password="secret")
# What counts or measures, and where; those that are whole come first.
_TAKES: list[tuple[Callable[..., object], str]] = [
    (imapipe.Retry, "attempts budget"),
    (partial(imapipe.Checkpoint, "state.json"), "save_every_messages"),
    (imapipe.ByteBudget, "bytes_per_day"),
    (imapipe.AdaptiveBatch, "start minimum maximum max_bytes"),
    (imapipe.FixedBatch, "size max_bytes"),
    (imapipe.Limits, "line_bytes piece_bytes literal_bytes kept_bytes literals"),
    (_POOL, "max_size max_held_bytes spool_above max_spool_bytes"),
    (imapipe.Retry, "wait_initial_seconds wait_max_seconds outage_seconds"),
    (partial(imapipe.Checkpoint, "state.json"), "save_every_seconds"),
    (partial(imapipe.Progress, print), "every_seconds"),
    (imapipe.AdaptiveBatch, "target_seconds slow_seconds"),
    (imapipe.RateLimit, "commands_per_second messages_per_second bytes_per_second"),
    (imapipe.AdaptiveRateLimit, "start_per_second minimum_per_second maximum_per_second target_seconds"),
    (_POOL, "acquire_timeout_seconds connect_timeout_seconds command_timeout_seconds stall_timeout_seconds"),
    (_POOL, "minimum_bytes_per_second max_age_seconds"),
]


@pytest.mark.parametrize("wrong", [float("nan"), "5", True, -1])
@pytest.mark.parametrize(("takes", "names"), _TAKES)
def test_what_counts_or_measures_takes_numbers_that_make_sense(
    takes: Callable[..., object], names: str, wrong: object
) -> None:
    for name in names.split():
        with pytest.raises((TypeError, ValueError), match=f"{name}|a batch holds"):
            takes(**{name: wrong})
