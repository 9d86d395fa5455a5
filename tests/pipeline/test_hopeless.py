"""When a run gives a server up, and when not."""

from __future__ import annotations

import pytest

from imapipe.errors import (
    CommandNo,
    CommandTimeout,
    ConnectionFailed,
    ConnectionLost,
    PoolTimeout,
    ProtocolError,
    ServerBye,
    Throttled,
)
from imapipe.models.batch import Batch, BatchResult, Failure
from imapipe.pipeline.hopeless import HOPELESS_TRIES, Hopelessness
from imapipe.wire.uid_set import UidSet

_BATCH = Batch(1, UidSet.parse("1:2"))
_NOTHING = BatchResult(_BATCH, missing=_BATCH.uids)


def _batches_until_over(result: BatchResult, error: BaseException | None, most: int = 20) -> int:
    hopelessness = Hopelessness()
    for number in range(1, most + 1):
        if hopelessness.is_reached(2.0 * number, 2.0 * number + 1, result, error, delivered=False):
            return number
    return 0


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost(),
        ConnectionFailed("no"),
        CommandTimeout("UID FETCH", timeout_seconds=1),
        PoolTimeout(timeout_seconds=1, max_size=1),
        ServerBye("UID FETCH"),
        Throttled("UID FETCH", "NO"),
        CommandNo("EXAMINE"),
    ],
)
def test_the_server_does_not_work(error: Exception) -> None:
    assert _batches_until_over(_NOTHING, error) == HOPELESS_TRIES


@pytest.mark.parametrize("error", [CommandNo("UID FETCH"), ProtocolError("broken")])
def test_it_is_about_the_messages(error: Exception) -> None:
    assert _batches_until_over(_NOTHING, error) == 0


def test_single_messages_that_all_fail_with_the_connection() -> None:
    def failed(reason: str) -> BatchResult:
        return BatchResult(_BATCH, failed={uid: Failure(uid, reason) for uid in _BATCH.uids})

    assert _batches_until_over(failed("ConnectionLost"), None) == HOPELESS_TRIES
    assert _batches_until_over(failed("SERVERBUG"), None) == 0
    assert _batches_until_over(BatchResult(_BATCH, done=_BATCH.uids), None) == 0


def test_what_falls_together_counts_once() -> None:
    hopelessness = Hopelessness()
    for wave in range(1, HOPELESS_TRIES + 1):
        over = [
            hopelessness.is_reached(10.0 * wave, 10.0 * wave + 5 + late, _NOTHING, ConnectionLost(), delivered=False)
            for late in range(4)
        ]
        assert over == [wave == HOPELESS_TRIES] * 4


def test_a_message_that_comes_sets_the_count_back() -> None:
    hopelessness = Hopelessness()
    for number in range(1, 30):
        came = number % HOPELESS_TRIES == 0
        assert not hopelessness.is_reached(2.0 * number, 2.0 * number + 1, _NOTHING, ConnectionLost(), delivered=came)
