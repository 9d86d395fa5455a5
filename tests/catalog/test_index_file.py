"""The file of the index: what it holds, what each question costs, what it refuses."""

from __future__ import annotations

import datetime
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.catalog.index_entry import COLUMNS, Row, SizeClass, to_key, to_moment, to_seconds, to_words
from imapipe.catalog.index_file import IndexedMailbox, IndexFile
from imapipe.catalog.index_query import IndexQuery
from imapipe.catalog.index_schema import INDEX, VERSION
from imapipe.errors import MessageIndexError
from imapipe.models.cursor import Cursor
from imapipe.wire.uid_set import UidSet

DAY = 86_400
UTC = datetime.UTC


def row(
    uid: int,
    *,
    sender: str = "ann@example.org",
    name: str = "Ann",
    subject: str = "Hello",
    day: int | None = None,
    size: int = 500,
) -> Row:
    date = (uid if day is None else day) * DAY
    return (uid, sender, name, subject, date, date, size, SizeClass.of(size).rank, "\\Seen", f"<{uid}@example.org>")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.index"


def fill(file: IndexFile, rows: list[Row], name: str = "INBOX", uidvalidity: int = 7) -> IndexedMailbox:
    mailbox = file.open_mailbox("ann@host:993", name, uidvalidity, Cursor())
    assert file.add(mailbox, rows) == len(rows)
    return mailbox


def uids(file: IndexFile, **conditions: object) -> list[int]:
    return [entry.uid for entry in file.find(IndexQuery(**conditions))]  # type: ignore[arg-type]  # checked at run time


def test_an_entry_comes_back_whole(path: Path) -> None:
    with IndexFile(path) as file:
        fill(file, [row(5, sender="zoe@example.de", name="Zoë", subject="Grüße", size=20_000)])
    with IndexFile(path, must_exist=True) as file:
        (entry,) = file.find(IndexQuery())
    assert entry.account == "ann@host:993"
    assert (entry.mailbox, entry.uidvalidity, entry.uid) == ("INBOX", 7, 5)
    assert (entry.sender, entry.sender_name, entry.subject) == ("zoe@example.de", "Zoë", "Grüße")
    assert entry.date == entry.internal_date == datetime.datetime(1970, 1, 6, tzinfo=UTC)
    assert (entry.size, entry.size_class) == (20_000, SizeClass.MEDIUM)
    assert (entry.flags, entry.message_id) == (frozenset({"\\Seen"}), "<5@example.org>")


def test_size_classes_begin_where_the_seed_says() -> None:
    sizes = {0: "tiny", 1023: "tiny", 1024: "small", 10_239: "small", 10_240: "medium", 102_399: "medium"}
    sizes |= {102_400: "large", 1_048_575: "large", 1_048_576: "huge", 2**40: "huge"}
    assert {size: SizeClass.of(size).value for size in sizes} == sizes


@given(st.datetimes(timezones=st.just(UTC)))
def test_moments_survive(moment: datetime.datetime) -> None:
    assert to_moment(to_seconds(moment)) == moment.replace(microsecond=0)


def test_each_question_has_its_answer_newest_first(path: Path) -> None:
    with IndexFile(path) as file:
        fill(
            file,
            [
                row(1, subject="Weekly report"),
                row(2, sender="bob@example.net", name="Bob Stone", subject="Re: weekly reports", size=2_000),
                row(3, sender="zoe@example.de", name="Zoë Müller", subject="Übergrößen im Café", size=50_000),
                row(
                    4, sender="yamada@example.jp", name="山田太郎", subject="日本語の件名とかなり長い文章", size=500_000
                ),
                row(5, sender="ivan@example.ru", name="Иван", subject="Счёт за июль", size=2_000_000),
            ],
        )
        fill(file, [row(9, subject="report", day=3)], name="Archive")

        assert uids(file, sender="ann@example.org") == [9, 1]
        assert uids(file, sender=" ANN@Example.org ") == [9, 1]
        assert uids(file, sender="stone") == [2]
        assert uids(file, sender="example.de") == [3]
        assert uids(file, sender="@example.de") == [3]
        assert uids(file, sender="example") == [5, 4, 9, 3, 2, 1]

        assert uids(file, subject="report") == [9, 1]
        assert uids(file, subject="report*") == [9, 2, 1]
        assert uids(file, subject="REPORT weekly") == [1]
        assert uids(file, subject="ubergroßen cafe") == [3]
        assert uids(file, subject="件名") == [4]
        assert uids(file, subject="счёт") == [5]
        assert uids(file, subject="ann") == []

        assert uids(file, text="weekly stone") == [2]
        assert uids(file, text="muller café") == [3]
        assert uids(file, text="太郎 件名") == [4]

        moment = datetime.datetime(1970, 1, 4, tzinfo=UTC)
        assert uids(file, since=moment, before=moment + datetime.timedelta(days=2)) == [4, 9, 3]
        assert uids(file, before=moment) == [2, 1]

        for size_class, uid in (("small", 2), ("medium", 3), ("large", 4), (SizeClass.HUGE, 5)):
            assert uids(file, size_class=size_class) == [uid]
        assert uids(file, size_class="tiny", mailbox="Archive") == [9]

        assert uids(file, limit=2) == [5, 4]
        assert uids(file, mailbox="INBOX", subject="report*", size_class="small", sender="bob@example.net") == [2]
        assert uids(file, account="somebody@else:993") == []


@pytest.mark.parametrize(
    "text", ['"', "a OR b", "NEAR(a b)", "subject:x", "-a", "a^b", "(", "a AND", '""', "a* b", "ｆｕｌｌ", "\0x", "*a"]
)
def test_no_text_is_taken_for_an_operator(path: Path, text: str) -> None:
    with IndexFile(path) as file:
        fill(file, [row(1, subject="abc")])
        if any(character.isalnum() for character in text):
            assert uids(file, subject=text) == []
        else:
            with pytest.raises(ValueError, match="must hold a word"):
                uids(file, subject=text)


@pytest.mark.no_cover
@given(st.text(max_size=20), st.text(max_size=20))
def test_every_word_of_a_subject_finds_it(before: str, after: str) -> None:
    # What splits words is for the tokenizer to say; ASCII words between spaces are words for certain.
    subject = f"{before} needle {after}".replace("\0", " ")
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE VIRTUAL TABLE words USING fts5 (subject, sender)")
        database.execute("INSERT INTO words VALUES (?, '')", (to_words(subject.encode("utf-8", "replace").decode()),))
        query = IndexQuery(subject="NEEDLE")
        found = database.execute("SELECT count(*) FROM words WHERE words MATCH ?", (query.to_sql()[1][0],)).fetchone()
    database.close()
    assert found == (1,)


@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_the_sender_of_an_entry_finds_it(address: str) -> None:
    key = to_key(address)
    with sqlite3.connect(":memory:") as database:
        database.executescript(INDEX.script)
        database.execute("INSERT INTO mailboxes (id, account, name, uidvalidity) VALUES (1, 'a', 'INBOX', 7)")
        database.execute(
            f"INSERT INTO messages (id, mailbox, {COLUMNS}) VALUES (1, 1, {', '.join('?' * 10)})", row(1, sender=key)
        )
        database.execute("INSERT INTO words (rowid, subject, sender) VALUES (1, '', ?)", (to_words(key),))
        found = database.execute(*IndexQuery(sender=key).to_sql()).fetchall()
    database.close()
    assert len(found) == 1


def test_bad_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        IndexQuery(since=datetime.datetime(2024, 1, 1)).to_sql()  # noqa: DTZ001
    with pytest.raises(ValueError, match="enormous"):
        IndexQuery(size_class="enormous").to_sql()
    with pytest.raises(ValueError, match="limit"):
        IndexQuery(limit=-1).to_sql()


def test_a_date_is_midnight_where_we_are() -> None:
    day = datetime.date(2024, 5, 1)
    _, parameters = IndexQuery(since=day).to_sql()
    assert parameters == [int(datetime.datetime(2024, 5, 1).astimezone().timestamp())]


@pytest.mark.parametrize("analysed", [False, True])
def test_s11_each_question_is_answered_from_an_index(path: Path, analysed: bool) -> None:
    with IndexFile(path) as file:
        people = [f"person{number}@example.org" for number in range(50)]
        sizes = (500, 5_000, 50_000, 500_000, 5_000_000)
        fill(file, [row(uid, sender=people[uid % 50], size=sizes[uid % 5]) for uid in range(1, 5_001)])
        fill(file, [row(uid) for uid in range(1, 1_001)], name="Other")
        if analysed:
            file.analyse()
        day = datetime.datetime(1975, 1, 1, tzinfo=UTC)
        for query, wanted in (
            (IndexQuery(sender="person1@example.org"), "SEARCH messages USING INDEX messages_by_sender (sender=?)"),
            (IndexQuery(subject="hello"), "SCAN words VIRTUAL TABLE INDEX"),
            (IndexQuery(since=day), "SEARCH messages USING INDEX messages_by_date (date>?)"),
            (IndexQuery(before=day), "SEARCH messages USING INDEX messages_by_date (date<?)"),
            (IndexQuery(since=day, before=day), "SEARCH messages USING INDEX messages_by_date (date>? AND date<?)"),
            (IndexQuery(size_class="huge"), "SEARCH messages USING INDEX messages_by_size_class (size_class=?)"),
            (IndexQuery(sender="person1"), "SCAN words VIRTUAL TABLE INDEX"),
            (IndexQuery(text="hello ann"), "SCAN words VIRTUAL TABLE INDEX"),
            (
                IndexQuery(sender="person1@example.org", since=day, mailbox="INBOX", limit=5),
                "SEARCH messages USING INDEX messages_by_sender (sender=? AND date>?)",
            ),
        ):
            plan = file.explain(query)
            assert plan[0].startswith(wanted), plan
            # Nothing goes through all messages, and what an index holds in order is not sorted.
            assert not [line for line in plan if line.startswith("SCAN messages")], plan
            assert ("USE TEMP B-TREE FOR ORDER BY" in plan) is wanted.startswith("SCAN words"), plan


def test_adding_again_changes_nothing(path: Path) -> None:
    with IndexFile(path) as file:
        mailbox = fill(file, [row(1), row(2)])
        assert file.add(mailbox, [row(2, subject="other"), row(3)]) == 1
        assert file.add(mailbox, []) == 0
        assert uids(file, subject="hello") == [3, 2, 1]
        again = file.open_mailbox("ann@host:993", "INBOX", 7, Cursor())
        assert (again.known, again.reindexed) == (UidSet.parse("1:3"), False)
        assert file.count(mailbox.number) == 3


def test_removed_messages_take_their_words_along(path: Path) -> None:
    with IndexFile(path) as file:
        mailbox = fill(file, [row(uid) for uid in range(1, 11)])
        other = fill(file, [row(5)], name="Other")
        file.remove(mailbox, UidSet.parse("2:4,9,4000"))
        assert uids(file, subject="hello", mailbox="INBOX") == [10, 8, 7, 6, 5, 1]
        assert (file.count(mailbox.number), file.count(other.number)) == (6, 1)


def test_another_uidvalidity_empties_that_mailbox_only(path: Path) -> None:
    with IndexFile(path) as file:
        mailbox = fill(file, [row(1), row(2)])
        fill(file, [row(3)], name="Other")
        anew = file.open_mailbox("ann@host:993", "INBOX", 8, Cursor())
        assert anew == (mailbox.number, 1, UidSet(), True)
        assert uids(file) == uids(file, subject="hello") == [3]
        with pytest.raises(MessageIndexError, match="index it again"):
            file.add(mailbox, [row(1)])
        assert file.add(anew, [row(4)]) == 1
        with pytest.raises(MessageIndexError, match="index it again"):
            file.remove(mailbox, UidSet.parse("4"))
        assert uids(file) == [4, 3]


def test_uidnext_that_fell_empties_a_mailbox_like_another_uidvalidity(path: Path) -> None:
    def open_at(file: IndexFile, cursor: Cursor) -> IndexedMailbox:
        return file.open_mailbox("ann@host:993", "INBOX", 7, cursor)

    with IndexFile(path) as file:
        first = open_at(file, Cursor(uidnext=11, highestmodseq=5, mailboxid="F1", exists=10))
        file.add(first, [row(uid) for uid in range(1, 11)])
    with IndexFile(path) as file:
        assert [entry.cursor for entry in file.find(IndexQuery(limit=1))] == [
            Cursor(uidnext=11, highestmodseq=5, mailboxid="F1")
        ]
        # What is not told this time is not forgotten, and proves nothing.
        assert open_at(file, Cursor()) == (first.number, 0, UidSet.parse("1:10"), False)
        assert open_at(file, Cursor(uidnext=11)).known == UidSet.parse("1:10")
        assert open_at(file, Cursor(uidnext=10)) == (first.number, 1, UidSet(), True)
        assert uids(file) == uids(file, subject="hello") == []
        with pytest.raises(MessageIndexError, match=r"INBOX.*index it again"):
            file.add(first, [row(10)])
        # It goes on from there: the higher number of old is forgotten.
        assert open_at(file, Cursor(uidnext=10)) == (first.number, 1, UidSet(), False)
    with IndexFile(path) as file:
        # A search met a message that came after UIDNEXT was told.
        open_at(file, Cursor(uidnext=20, highest_uid=20))
        assert file.remembered("ann@host:993", "INBOX") == (7, Cursor(uidnext=20, highest_uid=20))
        assert file.remembered("ann@host:993", "Sent") is None
        assert open_at(file, Cursor(uidnext=20)).reindexed


def test_a_transaction_that_fails_leaves_nothing(path: Path) -> None:
    with IndexFile(path) as file:
        mailbox = fill(file, [row(1)])
        with pytest.raises(MessageIndexError, match="UNIQUE"):
            file.add(mailbox, [row(2), row(3), row(3)])
        assert uids(file) == [1]
        assert file.add(mailbox, [row(2)]) == 1


def test_two_at_a_time_share_a_file(path: Path) -> None:
    with IndexFile(path) as one, IndexFile(path) as other:
        mailbox = fill(one, [row(1)])
        assert other.add(mailbox, [row(1), row(2)]) == 1
        assert uids(one, subject="hello") == [2, 1]


def test_only_its_owner_may_read_it(path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such bits")
    with IndexFile(path) as file:
        fill(file, [row(1)])
        for made in path.parent.glob("mail.index*"):
            assert stat.S_IMODE(made.stat().st_mode) & 0o077 == 0, made


def test_what_is_no_index_is_refused_and_not_touched(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MessageIndexError, match="no such file"):
        IndexFile(path, must_exist=True)
    assert not path.exists()

    path.write_bytes(b"Subject: hello\r\n" * 100)
    with pytest.raises(MessageIndexError, match="it is no database"):
        IndexFile(path)
    assert path.read_bytes() == b"Subject: hello\r\n" * 100

    other = tmp_path / "other"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (a)")
    database.close()
    with pytest.raises(MessageIndexError, match="another program") as caught:
        IndexFile(other)
    assert caught.value.path == str(other)

    for version in (VERSION - 1, VERSION + 1):
        foreign = tmp_path / f"version {version}"
        IndexFile(foreign).close()
        with sqlite3.connect(foreign) as database:
            database.execute(f"PRAGMA user_version = {version}")
        database.close()
        with pytest.raises(MessageIndexError, match=f"version {version}, .*delete it and index again"):
            IndexFile(foreign)

    with pytest.raises(MessageIndexError, match="No such file or directory"):
        IndexFile(tmp_path / "missing" / "mail.index")


def test_an_sqlite_without_full_text_search_is_told_in_a_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor(sqlite3.Connection):
        def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
            return super().execute(sql.replace("fts5", "fts5_missing"), *arguments)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Poor, **k))
    with pytest.raises(MessageIndexError, match="has no full-text search"):
        IndexFile(path)
