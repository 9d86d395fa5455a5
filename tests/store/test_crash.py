"""Nothing is lost and nothing is claimed wrongly, whenever the process dies or the power goes.

A stand-in for `os` stops the world at each call that changes a file, in turn. After each death the folder is read
again with the real `os`, and what was promised is compared with what is there.
"""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imapipe import durable_file
from imapipe.errors import CheckpointError
from imapipe.store import journal, json_file, json_files
from imapipe.store.checkpoint_state import CheckpointChange, CheckpointState
from imapipe.store.job_key import JobKey
from imapipe.store.json_store import JsonCheckpointHolding, JsonCheckpointStore
from imapipe.wire.uid_set import UidSet

CHANGING = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "close")
ACCOUNT = "ann@imap.example.org:993"
INBOX, OTHER, SHARD = JobKey(ACCOUNT, "INBOX"), JobKey(ACCOUNT, "Archive"), JobKey(ACCOUNT, "INBOX", shard="2/2")


class Crash(BaseException):
    """The process is dead: nothing it does from here on happens."""


class FakeOs:
    """The real `os`, with a hook before each call that changes files, and a memory of what was synced.

    `crash_at` kills the process at that call: a write happens by half, all else not at all. `fail` may name an error
    number for a call to fail with; a write that fails has happened by half.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.crash_at = 0
        self.before: Callable[[str], None] | None = None
        self.fail: Callable[[str], int | None] | None = None
        self._dead = False
        self._hooked = False
        self._pins: list[int] = []
        self._content = {entry.inode(): Path(entry.path).read_bytes() for entry in os.scandir(folder)}
        self._names = self._list()

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in CHANGING:
            return cast(object, real)

        def call(*args: object, **kwargs: object) -> object:
            if (
                name == "open"
                and not cast(int, args[1]) & (os.O_WRONLY | os.O_RDWR)
                and not Path(str(args[0])).is_dir()
            ):
                # Reading a file changes nothing; a folder is opened to be synced.
                return real(*args, **kwargs)
            return self._call(name, real, args, kwargs)

        return call

    def _call(
        self, name: str, real: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        if self._dead:
            raise Crash
        if self.before is not None and not self._hooked:
            # What the hook itself does is counted but not hooked again.
            self._hooked = True
            try:
                self.before(name)
            finally:
                self._hooked = False
        self.count += 1
        if self.count == self.crash_at:
            self._do_by_half(name, args)
            self._dead = True
            raise Crash
        if self.fail is not None and (code := self.fail(name)) is not None:
            self._do_by_half(name, args)
            raise OSError(code, os.strerror(code))
        if name == "fsync":
            # No disk is waited for: what would be on it is remembered here.
            self._remember(cast(int, args[0]))
            return None
        result = real(*args, **kwargs)
        if name == "open":
            # Held, so that the number of a removed file is not given to another one.
            self._pins.append(os.dup(cast(int, result)))
        return result

    def _do_by_half(self, name: str, args: tuple[object, ...]) -> None:
        if name == "write":
            data = bytes(cast(bytes, args[1]))
            os.write(cast(int, args[0]), data[: len(data) // 2])
        elif name == "close":
            os.close(cast(int, args[0]))

    def _remember(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}")
        if path.is_dir():
            self._names = self._list()
        else:
            self._content[os.fstat(fd).st_ino] = path.read_bytes()

    def _list(self) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self.folder)}

    def lose_power(self, chance: random.Random) -> None:
        """Put the folder back to what was synced.

        What was not synced may have reached the disk all the same: names by chance, content torn or filled with
        rubbish. No more than that happens to a name whose own content was synced.
        """
        present = {name: (inode, (self.folder / name).read_bytes()) for name, inode in self._list().items()}
        for name in present:
            (self.folder / name).unlink()
        names = dict(self._names)
        for name, (inode, _) in present.items():
            if chance.random() < 0.5:
                names[name] = inode
        unsynced = dict(present.values())
        for name, inode in names.items():
            content = self._content.get(inode, b"")
            now = unsynced.get(inode, content)
            if now != content and now.startswith(content):
                tail = now[len(content) : len(content) + chance.randrange(len(now) - len(content) + 1)]
                content += tail if chance.random() < 0.5 else bytes(len(tail))
            (self.folder / name).write_bytes(content)

    def release(self) -> None:
        for fd in self._pins:
            os.close(fd)


class NoLock:
    """Dies with its process, as a lock of the system does."""

    def __init__(self, path: str) -> None:
        self.path = path

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """It is not there after a death, so it need not be there at all."""


@dataclass
class Promises:
    """What the store was given, and what it has returned for."""

    issued: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    durable: set[int] = field(default_factory=set)
    next_uid: int = 1

    def group(self, size: int = 3) -> UidSet:
        """The next messages, with gaps between them."""
        uids = [self.next_uid + 2 * step for step in range(size)]
        self.next_uid = uids[-1] + 2
        return UidSet.from_numbers(uids)


def new_state(key: JobKey, uidvalidity: int = 1, done: str = "") -> CheckpointState:
    return CheckpointState(
        account=key.account,
        mailbox=key.mailbox,
        name=key.name,
        shard=key.shard,
        uidvalidity=uidvalidity,
        fingerprint="f",
        done=UidSet.parse(done),
    )


class Process:
    """One life of a program that uses the store as Checkpoint does."""

    def __init__(self, folder: Path, promises: Promises, key: JobKey = INBOX) -> None:
        self.store = JsonCheckpointStore(folder / "state.json")
        self.promises = promises
        self.key = key
        self.state = new_state(key)
        self.pending: list[CheckpointChange] = []
        self.sequence = 0
        self._holding: JsonCheckpointHolding | None = None

    @property
    def holding(self) -> JsonCheckpointHolding:
        assert self._holding is not None
        return self._holding

    def open(self) -> CheckpointState | None:
        self._holding = self.store.open(self.key)
        return self.holding.load()

    def begin(self) -> None:
        self.state = self.open() or self.state
        self.sequence = self.state.sequence
        self.save()

    def append(self) -> None:
        uids = self.promises.group()
        self.sequence += 1
        change = CheckpointChange(series=self.state.series, sequence=self.sequence, done=uids)
        self.promises.issued |= set(uids)
        self.pending.append(change)
        self.holding.append(change)
        self.promises.kept |= set(uids)

    def snapshot(self) -> CheckpointState:
        self.sequence += 1
        return replace(self.state.apply(self.pending), sequence=self.sequence)

    def save(self) -> None:
        state = self.snapshot()
        contained = set(state.done)
        self.holding.save(state)
        self.state = state
        self.pending = [change for change in self.pending if change.sequence > state.sequence]
        self.promises.kept |= contained
        self.promises.durable |= contained

    def sync(self) -> None:
        contained = set(self.promises.kept)
        self.holding.sync()
        self.promises.durable |= contained

    def end(self) -> None:
        self.save()
        self.holding.release()


def loop_is_free(process: Process) -> bool:
    """Whether the loop could append now: a step under the journal's own lock is one it cannot get between."""
    kept_by = process.holding._file._journal if process.holding._file else None
    return kept_by is not None and not kept_by._lock.locked()


def script(process: Process) -> None:
    """Everything a run does, some of it twice."""
    process.begin()
    for _ in range(2):
        process.append()
        process.append()
        process.sync()
        process.append()
        process.save()
    process.append()
    process.save()
    process.append()
    process.end()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], FakeOs]]:
    fakes: list[FakeOs] = []
    monkeypatch.setattr(json_file, "LockFile", NoLock)

    def install(folder: Path) -> FakeOs:
        forget_the_dead()
        fake = FakeOs(folder)
        fakes.append(fake)
        for module in (durable_file, journal, json_file, json_files):
            monkeypatch.setattr(module, "os", fake)
        return fake

    yield install
    forget_the_dead()
    for fake in fakes:
        fake.release()


@cache
def other_mailbox() -> bytes:
    """A checkpoint file that holds another mailbox."""
    with tempfile.TemporaryDirectory() as folder:
        holding = JsonCheckpointStore(f"{folder}/state.json").open(OTHER)
        holding.save(new_state(OTHER, 5, "1:9"))
        holding.release()
        return Path(folder, "state.json").read_bytes()


def forget_the_dead() -> None:
    """What a process had open is gone with it."""
    json_files._files.clear()


def prepared(folder: Path) -> Path:
    """A folder with a checkpoint in it that holds another mailbox."""
    folder.mkdir()
    (folder / "state.json").write_bytes(other_mailbox())
    return folder


def use_real_os(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (durable_file, journal, json_file, json_files):
        monkeypatch.setattr(module, "os", os)


def found_after(folder: Path, monkeypatch: pytest.MonkeyPatch, key: JobKey = INBOX) -> set[int]:
    """Read the folder as the next process does, and check what must be there whatever happened."""
    use_real_os(monkeypatch)
    forget_the_dead()
    store = JsonCheckpointStore(folder / "state.json")
    holdings = [store.open(OTHER), store.open(key)]
    other, state = (holding.load() for holding in holdings)
    peeked = store.peek(key)
    for holding in holdings:
        holding.release()
    assert other is not None
    assert other.done == UidSet.parse("1:9")
    assert peeked == state
    return set(state.done) if state else set()


@pytest.mark.slow
def test_every_moment_of_two_lives(
    tmp_path: Path, installed: Callable[[Path], FakeOs], monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = 0
    crash_at = 0
    while True:
        crash_at += 1
        folder = prepared(tmp_path / f"{crash_at}")
        promises = Promises()
        died = False
        for life in range(3):
            fake = installed(folder)
            # The second death comes elsewhere than the first; the third life is not disturbed.
            fake.crash_at = (crash_at, crash_at * 7 % 50 + 1, 0)[life]
            process = Process(folder, promises)
            try:
                script(process)
            except Crash:
                died = True
                crashes += 1
            found = found_after(folder, monkeypatch)
            assert promises.kept <= found <= promises.issued
        if not died or crash_at > 200:
            break
    assert crashes > 80
    assert sorted(path.name for path in folder.iterdir()) == ["state.json"]


@pytest.mark.parametrize("seed", range(3))
def test_every_moment_of_a_loss_of_power(
    tmp_path: Path, installed: Callable[[Path], FakeOs], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    crash_at = 0
    alive = False
    while not alive:
        crash_at += 1
        folder = prepared(tmp_path / f"{crash_at}")
        promises = Promises()
        fake = installed(folder)
        fake.crash_at = crash_at
        try:
            script(Process(folder, promises))
            alive = True
        except Crash:
            fake.lose_power(chance)
        found = found_after(folder, monkeypatch)
        assert promises.durable <= found <= promises.issued
    assert crash_at > 40


def test_appends_between_any_two_steps_of_a_save_that_may_die(
    tmp_path: Path, installed: Callable[[Path], FakeOs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop appends while the thread saves; one line before each step, and death at each later one."""
    crash_at = 0
    alive = False
    interleaved = 0
    while not alive:
        crash_at += 1
        folder = prepared(tmp_path / f"{crash_at}")
        promises = Promises()
        fake = installed(folder)
        process = Process(folder, promises)
        process.begin()
        process.append()
        process.append()

        def append_too(_: str, process: Process = process) -> None:
            nonlocal interleaved
            if loop_is_free(process):
                interleaved += 1
                process.append()

        fake.before = append_too
        fake.crash_at = fake.count + crash_at
        try:
            process.save()
            process.save()
            alive = True
        except Crash:
            pass
        assert promises.kept <= found_after(folder, monkeypatch) <= promises.issued
    assert interleaved > 100


def test_a_save_that_comes_late_does_not_undo_a_newer_one(tmp_path: Path) -> None:
    process = Process(prepared(tmp_path / "x"), Promises())
    process.begin()
    process.append()
    late = process.snapshot()
    process.append()
    process.save()
    process.holding.save(late)
    process.holding.release()
    state = JsonCheckpointStore(tmp_path / "x" / "state.json").peek(INBOX)
    assert state is not None
    assert set(state.done) == process.promises.issued


def test_every_step_may_fail_and_the_next_save_makes_it_good(
    tmp_path: Path, installed: Callable[[Path], FakeOs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a bad sector at each step in turn: an error of our own, and nothing lost afterwards."""
    fail_at = 0
    errors: list[str] = []
    failed = True
    while failed:
        fail_at += 1
        folder = prepared(tmp_path / f"{fail_at}")
        promises = Promises()
        fake = installed(folder)
        process = Process(folder, promises)
        failed = False

        def fail(_: str, fake: FakeOs = fake, at: int = fail_at) -> int | None:
            nonlocal failed
            failed = failed or fake.count == at
            return errno.ENOSPC if fake.count == at else None

        def append_too(name: str, process: Process = process) -> None:
            # Once in each save, so that the journal has to be written anew.
            if name == "replace" and loop_is_free(process):
                attempt(process.append)

        def attempt(step: Callable[[], None]) -> None:
            try:
                step()
            except CheckpointError as error:
                errors.append(str(error))
                if step == process.begin:  # noqa: B023 - called in this very turn of the loop
                    process.save()  # noqa: B023

        fake.fail = fail
        attempt(process.begin)
        fake.before = append_too
        steps = [process.append, process.append, process.sync, process.append, process.save, process.append]
        for step in (*steps, process.save, process.append, process.save, process.append):
            attempt(step)
        # A failed save is repeated; what comes after the last one must not be needed.
        attempt(process.save)
        # Killed here.
        found = found_after(folder, monkeypatch)
        assert promises.kept <= found <= promises.issued
        in_state = {uid for uid in promises.issued if uid in process.state.done}
        assert in_state <= found
    assert len(errors) > 15
    assert all("No space left" in text for text in errors)


STEPS = st.lists(st.sampled_from(["append", "append", "append", "save", "sync"]), max_size=12)
LIVES = st.lists(st.tuples(STEPS, st.integers(0, 60), st.booleans(), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lives=LIVES, seed=st.integers(0, 2**16))
def test_any_life_and_any_death(
    tmp_path_factory: pytest.TempPathFactory,
    installed: Callable[[Path], FakeOs],
    monkeypatch: pytest.MonkeyPatch,
    lives: list[tuple[list[str], int, bool, bool]],
    seed: int,
) -> None:
    folder = prepared(tmp_path_factory.mktemp("lives") / "x")
    chance = random.Random(seed)
    promises = Promises()
    for steps, crash_at, power, clean_end in lives:
        fake = installed(folder)
        fake.crash_at = crash_at
        process = Process(folder, promises)
        try:
            process.begin()
            for step in steps:
                getattr(process, step)()
            if clean_end:
                process.end()
        except Crash:
            alive = False
        else:
            alive = clean_end
        if power and not alive:
            fake.lose_power(chance)
            found = found_after(folder, monkeypatch)
            assert promises.durable <= found <= promises.issued
            # What the loss took is not promised any more, and will be done again.
            promises.kept &= found
            promises.durable &= found
        else:
            assert promises.kept <= found_after(folder, monkeypatch) <= promises.issued


def test_a_fresh_series_or_a_removed_file_is_never_mixed_with_the_old_journal(
    tmp_path: Path, installed: Callable[[Path], FakeOs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with lines in the journal; then another UIDVALIDITY, or no file at all, at every moment."""
    for removed in (False, True):
        crash_at = 0
        alive = False
        while not alive:
            crash_at += 1
            folder = prepared(tmp_path / f"{removed}{crash_at}")
            first = Process(folder, Promises())
            fake = installed(folder)
            first.begin()
            first.append()
            first.append()
            # Killed here: the journal is left behind.
            old = set(first.promises.kept)
            if removed:
                (folder / "state.json").unlink()
            fake = installed(folder)
            second = Process(folder, Promises(next_uid=1_001))
            fake.crash_at = crash_at
            try:
                assert (second.open() is None) is removed
                second.state = new_state(INBOX, 2)
                second.save()
                second.append()
                second.end()
                alive = True
            except Crash:
                pass
            use_real_os(monkeypatch)
            forget_the_dead()
            holding = JsonCheckpointStore(folder / "state.json").open(INBOX)
            state = holding.load()
            holding.release()
            if removed and state is None:
                assert not second.promises.kept
                continue
            assert state is not None
            if state.uidvalidity == 2:
                assert second.promises.kept <= set(state.done) <= second.promises.issued
            else:
                assert set(state.done) == old
                assert not second.promises.kept
        assert crash_at > 5


# ---------------------------------------------------------------- several jobs in one file


class Noting(Process):
    """A process that also puts notes: the number of the last one."""

    noted = 0
    note_kept = 0
    note_durable = 0

    def begin(self) -> None:
        super().begin()
        self.holding.notes()

    def note(self) -> None:
        self.noted += 1
        self.holding.put_note("n", self.noted)
        self.note_kept = self.noted

    def save(self) -> None:
        noted = self.note_kept
        super().save()
        self.note_durable = noted

    def sync(self) -> None:
        noted = self.note_kept
        super().sync()
        self.note_durable = noted


def twins(folder: Path) -> tuple[Noting, Process]:
    return Noting(folder, Promises()), Process(folder, Promises(), SHARD)


def script_of_two(first: Noting, second: Process) -> None:
    """Two runs in one process, whose saves and syncs fall between each other's appends."""
    first.begin()
    first.append()
    first.note()
    second.begin()
    second.append()
    second.sync()
    first.save()
    first.append()
    first.note()
    second.append()
    first.sync()
    second.save()
    second.append()
    first.append()
    second.sync()
    first.save()
    second.append()
    first.end()
    second.append()
    second.end()


def notes_after(folder: Path) -> int:
    holding = JsonCheckpointStore(folder / "state.json").open(OTHER)
    noted = holding.notes().get("n", 0)
    holding.release()
    assert isinstance(noted, int)
    return noted


def die_at_every_moment(
    tmp_path: Path,
    installed: Callable[[Path], FakeOs],
    monkeypatch: pytest.MonkeyPatch,
    power: int | None,
    script: Callable[[Noting, Process], None],
) -> tuple[int, Path]:
    """Run a script of two runs until it survives, dying one call later each time; what was promised is there each time.

    Gives at which call it would have died when it survived, and where.
    """
    chance = random.Random(power)
    crash_at = 0
    alive = False
    folder = tmp_path
    while not alive:
        crash_at += 1
        folder = prepared(tmp_path / f"{crash_at}")
        fake = installed(folder)
        fake.crash_at = crash_at
        runs = twins(folder)
        try:
            script(*runs)
            alive = True
        except Crash:
            if power is not None:
                fake.lose_power(chance)
        for run in runs:
            promised = run.promises.kept if power is None else run.promises.durable
            assert promised <= found_after(folder, monkeypatch, run.key) <= run.promises.issued
        assert notes_after(folder) >= (runs[0].note_kept if power is None else runs[0].note_durable)
    return crash_at, folder


@pytest.mark.slow
@pytest.mark.parametrize("power", [None, *range(3)])
def test_every_moment_of_two_runs_that_share_the_file(
    tmp_path: Path, installed: Callable[[Path], FakeOs], monkeypatch: pytest.MonkeyPatch, power: int | None
) -> None:
    crashes, folder = die_at_every_moment(tmp_path, installed, monkeypatch, power, script_of_two)
    assert crashes > 50
    assert sorted(path.name for path in folder.iterdir()) == ["state.json"]


def script_of_a_job(first: Noting, second: Process) -> None:
    """A job of several runs, one after the other, which keeps the file open: states are lines of the journal."""
    close = first.store.keep_open()
    for _ in range(2):
        first.begin()
        first.append()
        first.note()
        first.sync()
        first.append()
        first.end()
        second.begin()
        second.append()
        second.append()
        second.end()
    close()


@pytest.mark.slow
@pytest.mark.parametrize("power", [None, *range(3)])
@pytest.mark.parametrize("short", [300, 65_536], ids=["writes anew", "appends"])
def test_every_moment_of_a_job_of_many_runs(
    tmp_path: Path,
    installed: Callable[[Path], FakeOs],
    monkeypatch: pytest.MonkeyPatch,
    power: int | None,
    short: int,
) -> None:
    monkeypatch.setattr(json_file, "_SHORT_JOURNAL_BYTES", short)
    crashes, folder = die_at_every_moment(tmp_path, installed, monkeypatch, power, script_of_a_job)
    assert crashes > 45
    assert sorted(path.name for path in folder.iterdir()) == ["state.json"]


def test_a_fresh_start_in_the_journal_leaves_the_old_history_behind(tmp_path: Path) -> None:
    """Killed afterwards; and the same where the last state was deleted and the file with it."""
    folder = tmp_path / "x"
    folder.mkdir()
    store = JsonCheckpointStore(folder / "state.json")
    store.keep_open()
    first = Process(folder, Promises())
    first.begin()
    first.append()
    first.holding.release()
    again = Process(folder, Promises(next_uid=5_001))
    again.open()
    again.state = new_state(INBOX, 2)
    again.save()
    again.append()
    json_files._files.popitem()[1]._lock.release()  # type: ignore[union-attr]
    kept = store.peek(INBOX)
    assert kept is not None
    assert (kept.uidvalidity, set(kept.done)) == (2, again.promises.kept)
    store.keep_open()
    holding = store.open(INBOX)
    holding.delete()
    assert not (folder / "state.json").exists()
    holding.save(new_state(INBOX, 3, "1:2"))
    json_files._files.popitem()[1]._lock.release()  # type: ignore[union-attr]
    kept = store.peek(INBOX)
    assert kept is not None
    assert kept.uidvalidity == 3


def test_a_document_that_was_put_back_is_not_mixed_with_a_journal_of_another(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "x")
    store = JsonCheckpointStore(folder / "state.json")
    store.keep_open()
    process = Process(folder, Promises())
    process.begin()
    process.append()
    process.save()
    assert b'"state"' in (folder / "state.json.journal").read_bytes()
    json_files._files.popitem()[1]._lock.release()  # type: ignore[union-attr]
    (folder / "state.json").write_bytes(other_mailbox())
    assert store.peek(INBOX) is None
    assert store.peek(OTHER) is not None


def test_two_runs_with_appends_between_any_two_steps_of_a_save(
    tmp_path: Path, installed: Callable[[Path], FakeOs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run has the file written in its thread; the loop appends for the other, whose lines were synced before."""
    monkeypatch.setattr(json_file.JsonFile, "_suits_journal", lambda *_: False)
    crash_at = 0
    alive = False
    interleaved = 0
    while not alive:
        crash_at += 1
        folder = prepared(tmp_path / f"{crash_at}")
        fake = installed(folder)
        saving, appending = twins(folder)
        saving.begin()
        appending.begin()
        appending.append()
        appending.sync()
        saving.append()

        def append_too(_: str, appending: Process = appending) -> None:
            nonlocal interleaved
            if loop_is_free(appending):
                interleaved += 1
                appending.append()

        fake.before = append_too
        fake.crash_at = fake.count + crash_at
        try:
            saving.save()
            alive = True
        except Crash:
            pass
        for run in (saving, appending):
            assert run.promises.kept <= found_after(folder, monkeypatch, run.key) <= run.promises.issued
    assert interleaved > 100


def test_a_run_that_could_not_save_at_its_end_is_gone_on_with_while_the_file_is_open(tmp_path: Path) -> None:
    first, second = twins(prepared(tmp_path / "x"))
    second.begin()
    first.begin()
    first.append()
    # Its last save failed; the journal has what it did.
    first.holding.release()
    again = Process(tmp_path / "x", first.promises)
    again.begin()
    assert set(again.state.done) == first.promises.kept
    again.end()
    second.end()
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["state.json"]


def test_a_fresh_start_leaves_no_line_of_the_old_series(tmp_path: Path) -> None:
    first, second = twins(prepared(tmp_path / "x"))
    second.begin()
    first.begin()
    first.append()
    first.holding.release()
    again = Process(tmp_path / "x", Promises(next_uid=5_001))
    again.open()
    again.state = new_state(INBOX, 2)
    again.save()
    with pytest.raises(CheckpointError, match="before its state was saved"):
        again.holding.append(CheckpointChange(series=first.state.series, sequence=9, done=UidSet.parse("9")))
    again.append()
    assert set(again.holding.load().done) == again.promises.kept  # type: ignore[union-attr]
    again.end()
    second.end()
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["state.json"]
