"""Sources are values."""

from __future__ import annotations

import pytest

from imapipe.models.cursor import Cursor
from imapipe.pipeline.source.base import Source
from imapipe.pipeline.source.given import Given
from imapipe.pipeline.source.newer import Newer
from imapipe.pipeline.source.searched import Searched
from imapipe.wire.uid_set import UidSet

SOURCES = (Searched(), Given(UidSet(), 1), Newer(1, Cursor()))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_a_source_is_there_whatever_it_holds(source: Source) -> None:
    """One without a field must not be an empty tuple, which is nothing in a condition."""
    assert bool(source)
    assert [other for other in SOURCES if other == source] == [source]
