"""The JSON file: what is in it, who may have it, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from imapipe.errors import CheckpointCorrupt, CheckpointError, CheckpointLocked, CheckpointVersion
from imapipe.store.base import CheckpointStore
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.wire.uid_set import UidSet

ACCOUNT = "ann@imap.example.org:993"


def state(mailbox: str = "INBOX", done: str = "1:5,9", **values: object) -> CheckpointState:
    made = CheckpointState(
        account=ACCOUNT,
        mailbox=mailbox,
        uidvalidity=42,
        fingerprint="ALL full",
        done=UidSet.parse(done),
        failed={"ValueError": UidSet.parse("4000000000")},
        started_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    return replace(made, **values)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def saved(path: Path, *states: CheckpointState) -> None:
    store = JsonCheckpointStore(path)
    store.open()
    for each in states:
        store.save(each)
    store.close()


def loaded(path: Path, mailbox: str = "INBOX") -> CheckpointState | None:
    store = JsonCheckpointStore(path)
    store.open()
    try:
        return store.load(ACCOUNT, mailbox)
    finally:
        store.close()


def test_it_is_a_checkpoint_store(path: Path) -> None:
    store: CheckpointStore = JsonCheckpointStore(path)
    assert repr(store) == f"JsonCheckpointStore({str(path)!r})"


def test_no_file_is_no_state_and_makes_none(path: Path) -> None:
    assert loaded(path) is None
    assert JsonCheckpointStore(path).peek(ACCOUNT, "INBOX") is None
    assert list(path.parent.iterdir()) == []


def test_states_of_several_mailboxes_live_in_one_file(path: Path) -> None:
    inbox, archive = state(), state("Entwürfe/\udcff", "1:1000000")
    saved(path, inbox, archive)
    assert loaded(path) == inbox
    kept = loaded(path, "Entwürfe/\udcff")
    assert kept is not None
    assert kept.done == archive.done
    assert kept.mailbox == "Entwürfe/\\udcff"
    newer = replace(inbox, sequence=1, done=UidSet.parse("1:50"))
    saved(path, newer)
    assert loaded(path) == newer
    assert loaded(path, "Entwürfe/\udcff") == kept
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


def test_the_file_is_json_that_people_can_read(path: Path) -> None:
    saved(path, state())
    document = json.loads(path.read_text())
    assert document["format"] == "imapipe-checkpoint"
    assert document["version"] == 1
    (entry,) = document["entries"]
    assert entry["account"] == ACCOUNT
    assert entry["uidvalidity"] == 42
    assert entry["done"] == "1:5,9"
    assert entry["failed"] == {"ValueError": "4000000000"}
    # Another layout of the same document is the same checkpoint.
    path.write_text(json.dumps(document, indent=4))
    assert loaded(path) is not None


def test_changes_are_there_after_a_death_and_counted_once(path: Path) -> None:
    first = JsonCheckpointStore(path)
    first.open()
    before = state(done="1", failed={})
    first.save(before)
    first.save(state("Archive"))
    for sequence, uids in enumerate(("2:3", "4:6"), 1):
        first.append(CheckpointChange(series=before.series, sequence=sequence, done=UidSet.parse(uids)))
    # Dead, as far as others can see.
    assert first._lock is not None
    first._lock.release()
    # The journal belongs to INBOX; a run on another mailbox carries it over.
    second = JsonCheckpointStore(path)
    second.open()
    other = second.load(ACCOUNT, "Archive")
    assert other is not None
    second.save(replace(other, sequence=1))
    second.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    after = loaded(path)
    assert after is not None
    assert after.done == UidSet.parse("1:6")
    assert after.counters.done == 5
    first._lock = None
    first.close()


def test_peek_reads_a_store_in_use(path: Path) -> None:
    store = JsonCheckpointStore(path)
    store.open()
    kept = state(failed={})
    store.save(kept)
    store.append(CheckpointChange(series=kept.series, sequence=1, done=UidSet.parse("100")))
    peeked = JsonCheckpointStore(path).peek(ACCOUNT, "INBOX")
    assert peeked is not None
    assert peeked.done == UidSet.parse("1:5,9,100")
    assert JsonCheckpointStore(path).peek(ACCOUNT, "Archive") is None
    store.close()


def test_delete_takes_one_state_and_the_last_one_the_file(path: Path) -> None:
    inbox = state(failed={})
    saved(path, inbox, state("Archive"))
    store = JsonCheckpointStore(path)
    store.open()
    store.save(replace(inbox, sequence=1))
    store.append(CheckpointChange(series=inbox.series, sequence=2, done=UidSet.parse("100")))
    store.delete(ACCOUNT, "INBOX")
    store.delete(ACCOUNT, "INBOX")
    assert store.load(ACCOUNT, "INBOX") is None
    store.close()
    assert loaded(path) is None
    assert loaded(path, "Archive") is not None
    store = JsonCheckpointStore(path)
    store.open()
    store.delete(ACCOUNT, "Archive")
    store.close()
    assert list(path.parent.iterdir()) == []


def test_a_change_needs_a_state_and_everything_needs_an_open_store(path: Path) -> None:
    store = JsonCheckpointStore(path)
    change = CheckpointChange(series="s", sequence=1)
    with pytest.raises(CheckpointError, match="not open"):
        store.load(ACCOUNT, "INBOX")
    with pytest.raises(CheckpointError, match="not open"):
        store.save(state())
    with pytest.raises(CheckpointError, match="not open"):
        store.append(change)
    with pytest.raises(CheckpointError, match="not open"):
        store.sync()
    store.close()
    store.open()
    with pytest.raises(CheckpointError, match="before its state was saved"):
        store.append(change)
    store.close()


# ---------------------------------------------------------------- the lock


def test_one_run_at_a_time_in_one_process_and_the_lock_leaves_nothing(path: Path) -> None:
    first, second = JsonCheckpointStore(path), JsonCheckpointStore(path)
    first.open()
    with pytest.raises(CheckpointLocked, match=r"state\.json\.lock"):
        second.open()
    with pytest.raises(CheckpointLocked):
        first.open()
    # What was refused has taken nothing away from the one that has it.
    with pytest.raises(CheckpointLocked):
        second.open()
    first.close()
    second.open()
    second.close()
    assert list(path.parent.iterdir()) == []


def test_another_process_holds_it_until_it_dies(path: Path) -> None:
    code = (
        "import sys; from imapipe.store.json_store import JsonCheckpointStore as S\n"
        "s = S(sys.argv[1]); s.open(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CheckpointLocked) as caught:
            JsonCheckpointStore(path).open()
        assert caught.value.path == str(path)
        holder.kill()
        holder.wait()
        # Its lock file is there still, and holds nobody up.
        assert path.with_name("state.json.lock").exists()
        saved(path, state())
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


def test_links_to_one_file_share_its_lock_and_stay_links(path: Path) -> None:
    saved(path, state())
    link = path.parent / "other" / "link.json"
    link.parent.mkdir()
    link.symlink_to(path)
    store = JsonCheckpointStore(link)
    store.open()
    with pytest.raises(CheckpointLocked):
        JsonCheckpointStore(path).open()
    store.save(state(sequence=1, done="1:99"))
    store.close()
    assert link.is_symlink()
    after = loaded(path)
    assert after is not None
    assert after.done == UidSet.parse("1:99")


def test_the_lock_is_released_when_the_file_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(CheckpointCorrupt):
        JsonCheckpointStore(path).open()
    path.unlink()
    assert loaded(path) is None


# ---------------------------------------------------------------- what is refused


@pytest.mark.slow
def test_every_cut_and_every_changed_digit_is_corrupt(path: Path) -> None:
    saved(path, state(), state("Archive"))
    data = path.read_bytes()
    for end in range(len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointCorrupt):
            JsonCheckpointStore(path).peek(ACCOUNT, "INBOX")
    body = data.index(b'"entries"')
    for position in range(body, len(data)):
        if data[position : position + 1].isdigit():
            changed = b"%d" % ((data[position] - ord("0") + 1) % 10)
            path.write_bytes(data[:position] + changed + data[position + 1 :])
            with pytest.raises(CheckpointCorrupt):
                JsonCheckpointStore(path).peek(ACCOUNT, "INBOX")
    path.write_bytes(data)
    assert loaded(path) == state(series=(loaded(path) or state()).series, saved_at=(loaded(path) or state()).saved_at)


def checksummed(entries: object, **head: object) -> bytes:
    body = orjson.dumps(entries)
    document = {"format": "imapipe-checkpoint", "version": 1, "crc32": f"{zlib.crc32(body):08x}", **head}
    return orjson.dumps({**document, "entries": entries})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"[]",
        b"null",
        b"{}",
        b'{"format":"something else","version":1}',
        checksummed([], version=None),
        checksummed([], version="1"),
        checksummed([], crc32="00000000"),
        checksummed({}),
        checksummed([5]),
        checksummed([{}]),
        checksummed([orjson.loads(state().to_json()), orjson.loads(state().to_json())]),
        checksummed([{**orjson.loads(state().to_json()), "done": "5:"}]),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_and_left_alone(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckpointCorrupt) as caught:
        JsonCheckpointStore(path).open()
    assert caught.value.path == str(path)
    assert path.read_bytes() == data
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


def test_an_empty_list_is_a_checkpoint(path: Path) -> None:
    path.write_bytes(checksummed([]))
    assert loaded(path) is None


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_has_its_own_error(path: Path, version: int) -> None:
    path.write_bytes(checksummed([], version=version))
    with pytest.raises(CheckpointVersion, match=f"version {version}"):
        JsonCheckpointStore(path).open()


def test_a_folder_a_missing_folder_and_a_file_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it is a folder"):
        JsonCheckpointStore(tmp_path).open()
    with pytest.raises(CheckpointError, match="its folder does not exist"):
        JsonCheckpointStore(tmp_path / "missing" / "state.json").open()
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="its folder does not exist"):
        JsonCheckpointStore(tmp_path / "file" / "state.json").open()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("where", ["read", "lock", "write"])
def test_what_may_not_be_read_or_written_is_one_clear_sentence(
    path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The super-user may read anything, so the refusals are made up."""
    saved(path, state())

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    store = JsonCheckpointStore(path)
    if where == "read":
        monkeypatch.setattr(Path, "read_bytes", refuse)
        sentence = "it cannot be read: Permission denied"
    elif where == "lock":
        monkeypatch.setattr("imapipe.store.json_store.RunLock.acquire", refuse)
        sentence = "its lock file .* cannot be made: Permission denied"
    else:
        store.open()
        monkeypatch.setattr(os, "replace", refuse)
        sentence = "it cannot be written: Permission denied"
    with pytest.raises(CheckpointError, match=sentence) as caught:
        store.save(state(sequence=9)) if where == "write" else store.open()
    assert type(caught.value) is CheckpointError
    assert isinstance(caught.value.__cause__, PermissionError)
    monkeypatch.undo()
    store.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    assert loaded(path) is not None


def test_permissions_are_private_at_first_and_kept_later(path: Path) -> None:
    saved(path, state())
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    saved(path, state(sequence=1))
    assert path.stat().st_mode & 0o777 == 0o640


def test_leftovers_of_the_dead_are_cleared_away(path: Path) -> None:
    saved(path, state())
    for name in ("state.json.tmp", "state.json.journal.tmp"):
        (path.parent / name).write_text("half")
    store = JsonCheckpointStore(path)
    store.open()
    # One more, as if something had made it since.
    (path.parent / "state.json.tmp").symlink_to(path)
    store.save(state(sequence=1, done="1:77"))
    store.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    after = loaded(path)
    assert after is not None
    assert after.done == UidSet.parse("1:77")
