"""What all tests share: the settings of hypothesis, and a real Dovecot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from dovecot_server import DovecotServer, find_dovecot

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_CI = os.environ.get("CI", "").lower() == "true"

# No deadline: tests assert no wall time. In CI the same examples each time, so that a failure is not luck.
settings.register_profile("imapipe", deadline=None, derandomize=IN_CI, print_blob=True)
settings.load_profile("imapipe")


@pytest.fixture(scope="session")
def dovecot() -> Iterator[DovecotServer]:
    """A Dovecot for the whole session; each test takes a user of its own with `dovecot.new_user()`."""
    if find_dovecot() is None:
        reason = "Dovecot is not installed (apt install dovecot-imapd): its tests do not run"
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with DovecotServer() as server:
        yield server
