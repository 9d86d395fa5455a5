"""The JSON file: what is in it, who may have it, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from imapipe.durable_file import Partial
from imapipe.errors import CheckpointCorrupt, CheckpointError, CheckpointLocked, CheckpointVersion
from imapipe.models.cursor import Cursor
from imapipe.store import json_file, json_files
from imapipe.store.base import BlockingCheckpointStore
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointStore
from imapipe.wire.uid_set import UidSet

ACCOUNT = "ann@imap.example.org:993"
INBOX, ARCHIVE = JobKey(ACCOUNT, "INBOX"), JobKey(ACCOUNT, "Archive")


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
    holdings = [store.open(each.key) for each in states]
    for holding, each in zip(holdings, states, strict=True):
        holding.save(each)
        holding.release()


def loaded(path: Path, mailbox: str = "INBOX") -> CheckpointState | None:
    holding = JsonCheckpointStore(path).open(JobKey(ACCOUNT, mailbox))
    try:
        return holding.load()
    finally:
        holding.release()


def die(path: Path) -> None:
    """Leave everything as a killed process leaves it, but for the lock, which the system takes back."""
    file = json_files._files.pop((os.getpid(), str(path)))
    assert file._lock is not None
    file._lock.release()


def test_it_is_a_checkpoint_store(path: Path) -> None:
    store: BlockingCheckpointStore = JsonCheckpointStore(path)
    assert repr(store) == f"JsonCheckpointStore({str(path)!r})"


def test_no_file_is_no_state_and_makes_none(path: Path) -> None:
    assert loaded(path) is None
    assert JsonCheckpointStore(path).peek(INBOX) is None
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
    assert document["version"] == 2
    (entry,) = document["entries"]
    assert entry["account"] == ACCOUNT
    assert entry["uidvalidity"] == 42
    assert entry["done"] == "1:5,9"
    assert entry["failed"] == {"ValueError": "4000000000"}
    # Another layout of the same document is the same checkpoint.
    path.write_text(json.dumps(document, indent=4))
    assert loaded(path) is not None


def test_changes_are_there_after_a_death_and_counted_once(path: Path) -> None:
    before = state(done="1", failed={})
    saved(path, state("Archive"))
    first = JsonCheckpointStore(path).open(INBOX)
    first.save(before)
    for sequence, uids in enumerate(("2:3", "4:6"), 1):
        first.append(CheckpointChange(series=before.series, sequence=sequence, done=UidSet.parse(uids)))
    die(path)
    # The journal belongs to INBOX; a run on another mailbox carries it over.
    second = JsonCheckpointStore(path).open(ARCHIVE)
    other = second.load()
    assert other is not None
    second.save(replace(other, sequence=1))
    second.release()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    after = loaded(path)
    assert after is not None
    assert after.done == UidSet.parse("1:6")
    assert after.counters.done == 5


def test_peek_reads_a_store_in_use(path: Path) -> None:
    holding = JsonCheckpointStore(path).open(INBOX)
    kept = state(failed={})
    holding.save(kept)
    holding.append(CheckpointChange(series=kept.series, sequence=1, done=UidSet.parse("100")))
    peeked = JsonCheckpointStore(path).peek(INBOX)
    assert peeked is not None
    assert peeked.done == UidSet.parse("1:5,9,100")
    assert JsonCheckpointStore(path).peek(ARCHIVE) is None
    holding.release()


def test_delete_takes_one_state_and_the_last_one_the_file(path: Path) -> None:
    inbox = state(failed={})
    saved(path, inbox, state("Archive"))
    holding = JsonCheckpointStore(path).open(INBOX)
    holding.save(replace(inbox, sequence=1))
    holding.append(CheckpointChange(series=inbox.series, sequence=2, done=UidSet.parse("100")))
    holding.delete()
    holding.delete()
    assert holding.load() is None
    holding.release()
    assert loaded(path) is None
    assert loaded(path, "Archive") is not None
    holding = JsonCheckpointStore(path).open(ARCHIVE)
    holding.delete()
    holding.release()
    assert list(path.parent.iterdir()) == []


def test_jobs_and_shards_of_one_mailbox_have_states_of_their_own(path: Path) -> None:
    states = [state(done=f"{number}") for number in range(1, 4)]
    states = [replace(states[0], name="export"), replace(states[1], shard="1/2"), states[2]]
    saved(path, *states)
    store = JsonCheckpointStore(path)
    assert [store.peek(each.key) for each in states] == states
    assert len(json.loads(path.read_text())["entries"]) == 3


def test_the_cursor_is_kept(path: Path) -> None:
    cursor = Cursor(uidnext=4_000_000_001, highest_uid=9, highestmodseq=2**62, mailboxid="F1", exists=0)
    saved(path, state(cursor=cursor))
    assert (loaded(path) or state()).cursor == cursor


def test_notes_are_the_accounts_and_apart_from_mailboxes(path: Path) -> None:
    holding = JsonCheckpointStore(path).open(INBOX)
    with pytest.raises(CheckpointError, match="before the notes were read"):
        holding.put_note("budget", 1)
    assert holding.notes() == {}
    holding.put_note("budget", 1)
    holding.put_note("budget", {"used": [2, 3]})
    other = JsonCheckpointStore(path).open(JobKey("bob@imap.example.org:993", "INBOX"))
    assert other.notes() == {}
    other.release()
    # Killed: the journal has it. The next process may put more at once, and is killed too.
    die(path)
    again = JsonCheckpointStore(path).open(ARCHIVE)
    assert again.notes() == {"budget": {"used": [2, 3]}}
    again.put_note("other", None)
    die(path)
    holding = JsonCheckpointStore(path).open(INBOX)
    holding.save(state())
    holding.delete()
    assert holding.notes() == {"budget": {"used": [2, 3]}, "other": None}
    holding.release()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    document = json.loads(path.read_text())
    assert document["entries"] == []
    assert document["notes"][ACCOUNT]["values"] == {"budget": {"used": [2, 3]}, "other": None}


def test_a_change_needs_a_state_and_everything_needs_a_key_that_is_held(path: Path) -> None:
    change = CheckpointChange(series="s", sequence=1)
    holding = JsonCheckpointStore(path).open(INBOX)
    with pytest.raises(CheckpointError, match="before its state was saved"):
        holding.append(change)
    holding.save(state())
    with pytest.raises(CheckpointError, match="before its state was saved"):
        holding.append(change)
    holding.release()
    holding.release()
    for call in (holding.load, holding.sync, holding.delete, holding.notes):
        with pytest.raises(CheckpointError, match="was given back"):
            call()
    with pytest.raises(CheckpointError, match="was given back"):
        holding.save(state())
    with pytest.raises(CheckpointError, match="was given back"):
        holding.append(change)
    with pytest.raises(CheckpointError, match="was given back"):
        holding.put_note("n", 1)


# ---------------------------------------------------------------- the lock


def test_one_run_at_a_time_has_a_job_and_the_lock_leaves_nothing(path: Path) -> None:
    first, second = JsonCheckpointStore(path), JsonCheckpointStore(path)
    holding = first.open(INBOX)
    for store in (first, second, second):
        # What was refused has taken nothing away from the one that has it.
        with pytest.raises(CheckpointLocked, match=r"this process has this job \('INBOX'\)"):
            store.open(INBOX)
    holding.save(state())
    holding.release()
    second.open(INBOX).release()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    assert (os.getpid(), str(path)) not in json_files._files


def test_runs_of_one_process_share_the_file_until_the_last_one_ends(path: Path) -> None:
    first = JsonCheckpointStore(path).open(INBOX)
    second = JsonCheckpointStore(path).open(ARCHIVE)
    first.save(state())
    first.release()
    assert path.with_name("state.json.lock").exists()
    second.save(state("Archive"))
    second.release()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    assert loaded(path) is not None
    assert loaded(path, "Archive") is not None


def test_many_threads_share_the_file(path: Path) -> None:
    """Opened, saved, appended to and closed at the same time: the file may be closed between any two."""

    def work(number: int) -> None:
        key = JobKey(ACCOUNT, f"m{number}")
        for turn in range(10):
            holding = JsonCheckpointStore(path).open(key)
            kept = holding.load() or state(key.mailbox, "", failed={})
            assert len(kept.done) == 2 * turn
            kept = replace(kept, sequence=kept.sequence + 1, done=kept.done | UidSet.parse(f"{turn * 10 + 1}"))
            holding.save(kept)
            change = UidSet.parse(f"{turn * 10 + 5}")
            holding.append(CheckpointChange(series=kept.series, sequence=kept.sequence + 1, done=change))
            holding.sync()
            holding.release()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert (os.getpid(), str(path)) not in json_files._files
    for number in range(8):
        kept = JsonCheckpointStore(path).peek(JobKey(ACCOUNT, f"m{number}"))
        assert kept is not None
        assert len(kept.done) == 20


def _written_for_a_job_on(path: Path, count: int) -> tuple[int, int]:
    """Bytes, and how often the whole file: each mailbox is saved when its run begins and when it ends."""
    taken = documents = 0
    with pytest.MonkeyPatch.context() as patch:
        write, replace_file = os.write, os.replace

        def counted(fd: int, data: bytes) -> int:
            nonlocal taken
            taken += len(data)
            return write(fd, data)

        def replaced(source: str, target: str) -> None:
            nonlocal documents
            documents += target == str(path)
            replace_file(source, target)

        patch.setattr(os, "write", counted)
        patch.setattr(os, "replace", replaced)
        # How long the disk takes is no matter here.
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(json_file, "_SHORT_JOURNAL_BYTES", 4096)
        store = JsonCheckpointStore(path)
        close = store.keep_open()
        for number in range(count):
            holding = store.open(JobKey(ACCOUNT, f"Folder {number:04}"))
            kept = holding.load() or state(f"Folder {number:04}", "", failed={})
            for sequence in (kept.sequence + 1, kept.sequence + 2):
                holding.save(replace(kept, sequence=sequence, done=UidSet.parse("1:3")))
            holding.release()
        close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert len(JsonCheckpointStore(path).keys(ACCOUNT)) == count
    return taken, documents


def test_a_job_writes_in_proportion_to_its_mailboxes(tmp_path: Path) -> None:
    """Not to their square: the file as a whole only when as much has come as is in it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    fewer, _ = _written_for_a_job_on(tmp_path / "a/state.json", 60)
    more, documents = _written_for_a_job_on(tmp_path / "b/state.json", 240)
    assert more < 6 * fewer
    assert 3 <= documents <= 20
    # Once more, with the states there: a change in each of them is not the file for each of them either.
    again, documents = _written_for_a_job_on(tmp_path / "b/state.json", 240)
    assert again < 2 * more
    assert documents <= 20


def test_what_is_kept_open_is_known_without_being_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(path, state(), state("Archive"))
    store = JsonCheckpointStore(path)
    close = store.keep_open()
    holding = store.open(INBOX)
    kept = holding.load()
    assert kept is not None
    holding.save(replace(kept, sequence=1, done=UidSet.parse("1:50")))
    holding.release()
    monkeypatch.setattr(json_file, "read_object", None)
    peeked = store.peek_all([INBOX, ARCHIVE, JobKey(ACCOUNT, "none")])
    assert {key.mailbox: each.done.text() for key, each in peeked.items()} == {"INBOX": "1:50", "Archive": "1:5,9"}
    assert {key.mailbox for key in store.keys(ACCOUNT)} == {"INBOX", "Archive"}
    close()
    monkeypatch.undo()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


def test_a_disk_that_is_full_at_the_end_of_a_job_leaves_the_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved(path, state())
    store = JsonCheckpointStore(path)
    close = store.keep_open()
    holding = store.open(INBOX)
    kept = holding.load()
    assert kept is not None
    for sequence in (1, 2):
        holding.save(replace(kept, sequence=sequence, done=UidSet.parse("1:50")))
    holding.release()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json_file, "save_file", full)
    close()
    assert "it cannot be written: No space left" in caplog.text
    monkeypatch.undo()
    after = loaded(path)
    assert after is not None
    assert (after.sequence, after.done.text()) == (2, "1:50")


def test_another_process_holds_it_until_it_dies(path: Path) -> None:
    code = (
        "import sys; from imapipe.store import JobKey, JsonCheckpointStore as S\n"
        "h = S(sys.argv[1]).open(JobKey('a', 'm')); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        # Whatever the job: the file is the process's.
        with pytest.raises(CheckpointLocked, match=r"another process holds it .*state\.json\.lock") as caught:
            JsonCheckpointStore(path).open(INBOX)
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
    holding = JsonCheckpointStore(link).open(INBOX)
    with pytest.raises(CheckpointLocked):
        JsonCheckpointStore(path).open(INBOX)
    before = holding.load()
    assert before is not None
    holding.save(replace(before, sequence=1, done=UidSet.parse("1:99")))
    holding.release()
    assert link.is_symlink()
    after = loaded(path)
    assert after is not None
    assert after.done == UidSet.parse("1:99")


def test_the_lock_is_released_when_the_file_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(CheckpointCorrupt):
        JsonCheckpointStore(path).open(INBOX)
    path.unlink()
    assert loaded(path) is None


# ---------------------------------------------------------------- what is refused


def test_what_is_nested_deeper_than_it_could_be_written_is_corrupt(path: Path) -> None:
    saved(path, state())
    data = path.read_bytes()
    assert data.count(b'"extra":{}') == 1
    path.write_bytes(data.replace(b'"extra":{}', b'"extra":{"a":%b%b}' % (b"[" * 300, b"]" * 300)))
    for _ in range(2):
        with pytest.raises(CheckpointCorrupt, match="nested too deeply"):
            JsonCheckpointStore(path).open(INBOX)


@pytest.mark.slow
def test_every_cut_and_every_changed_digit_is_corrupt(path: Path) -> None:
    saved(path, state(), state("Archive"))
    data = path.read_bytes()
    for end in range(len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointCorrupt):
            JsonCheckpointStore(path).peek(INBOX)
    body = data.index(b'"entries"')
    for position in range(body, len(data)):
        if data[position : position + 1].isdigit():
            changed = b"%d" % ((data[position] - ord("0") + 1) % 10)
            path.write_bytes(data[:position] + changed + data[position + 1 :])
            with pytest.raises(CheckpointCorrupt):
                JsonCheckpointStore(path).peek(INBOX)
    path.write_bytes(data)
    assert loaded(path) == state(series=(loaded(path) or state()).series, saved_at=(loaded(path) or state()).saved_at)


def checksummed(entries: object, notes: object = None, **head: object) -> bytes:
    notes = {} if notes is None else notes
    body = orjson.dumps(entries) + orjson.dumps(notes)
    document = {"format": "imapipe-checkpoint", "version": 2, "crc32": f"{zlib.crc32(body):08x}", **head}
    return orjson.dumps({**document, "entries": entries, "notes": notes})


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
        checksummed([], notes=[]),
        checksummed([], notes={"a": 5}),
        checksummed([], notes={"a": {"series": "s", "sequence": "1", "values": {}}}),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_and_left_alone(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckpointCorrupt) as caught:
        JsonCheckpointStore(path).open(INBOX)
    assert caught.value.path == str(path)
    assert path.read_bytes() == data
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


def test_an_empty_list_is_a_checkpoint(path: Path) -> None:
    path.write_bytes(checksummed([]))
    assert loaded(path) is None


@pytest.mark.parametrize("version", [0, 1, 99])
def test_another_version_has_its_own_error(path: Path, version: int) -> None:
    path.write_bytes(checksummed([], version=version))
    with pytest.raises(CheckpointVersion, match=f"version {version} .*move the file away to begin anew"):
        JsonCheckpointStore(path).open(INBOX)


def test_a_file_of_the_first_format_is_refused_in_one_sentence_and_left_alone(path: Path) -> None:
    data = b'{"format":"imapipe-checkpoint","version":1,"crc32":"53f5c2d4","entries":[]}\n'
    path.write_bytes(data)
    with pytest.raises(CheckpointVersion) as caught:
        JsonCheckpointStore(path).open(INBOX)
    assert str(caught.value).count(". ") == 0
    assert path.read_bytes() == data
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


def test_a_folder_a_missing_folder_and_a_file_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it is a folder"):
        JsonCheckpointStore(tmp_path).open(INBOX)
    with pytest.raises(CheckpointError, match="its folder does not exist"):
        JsonCheckpointStore(tmp_path / "missing" / "state.json").open(INBOX)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="its folder does not exist"):
        JsonCheckpointStore(tmp_path / "file" / "state.json").open(INBOX)
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
    holding = None
    if where == "read":
        monkeypatch.setattr("imapipe.store.json_file.read_object", refuse)
        sentence = "it cannot be read: Permission denied"
    elif where == "lock":
        monkeypatch.setattr("imapipe.store.json_file.LockFile.acquire", refuse)
        sentence = "its lock file .* cannot be made: Permission denied"
    else:
        holding = store.open(INBOX)
        monkeypatch.setattr(os, "replace", refuse)
        sentence = "it cannot be written: Permission denied"
    with pytest.raises(CheckpointError, match=sentence) as caught:
        holding.save(state(sequence=9)) if holding is not None else store.open(INBOX)
    assert type(caught.value) is CheckpointError
    assert isinstance(caught.value.__cause__, PermissionError)
    monkeypatch.undo()
    if holding is not None:
        holding.release()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]
    assert loaded(path) is not None


def test_permissions_are_private_at_first_and_kept_later(path: Path) -> None:
    saved(path, state())
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    saved(path, state(sequence=1))
    assert path.stat().st_mode & 0o777 == 0o640


def test_permissions_that_somebody_else_chose_are_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(path, state())
    path.chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    saved(path, state(sequence=1))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_the_journal_is_not_followed(path: Path) -> None:
    saved(path, state())
    other = path.with_name("other")
    other.write_bytes(b"precious")
    journal = path.with_name("state.json.journal")
    holding = JsonCheckpointStore(path).open(INBOX)
    kept = state(sequence=1)
    holding.save(kept)
    # Before the first line of this process.
    journal.symlink_to(other)
    holding.append(CheckpointChange(series=kept.series, sequence=2, done=UidSet.parse("7")))
    assert not journal.is_symlink()
    assert other.read_bytes() == b"precious"
    journal.unlink()
    journal.symlink_to(other)
    holding.release()
    journal.unlink(missing_ok=True)
    journal.symlink_to(other)
    with pytest.raises(CheckpointError, match="its journal cannot be read"):
        JsonCheckpointStore(path).open(INBOX)
    assert other.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["state.json", "state.json.journal"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(path: Path, name: str) -> None:
    saved(path, state())
    place = path.with_name(name)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    with pytest.raises(CheckpointError, match="cannot be read: it is no file"):
        JsonCheckpointStore(path).open(INBOX)


def test_a_link_in_the_place_of_the_lock_is_not_followed(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"precious")
    path.with_name("state.json.lock").symlink_to(other)
    with pytest.raises(CheckpointError, match=r"its lock file .* cannot be made"):
        JsonCheckpointStore(path).open(INBOX)
    assert other.read_bytes() == b"precious"


def test_all_files_of_a_checkpoint_are_for_their_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        saved(path, state())
        holding = JsonCheckpointStore(path).open(INBOX)
        kept = state(sequence=1)
        holding.save(kept)
        holding.append(CheckpointChange(series=kept.series, sequence=2, done=UidSet.parse("7")))
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}
        holding.release()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("state.json", "state.json.journal", "state.json.lock"), 0o600)


def test_leftovers_of_the_dead_are_cleared_away(path: Path) -> None:
    saved(path, state())
    another = path.with_name("another.json")
    *_, kept = [Partial(str(target), b"half") for target in (path, path.with_name("state.json.journal"), another)]
    holding = JsonCheckpointStore(path).open(INBOX)
    holding.save(state(sequence=1, done="1:77"))
    holding.release()
    # Of another file's partial one nobody knows whether it is at work.
    assert {entry.name for entry in path.parent.iterdir()} == {"state.json", Path(kept.path).name}
    after = loaded(path)
    assert after is not None
    assert after.done == UidSet.parse("1:77")
