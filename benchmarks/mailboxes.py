"""The mailboxes: made once, kept in the cache folder, served by every later run.

Invariant: a mailbox counts as made when its manifest is there, and that is written last. The manifest holds what each
work must add up to, computed from the messages as they were stored, not from what a server says about them.

Messages are written as a Maildir, which fixes their order and flags, and the server copies them into its own format.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from benchmarks.mail import VERSION, Sample, make_sample
from benchmarks.tally import Expected, Tally
from benchmarks.tiny import write_tiny_mailbox
from dovecot_server import DovecotServer
from dovecot_server.maildir import Mail, write_mailbox

UIDVALIDITY: Final = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox, which is the INBOX of a user named after it.

    Attributes:
        kind: What is in it: "short" messages of about 2.5 KB, "mixed" ones of 2 to 50 KB, "large" ones of 1.9 MB,
            or "tiny" ones of a few hundred bytes.
        count: How many messages.
    """

    kind: Literal["short", "mixed", "large", "tiny"]
    count: int

    @property
    def user(self) -> str:
        return f"{self.kind}{self.count}v{VERSION}"

    def samples(self) -> Iterator[Sample]:
        """Make the messages (of kinds other than "tiny"), in the order of their UIDs."""
        for number in range(1, self.count + 1):
            chance = random.Random(f"size {number}").random()
            if self.kind == "mixed":
                size = int(2_000 + 48_000 * chance**0.64)  # 31 KB in the mean
            else:
                size = 1_900_000 if self.kind == "large" else int(1_800 + 1_400 * chance)
            yield make_sample(self.kind, number, size)


class Mailboxes:
    """The mailboxes in the cache folder.

    Args:
        cache: The cache folder; the server keeps its mail in `mail_folder(cache)`.
        server: The server, which must run.
    """

    def __init__(self, cache: Path, server: DovecotServer) -> None:
        self._server = server
        self._mail = mail_folder(cache)
        self._manifests = cache / "manifests"

    def prepare(self, mailbox: Mailbox) -> dict[str, Expected]:
        """Make a mailbox unless it is there; give what each work must add up to."""
        manifest = self._manifests / f"{mailbox.user}.json"
        if not manifest.exists():
            print(f"filling {mailbox.user}: {mailbox.count:,} messages", flush=True)
            shutil.rmtree(self._mail / mailbox.user, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f"{mailbox.user}-", dir=self._mail.parent) as folder:
                # The server's account reads it.
                Path(folder).chmod(0o755)
                maildir = Path(folder) / "Maildir"
                expected = _fill(maildir, mailbox, self._server.mail_owner)
                self._server.import_maildir(mailbox.user, maildir)
            self._manifests.mkdir(parents=True, exist_ok=True)
            partial = manifest.with_suffix(".part")
            partial.write_text(json.dumps({work: asdict(value) for work, value in expected.items()}, indent=1))
            partial.replace(manifest)
        return {work: Expected(**value) for work, value in json.loads(manifest.read_text()).items()}


def mail_folder(cache: Path) -> Path:
    """Where the server keeps the mail: below it, a folder for each user."""
    return cache / "mail"


def _fill(maildir: Path, mailbox: Mailbox, owner: tuple[int, int] | None) -> dict[str, Expected]:
    tallies = _Tallies()
    if mailbox.kind == "tiny":
        for uid, flags, size in write_tiny_mailbox(maildir, mailbox.count, UIDVALIDITY, owner):
            tallies.add_flags(uid, flags, size)
        return tallies.results("metadata", "flags", "search")

    def mails() -> Iterator[Mail]:
        for uid, sample in enumerate(mailbox.samples(), 1):
            tallies.add_flags(uid, sample.flags, len(sample.content))
            tallies.add_content(uid, sample)
            yield Mail(sample.content, sample.flags, sample.internal_date)

    write_mailbox(maildir, mails(), uidvalidity=UIDVALIDITY, owner=owner)
    return tallies.results("metadata", "fields", "headers", "bodies", "text", "flags", "search")


class _Tallies:
    """One tally for each work."""

    def __init__(self) -> None:
        self._of: dict[str, Tally] = defaultdict(lambda: Tally(verify=True))

    def add_flags(self, uid: int, flags: tuple[str, ...], size: int) -> None:
        self._of["metadata"].metadata(uid, flags, size)
        self._of["flags"].flags(uid, flags)
        if "\\Seen" not in flags:
            self._of["search"].found([uid])

    def add_content(self, uid: int, sample: Sample) -> None:
        message = (uid, sample.flags, len(sample.content))
        people = (sample.from_, sample.to, sample.cc)
        self._of["fields"].fields(message, sample.date.timestamp(), sample.subject, people)
        self._of["headers"].content(uid, sample.header)
        self._of["bodies"].content(uid, sample.content)
        self._of["text"].text(uid, sample.text)

    def results(self, *works: str) -> dict[str, Expected]:
        return {work: self._of[work].result() for work in works}
