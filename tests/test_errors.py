"""Every exception of the package survives pickling and copying, with all it carries: it crosses between processes."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import imapipe
from imapipe import errors
from imapipe.contrib import errors as of_services
from imapipe.contrib.cluster.verdict import NotRegistered, OverQuota
from imapipe.contrib.message_lines import ReaderStalled
from imapipe.models.batch import Batch, BatchInterrupted, BatchResult, Failure
from imapipe.models.report import Incomplete, RunReport
from imapipe.wire.response.note import Note
from imapipe.wire.uid_set import UidSet

_BATCH = Batch(1, UidSet.parse("1:9"), size_bytes=77)
_FAILURE = Failure(3, "ValueError", "why", b"* 3 FETCH (")
_REPORT = RunReport(
    planned=3,
    failed=1,
    failures={3: _FAILURE},
    missing_items={"RFC822.SIZE": 1},
    notes={Note("flags", "odd"): 2},
)

# One of each, with every argument away from its default.
MADE: dict[type[BaseException], Callable[[], BaseException]] = {
    errors.ImapipeError: lambda: errors.ImapipeError("text"),
    errors.ProtocolError: lambda: errors.ProtocolError("reason", offset=3, excerpt="* x"),
    errors.ResponseTooLarge: lambda: errors.ResponseTooLarge("a line", size=9, limit=5, offset=2),
    errors.NestedTooDeeply: lambda: errors.NestedTooDeeply(50, 7),
    errors.ConnectionFailed: lambda: errors.ConnectionFailed("why", host="h", port=1, is_permanent=True),
    errors.ConnectionLost: lambda: errors.ConnectionLost("gone", host="h", port=1),
    errors.CommandTimeout: lambda: errors.CommandTimeout("NOOP", timeout_seconds=1.5),
    errors.PoolTimeout: lambda: errors.PoolTimeout(timeout_seconds=2.0, max_size=3, reason="why"),
    errors.PoolClosed: errors.PoolClosed,
    errors.LeaseEnded: errors.LeaseEnded,
    errors.CommandError: lambda: errors.CommandError("NOOP", "NO", "LIMIT", "text"),
    errors.CommandNo: lambda: errors.CommandNo("NOOP", "LIMIT", "text"),
    errors.CommandBad: lambda: errors.CommandBad("NOOP", "CLIENTBUG", "text"),
    errors.ServerBye: lambda: errors.ServerBye("NOOP", "UNAVAILABLE", "text"),
    errors.AuthenticationFailed: lambda: errors.AuthenticationFailed("LOGIN", "NO", "EXPIRED", "text"),
    errors.TokenRefused: lambda: errors.TokenRefused("invalid_grant", "gone"),
    errors.Throttled: lambda: errors.Throttled("NOOP", "NO", "LIMIT", "text", retry_after_seconds=7.0),
    errors.CapabilityMissing: lambda: errors.CapabilityMissing("ESEARCH", "reason"),
    errors.UidValidityChanged: lambda: errors.UidValidityChanged(
        "INBOX", expected=1, found=2, expected_uidnext=3, found_uidnext=4, advice="search"
    ),
    errors.MessageVanished: lambda: errors.MessageVanished("INBOX", 5),
    errors.NotFetched: lambda: errors.NotFetched("body", "ask"),
    errors.WorkerDied: lambda: errors.WorkerDied(-9),
    errors.SpoolError: lambda: errors.SpoolError(28, "No space left on device", "/tmp/x"),
    errors.InvalidURL: lambda: errors.InvalidURL("text"),
    errors.AutodiscoverFailed: lambda: errors.AutodiscoverFailed("ann@example.org", ("a", "b")),
    errors.InvalidSearch: lambda: errors.InvalidSearch("text"),
    errors.DatabaseError: lambda: errors.DatabaseError("reason", database="d", is_transient=True, is_lost=True),
    errors.JournalError: lambda: errors.JournalError("reason", path="p"),
    errors.TooManyMessages: lambda: errors.TooManyMessages(60, 59),
    errors.MessageIndexError: lambda: errors.MessageIndexError("reason", path="p"),
    errors.AccountsError: lambda: errors.AccountsError("reason", path="p", account="a"),
    errors.DeletionsRefused: lambda: errors.DeletionsRefused("INBOX", deletions=60, held=100, allowed="10%"),
    errors.SinkError: lambda: errors.SinkError("reason", path="p"),
    errors.CheckpointError: lambda: errors.CheckpointError("reason", path="p"),
    errors.CheckpointCorrupt: lambda: errors.CheckpointCorrupt("reason", path="p"),
    errors.CheckpointVersion: lambda: errors.CheckpointVersion("reason", path="p"),
    errors.CheckpointMismatch: lambda: errors.CheckpointMismatch("reason", path="p"),
    errors.CheckpointLocked: lambda: errors.CheckpointLocked("reason", path="p"),
    errors.CheckpointLost: lambda: errors.CheckpointLost("reason", path="p"),
    of_services.ServiceError: lambda: of_services.ServiceError("text"),
    of_services.UnknownAccount: lambda: of_services.UnknownAccount("ann"),
    of_services.UnknownJob: lambda: of_services.UnknownJob("7"),
    of_services.WrongParameters: lambda: of_services.WrongParameters("text"),
    of_services.TooManyJobs: lambda: of_services.TooManyJobs(7),
    of_services.JobNotEnded: lambda: of_services.JobNotEnded("7"),
    of_services.NotServing: of_services.NotServing,
    of_services.JobFolderError: lambda: of_services.JobFolderError("p", "reason"),
    ReaderStalled: lambda: ReaderStalled(60.0),
    NotRegistered: lambda: NotRegistered("scan"),
    OverQuota: lambda: OverQuota(datetime(2026, 1, 1, tzinfo=UTC), got_on=True),
    Incomplete: lambda: Incomplete(_REPORT),
    BatchInterrupted: lambda: BatchInterrupted(_BATCH, BatchResult(_BATCH, failed={3: _FAILURE})),
}


def exceptions() -> Iterator[type[BaseException]]:
    """Every exception class that a module of the package defines, but for what the command line keeps to itself."""
    for module in pkgutil.walk_packages(imapipe.__path__, "imapipe."):
        if module.name.startswith(("imapipe.cli", "imapipe.testing")) or module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.name:
                yield value


def test_every_class_is_looked_at() -> None:
    assert set(exceptions()) == set(MADE)


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_it_survives_whole(kind: type[BaseException]) -> None:
    error = MADE[kind]()
    error.add_note("seen in a worker")
    for again in (*(pickle.loads(pickle.dumps(error, level)) for level in range(2, 6)), copy.copy(error)):
        assert type(again) is kind
        assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)
        assert vars(again) == vars(error)
        if isinstance(error, OSError):
            assert isinstance(again, OSError)
            assert (again.errno, again.strerror, again.filename) == (error.errno, error.strerror, error.filename)


@pytest.mark.parametrize(
    "error",
    [
        errors.CommandNo("NOOP", "X\x1b[2J", "\x9b31m\x07\u202e\ud800\r\nend"),
        errors.Throttled("NOOP", "BYE", "LIMIT", "\x1b[2J\x9b31m\x07\u202e\ud800\r\nend"),
        errors.ServerBye("NOOP", "", "\x1b[2J\x9b31m\x07\u202e\ud800\r\nend"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_server_says_does_nothing_to_the_terminal_of_a_traceback(error: errors.CommandError) -> None:
    told = "".join(traceback.format_exception_only(error)).rstrip("\n")
    assert told.isprintable()
    assert told.endswith("\\r\\nend")
    # Whoever decides by the words has them as they came.
    assert error.text.endswith("\r\nend")


def test_other_spaces_and_scripts_stay_in_the_text_of_an_error() -> None:
    text = "Mot de passe incorrect\u00a0: réessayez 日本語"
    assert str(errors.CommandNo("LOGIN", "", text)) == f"LOGIN: NO {text}"


def test_the_docs_say_of_each_when_it_comes_and_what_to_do() -> None:
    page = Path(__file__).parents[1] / "docs" / "errors.md"
    if not page.is_file():
        pytest.skip("the docs are not part of the wheel")
    text = page.read_text(encoding="utf-8")
    public = [name for name in imapipe.__all__ if isinstance(getattr(imapipe, name), type)]
    raised = [name for name in public if issubclass(getattr(imapipe, name), imapipe.ImapipeError)]
    assert [name for name in raised if f"`{name}`" not in text] == []
