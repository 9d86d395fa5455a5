"""What stands in a journal, as values, and as lines of JSON.

    {"journal":"imapipe","version":1,"account":"ann@imap.example.org:993","mailbox":"INBOX","uidvalidity":7,
     "change":{"kind":"move","target":"Archive"}}
    {"intent":1,"uids":"1:500","uidvalidity":9,"uidnext":1,"marks":["2048", …],"before":[]}
    {"copied":1,"done":"1:500","pairs":[[1,1,500]]}
    {"result":1,"done":"1:500","pairs":[[1,1,500]],"vanished":"","marked":"","contested":""}

Invariant: a pair says that so many messages, from one UID on, became as many in the target, from another UID on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imapipe.wire.command.encoder import flag_list
from imapipe.wire.uid_set import UidSet

NO_UIDS = UidSet()
ELSEWHERE = frozenset(("move", "copy"))
"""The kinds of changes by which messages come into another mailbox."""
KINDS = ELSEWHERE | {"delete", "add", "remove", "set", "change"}
Pair = tuple[int, int, int]
"""The first UID here, the first UID in the target, and how many."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a journal is of.

    Attributes:
        account: `user@host:port`.
        mailbox: Where the messages are that are changed.
        uidvalidity: Its UIDVALIDITY.
        kind: `move`, `copy`, `delete`, `add`, `remove`, `set` or `change`.
        target: The other mailbox, or "".
        flags: The flags.
    """

    account: str
    mailbox: str
    uidvalidity: int
    kind: str
    target: str = ""
    flags: tuple[str, ...] = ()

    def line(self) -> dict[str, object]:
        """As a line."""
        change: dict[str, object] = {"kind": self.kind}
        if self.target:
            change["target"] = self.target
        if self.flags:
            change["flags"] = list(self.flags)
        return {
            "journal": "imapipe",
            "version": 1,
            "account": self.account,
            "mailbox": self.mailbox,
            "uidvalidity": self.uidvalidity,
            "change": change,
        }

    @classmethod
    def read(cls, line: Mapping[str, object]) -> Job:
        """From a line; raises KeyError, TypeError, ValueError."""
        if line["journal"] != "imapipe" or line["version"] != 1:
            raise ValueError("it is of another version")
        change = line["change"]
        if not isinstance(change, dict):
            raise TypeError("change is no object")
        kind, target = str(change["kind"]), str(change.get("target", ""))
        if kind not in KINDS or (kind in ELSEWHERE) != bool(target):
            raise ValueError(f"{kind!r} is no change that can be made")
        flags = tuple(str(flag) for flag in _list(change.get("flags", [])))
        if kind == "change" and any(flag[:1] not in ("+", "-") for flag in flags):
            raise ValueError("a flag has no sign")
        flag_list(flag[kind == "change" :] for flag in flags)
        return cls(str(line["account"]), str(line["mailbox"]), _number(line["uidvalidity"]), kind, target, flags)


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be sent.

    Attributes:
        number: Counts from 1 in a journal.
        uids: For which messages.
        uidvalidity: UIDVALIDITY of the target, or 0.
        uidnext: UIDNEXT of the target: what comes of the command is not below it.
        marks: What each message is recognised by, in the order of `uids`; empty where nothing goes elsewhere.
        before: The flags that messages had; where flags are added or removed, only those of them.
    """

    number: int
    uids: UidSet
    uidvalidity: int = 0
    uidnext: int = 0
    marks: tuple[str, ...] = ()
    before: tuple[tuple[frozenset[str], UidSet], ...] = ()

    def line(self) -> dict[str, object]:
        """As a line."""
        return {
            "intent": self.number,
            "uids": self.uids.text(),
            "uidvalidity": self.uidvalidity,
            "uidnext": self.uidnext,
            "marks": list(self.marks),
            "before": [[sorted(flags), uids.text()] for flags, uids in self.before],
        }

    @classmethod
    def read(cls, line: Mapping[str, object]) -> Intent:
        """From a line; raises KeyError, TypeError, ValueError."""
        uids, marks = _uids(line["uids"]), tuple(str(mark) for mark in _list(line["marks"]))
        if not uids or len(marks) not in (0, len(uids)):
            raise ValueError("an intent is not whole")
        return cls(
            _number(line["intent"]),
            uids,
            _number(line["uidvalidity"]),
            _number(line["uidnext"]),
            marks,
            tuple(
                (frozenset(map(str, _list(flags))), _uids(uids)) for flags, uids in map(_list, _list(line["before"]))
            ),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an intent. What is in none of the sets was not changed.

    Attributes:
        number: Of which.
        done: What the server confirmed, or what was found done.
        pairs: Where messages are now.
        vanished: Messages that somebody else removed.
        marked: Of `done` those that only got `\\Deleted`.
        contested: Of `done` those that somebody else changed at the same moment: an undo leaves them alone.
    """

    number: int
    done: UidSet = NO_UIDS
    pairs: tuple[Pair, ...] = ()
    vanished: UidSet = NO_UIDS
    marked: UidSet = NO_UIDS
    contested: UidSet = NO_UIDS

    def line(self, word: str = "result") -> dict[str, object]:
        """As a line."""
        return {
            word: self.number,
            "done": self.done.text(),
            "pairs": [list(pair) for pair in self.pairs],
            "vanished": self.vanished.text(),
            "marked": self.marked.text(),
            "contested": self.contested.text(),
        }

    @classmethod
    def read(cls, line: Mapping[str, object], word: str = "result") -> Result:
        """From a line; raises KeyError, TypeError, ValueError."""
        pairs: list[Pair] = []
        for pair in map(_list, _list(line["pairs"])):
            here, there, count = map(_number, pair)
            pairs.append((here, there, count))
        sets = (_uids(line[name]) for name in ("vanished", "marked", "contested"))
        result = cls(_number(line[word]), _uids(line["done"]), tuple(pairs), *sets)
        for end in (0, 1):
            named = UidSet.from_ranges([(pair[end], pair[end] + pair[2] - 1) for pair in pairs])
            if len(named) != sum(pair[2] for pair in pairs) or (not end and named - result.done):
                raise ValueError("where messages went is told twice, or of others")
        return result


@dataclass(slots=True)
class Story:
    """What a journal tells.

    Attributes:
        job: What it is of.
        steps: Intents that were answered, with what came of them.
        pending: The intent without a result, or None.
        copied: What was copied for it.
    """

    job: Job | None = None
    steps: list[tuple[Intent, Result]] = field(default_factory=list)
    pending: Intent | None = None
    copied: Result | None = None

    @property
    def last_number(self) -> int:
        """The number of the last intent."""
        if self.pending is not None:
            return self.pending.number
        return self.steps[-1][0].number if self.steps else 0

    def add(self, line: Mapping[str, object]) -> None:
        """Go on by a line; raises KeyError, TypeError, ValueError."""
        if self.job is None:
            self.job = Job.read(line)
        elif "intent" in line:
            if self.pending is not None:
                raise ValueError("an intent follows one that has no result")
            self.pending = Intent.read(line)
            if self.job.kind in ELSEWHERE and not self.pending.marks:
                raise ValueError("an intent is not whole")
        elif "copied" in line:
            self.copied = Result.read(line, "copied")
            self._answers(self.copied)
        else:
            result = Result.read(line)
            self.steps.append((self._answers(result), result))
            self.pending = self.copied = None

    def _answers(self, result: Result) -> Intent:
        """The intent that a result is of; raises ValueError where it is of none."""
        intent = self.pending
        if intent is None or intent.number != result.number or result.done - intent.uids:
            raise ValueError("a result without its intent")
        return intent


def as_pairs(pairs: Iterable[tuple[int, int]]) -> tuple[Pair, ...]:
    """UIDs and what they became, joined where both go up by one."""
    joined: list[list[int]] = []
    for here, there in pairs:
        last = joined[-1] if joined else None
        if last is not None and (here, there) == (last[0] + last[2], last[1] + last[2]):
            last[2] += 1
        else:
            joined.append([here, there, 1])
    return tuple((here, there, count) for here, there, count in joined)


def each_pair(pairs: Iterable[Pair]) -> Iterator[tuple[int, int]]:
    """The way back from `as_pairs`."""
    for here, there, count in pairs:
        yield from ((here + offset, there + offset) for offset in range(count))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no number")
    return value


def _uids(value: object) -> UidSet:
    return UidSet.parse(str(value)) if value else NO_UIDS


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError("a list is missing")
    return value
