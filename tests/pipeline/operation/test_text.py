"""`fetch("text")` and `Mailbox.download`, against the testing server and Dovecot."""

from __future__ import annotations

import pytest
from tests.pipeline.world import OpenWorld, check_sums

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q
from imapipe.testing import CutAfterBytes, Server, SyntheticMailbox

_PDF = b"JVBERi0x" * 9 + b"\r\n"


def _multipart(subtype: bytes, *parts: bytes) -> bytes:
    body = b"".join(b"--b-" + subtype + b"\r\n" + part + b"\r\n" for part in parts)
    return b'Content-Type: multipart/%s; boundary="b-%s"\r\n\r\n%s--b-%s--\r\n' % (subtype, subtype, body, subtype)


_PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
_HTML = (
    b"Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=FC</p>\r\n"
)
_FILE = (
    b'Content-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
    b'Content-Disposition: attachment; filename="a.pdf"\r\n\r\n' + _PDF * 400
)
_ATTACHED = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner text\r\n"
MAILS = [
    b"Subject: %d\r\nFrom: a@example.org\r\nMIME-Version: 1.0\r\n" % number + body
    for number, body in enumerate(
        [
            _PLAIN,
            b"Content-Type: text/plain\r\n\r\nno charset: \xc3\xbc\r\n",
            _multipart(b"alternative", _PLAIN, _HTML),
            _multipart(b"mixed", _PLAIN, _FILE),
            _multipart(b"mixed", _multipart(b"alternative", _PLAIN, _HTML), _FILE, _PLAIN),
            _multipart(b"mixed", _PLAIN, _ATTACHED),
            _FILE,
            _multipart(b"mixed", _FILE, _HTML),
            b"\r\nplain old\r\n",
            b"Content-Type: text/plain\r\n\r\n",
        ]
    )
]
Values = tuple[str, str, list[tuple[str, str]]]


def values(message: imapipe.Message) -> Values:
    return message.text, message.html, [(each.filename, each.content_type) for each in message.attachments]


async def _read(pool: imapipe.Pool, *fetch: str) -> dict[int, imapipe.Message]:
    return {message.uid: message async for message in pool.mailbox("INBOX").search(q.ALL).fetch(*fetch)}


@pytest.mark.asyncio
async def test_the_same_values_as_of_the_whole(open_world: OpenWorld) -> None:
    world = await open_world(MAILS)
    whole, text = await _read(world.pool, "full"), await _read(world.pool, "text")
    assert {uid: values(m) for uid, m in text.items()} == {uid: values(m) for uid, m in whole.items()}
    message = text[4]
    assert (message.subject, message.size, bool(message.internal_date)) == ("3", len(MAILS[3]), True)
    with pytest.raises(imapipe.NotFetched):
        _ = message.body
    (attachment,), (there,) = message.attachments, whole[4].attachments
    assert abs(attachment.size - there.size) <= there.size // 20


@pytest.mark.asyncio
async def test_the_same_values_on_dovecot(dovecot: DovecotServer) -> None:
    user = dovecot.new_user()
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        async with pool.acquire() as connection:
            for mail in MAILS:
                await connection.imap.append(mail, "INBOX")
        whole, text = await _read(pool, "full"), await _read(pool, "text")
        assert len(text) == len(MAILS)
        assert {uid: values(m) for uid, m in text.items()} == {uid: values(m) for uid, m in whole.items()}
        (attachment,) = text[4].attachments
        found = await pool.mailbox("INBOX").download(text[4], attachment)
        assert found.content == whole[4].attachments[0].content


@pytest.mark.asyncio
async def test_one_fetch_for_the_structures_and_one_for_each_group(open_world: OpenWorld) -> None:
    world = await open_world([MAILS[0], MAILS[2], MAILS[3]] * 20)
    report = await world.job("text").batch(60).run(world.handle)
    assert (report.done, report.complete) == (60, True)
    # "1"; "1" and "2"; what is mixed asks for "1" too.
    assert sorted(world.sizes) == [20, 40, 60]


@pytest.mark.asyncio
async def test_bytes_are_those_of_texts_and_structures(open_world: OpenWorld) -> None:
    body = b"Content-Type: text/plain\r\n\r\n" + b"a line of text\r\n" * 60
    world = await open_world([b"Subject: x\r\n" + _multipart(b"mixed", body, _FILE)] * 100)
    structures = await world.job("structure").run(world.handle)
    report = await world.job("text").run(world.handle)
    assert report.bytes_received <= 1.3 * (structures.bytes_received + 100 * 16 * 60)


@pytest.mark.asyncio
async def test_parts_are_bounded(open_world: OpenWorld) -> None:
    mail = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "ü".encode() * 1000
    world = await open_world([mail, MAILS[0]])
    job = world.job().fetch("text", max_text_bytes=101)
    assert [message.text async for message in job] == ["ü" * 50, "Grüße\r\n"]
    assert job._specification.fingerprint.endswith("TEXT 101")
    for misuse in (
        {"what": ("flags",), "bytes": 5},
        {"what": ("text",), "bytes": 0},
        {"what": ("text", "full"), "bytes": 5},
    ):
        with pytest.raises(ValueError, match="max_text_bytes"):
            world.job().fetch(*misuse["what"], max_text_bytes=misuse["bytes"])  # type: ignore[misc, arg-type]


@pytest.mark.asyncio
async def test_plain_text_is_preferred(open_world: OpenWorld) -> None:
    empty = _multipart(b"alternative", b"Content-Type: text/plain\r\n\r\n", _HTML)
    world = await open_world([*MAILS, empty])
    whole = await _read(world.pool, "full")
    job = world.job().fetch("text", prefer_plain=True)
    found = {message.uid: message async for message in job}
    assert {uid: message.text for uid, message in found.items()} == {uid: m.text for uid, m in whole.items()}
    # HTML is there where it is all there is, or where the plain text is nothing.
    assert [found[uid].html for uid in (8, 11)] == [whole[uid].html for uid in (8, 11)]
    for uid in (3, 5):
        with pytest.raises(imapipe.NotFetched):
            _ = found[uid].html
    assert job._specification.fingerprint.endswith("PLAIN")
    for what in ((), ("flags",), ("text", "full")):
        with pytest.raises(ValueError, match="prefer_plain"):
            world.job().fetch(*what, prefer_plain=True)


@pytest.mark.asyncio
async def test_a_small_bound_of_memory_is_kept_and_all_come(open_world: OpenWorld) -> None:
    world = await open_world(MAILS * 20, options={"max_held_bytes": 6000, "max_size": 1})
    report = await world.job("text").batch(50).run(world.handle)
    assert sorted(world.handled) == list(range(1, 201))
    check_sums(report)
    seen = [uid for batch in [b async for b in world.job("text").batch(50).batches()] for uid in [m.uid for m in batch]]
    assert sorted(seen) == list(range(1, 201))


@pytest.mark.asyncio
async def test_a_structure_beyond_the_bound_costs_the_whole_message(open_world: OpenWorld) -> None:
    mail = b"Subject: " + b"long " * 120 + b"\r\n" + _PLAIN
    world = await open_world([mail], options={"max_held_bytes": 1024})
    assert [(m.text, m.body) async for m in world.job("text")] == [("Grüße\r\n", mail)]


@pytest.mark.asyncio
async def test_download_says_what_is_wrong() -> None:
    async with Server(MAILS) as server, imapipe.create_pool(server.url, password=server.password) as pool:
        inbox = pool.mailbox("INBOX")
        messages = await _read(pool, "text")
        (attachment,) = messages[4].attachments
        found = await inbox.download(messages[4], attachment)
        assert (found.filename, found.content[:6]) == ("a.pdf", b"%PDF-1")
        assert found.open().read() == found.content
        assert await inbox.download(messages[4], found) is found
        assert not attachment.is_fetched
        with pytest.raises(ValueError, match="another message"):
            await inbox.download(messages[5], attachment)
        with pytest.raises(ValueError, match="not of"):
            await pool.mailbox("Other").download(messages[4], attachment)
        async with pool.acquire("INBOX", write=True) as connection:
            await connection.imap.uid("store", "4", "+FLAGS", "(\\Deleted)")
            await connection.imap.expunge()
        with pytest.raises(imapipe.MessageVanished, match="message 4"):
            await inbox.download(messages[4], attachment)


@pytest.mark.asyncio
async def test_an_unreadable_structure_costs_the_whole_message(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(message: imapipe.Message, *, prefer_plain: bool) -> tuple[str, ...]:
        raise imapipe.ProtocolError("no structure")

    monkeypatch.setattr(imapipe.Message, "text_sections", unreadable)
    world = await open_world(MAILS)
    assert [m.body for m in (await _read(world.pool, "text")).values()] == MAILS


@pytest.mark.asyncio
async def test_cut_connections_cost_no_text(open_world: OpenWorld) -> None:
    """Cut in the middle of structures and of sections, again and again: each message comes once, with its text."""
    world = await open_world(
        SyntheticMailbox(60), faults=[CutAfterBytes(3_000, command="UID FETCH", times=6), CutAfterBytes(0, nth=9)]
    )
    texts: dict[int, str] = {}

    async def handle(message: imapipe.Message) -> None:
        assert message.uid not in texts
        texts[message.uid] = message.text

    job = world.pool.mailbox("INBOX").search(q.ALL).batch(15).use(imapipe.Retry(wait_initial_seconds=0.001))
    report = await job.fetch("text").run(handle)
    check_sums(report)
    assert report.complete
    world.server.faults.clear()
    whole = {message.uid: message.text async for message in job.fetch("full")}
    assert texts == whole


@pytest.mark.asyncio
async def test_download_under_another_uidvalidity_is_refused(open_world: OpenWorld) -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nHello\r\n"
        b"--x\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\nabc\r\n--x--\r\n"
    )
    world = await open_world([raw])
    mailbox = world.pool.mailbox("INBOX")
    (message,) = [message async for message in mailbox.search(q.ALL).fetch("text")]
    (attachment,) = message.attachments
    world.server.mailboxes["INBOX"].renumber()
    with pytest.raises(imapipe.UidValidityChanged):
        await mailbox.download(message, attachment)
