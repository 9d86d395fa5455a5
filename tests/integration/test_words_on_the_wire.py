"""Search keys, mailbox names and UID sets, as a real server understands them."""

from __future__ import annotations

import datetime
import imaplib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dovecot_server import DovecotServer, Mail
from imapipe import search as q
from imapipe.search import SearchKey
from imapipe.wire.mailbox_name import decode_mailbox_name, encode_mailbox_name
from imapipe.wire.uid_set import UidSet

TODAY = datetime.date(2024, 3, 1)


@dataclass(frozen=True)
class Facts:
    """What is known of one message."""

    uid: int
    keywords: frozenset[str]
    seen: bool
    day: datetime.date
    subject: str


MESSAGES = [
    Facts(
        uid=number,
        keywords=frozenset(f"k{bit}" for bit in range(3) if number >> bit & 1),
        seen=number % 3 == 0,
        day=TODAY - datetime.timedelta(days=number),
        subject=("Grüße aus 東京", 'a "quoted" \\ text', "plain")[number % 3],
    )
    for number in range(1, 41)
]


@pytest.fixture(scope="module")
def client(dovecot: DovecotServer) -> Iterator[imaplib.IMAP4]:
    user = dovecot.new_user()
    dovecot.fill(
        user,
        "INBOX",
        (
            Mail(
                f"Subject: {facts.subject}\r\nX-Number: {facts.uid}\r\n\r\n{'x' * facts.uid}\r\n".encode(),
                flags=(*sorted(facts.keywords), *(("\\Seen",) if facts.seen else ())),
                internal_date=datetime.datetime.combine(facts.day, datetime.time(12), datetime.UTC),
                uid=facts.uid,
            )
            for facts in MESSAGES
        ),
    )
    with dovecot.login(user) as client:
        client.select("INBOX", readonly=True)
        yield client


def search(client: imaplib.IMAP4, key: SearchKey, *, literal_plus: bool = False) -> list[int]:
    """Send a search chunk by chunk, waiting for the server between them, and read its answer."""
    first, *more = key.program(today=TODAY, literal_plus=literal_plus).chunks()
    client.send(b"T1 UID SEARCH " + first)
    for chunk in more:
        assert client.readline().startswith(b"+")
        client.send(chunk)
    client.send(b"\r\n")
    found: list[int] = []
    while not (line := client.readline()).startswith(b"T1 "):
        if line.startswith(b"* SEARCH"):
            found.extend(UidSet.from_search([line[8:].partition(b"(")[0].strip()]))
    assert line.startswith(b"T1 OK"), line
    return found


def near(facts: Facts, low: int, high: int) -> bool:
    return low <= (TODAY - facts.day).days <= high


SEARCHES: list[tuple[SearchKey, Callable[[Facts], bool]]] = [
    (q.ALL, lambda facts: True),
    (~q.ALL, lambda facts: False),
    (q.uid(UidSet()), lambda facts: False),
    (q.SEEN, lambda facts: facts.seen),
    (~q.SEEN & q.keyword("k0"), lambda facts: not facts.seen and "k0" in facts.keywords),
    (~(q.SEEN & q.keyword("k0")), lambda facts: not (facts.seen and "k0" in facts.keywords)),
    (
        q.any_of(q.keyword("k0"), q.keyword("k1") & ~q.keyword("k2"), q.SEEN),
        lambda facts: "k0" in facts.keywords or ("k1" in facts.keywords and "k2" not in facts.keywords) or facts.seen,
    ),
    (~(q.keyword("k0") | ~q.keyword("k1")), lambda facts: facts.keywords & {"k0", "k1"} == {"k1"}),
    (q.since(days=5), lambda facts: near(facts, 0, 5)),
    (q.before(days=5), lambda facts: near(facts, 6, 99)),
    (q.on(days=5), lambda facts: near(facts, 5, 5)),
    (q.older_than(days=10) & ~q.older_than(days=20), lambda facts: near(facts, 11, 20)),
    (q.older_than(seconds=86_400), lambda facts: True),
    (q.younger_than(seconds=86_400), lambda facts: False),
    (q.subject("Grüße"), lambda facts: "Grüße" in facts.subject),
    (q.subject("東京") & ~q.subject("Grüße aus") | q.SEEN, lambda facts: facts.seen),
    (q.subject('"quoted" \\'), lambda facts: "quoted" in facts.subject),
    (q.header("X-Number", "7"), lambda facts: "7" in str(facts.uid)),
    (q.header("X-None"), lambda facts: False),
    (q.body("x" * 35), lambda facts: facts.uid >= 35),
    (q.body("y" * 5_000), lambda facts: False),
    (q.uid("3:5,9"), lambda facts: facts.uid in (3, 4, 5, 9)),
    (q.uid("39:*"), lambda facts: facts.uid >= 39),
    (q.uid("99:*"), lambda facts: facts.uid == 40),
    (q.larger(0) & q.smaller(10_000_000) & q.modseq(1), lambda facts: True),
    (q.raw("1:3") | q.raw("SEEN KEYWORD k0"), lambda facts: facts.uid <= 3 or (facts.seen and "k0" in facts.keywords)),
    (q.any_of(*map(q.uid, range(1, 2_000, 2))), lambda facts: facts.uid % 2 == 1),
    (q.all_of(*(~q.uid(uid) for uid in range(1, 2_000, 2))), lambda facts: facts.uid % 2 == 0),
]


@pytest.mark.parametrize("literal_plus", [False, True])
@pytest.mark.parametrize(("key", "rule"), SEARCHES)
def test_searches_find_what_they_say(
    client: imaplib.IMAP4, key: SearchKey, rule: Callable[[Facts], bool], literal_plus: bool
) -> None:
    found = search(client, key, literal_plus=literal_plus)
    assert found == [facts.uid for facts in MESSAGES if rule(facts)]
    if not any("sha256" in part for part in key.describe().split()) and "1:3)" not in key.describe():
        assert search(client, q.parse(key.describe())) == found


@pytest.mark.parametrize(
    "name", ["Entwürfe", "R&D", 'a "b" \\c', "日本語/東京", "😀", "&", "a b", "Sent & Öl &-", "%", "*"]
)
def test_mailbox_names_survive_the_server(dovecot: DovecotServer, name: str) -> None:
    with dovecot.login(dovecot.new_user()) as client:
        sent = encode_mailbox_name(name)
        assert client.create(sent.decode("ascii"))[0] == "OK"
        client.send(b'T2 LIST "" "*"\r\n')
        listed: list[str] = []
        while not (line := client.readline()).startswith(b"T2 "):
            if line.rstrip().endswith(b"}"):
                listed.append(decode_mailbox_name(client.readline().rstrip(b"\r\n")))
            else:
                shown = line.rstrip().partition(b') "/" ')[2]
                if shown[:1] == b'"':
                    shown = shown[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
                listed.append(decode_mailbox_name(shown))
        assert name in listed
        assert client.status(encode_mailbox_name(name).decode("ascii"), "(MESSAGES)")[0] == "OK"
