"""`fetch("text")` on Dovecot gives what whole messages give, for the odd mails of `tests/mime/test_corpus.py` too."""

from __future__ import annotations

import pytest
from tests.mime.test_corpus import CORPORA, MAILS, mails_of
from tests.pipeline.operation.test_text import Values, values

import imapipe
from dovecot_server import DovecotServer
from imapipe import search as q

# The end of the name: why Dovecot describes something else than is there.
DIFFERENT = {
    "msg_19.txt": "a header that runs into its text: Dovecot takes all up to the first empty line for the header",
    "mime-part/encrypted-body.txt": "no header: Dovecot takes PGP's for one",
    "mime-part/privkey-body.txt": "no header: Dovecot takes PGP's for one",
    "mime-part/pubkey-body.txt": "no header: Dovecot takes PGP's for one",
    "mime-part/signed-body.txt": "no header: Dovecot takes PGP's for one",
    "mail/qp-utf8-header-no-break.raw": "a header that runs into the first part, which Dovecot does not see",
    "mail/inlinemultipart.raw": "Content-Disposition twice: Dovecot takes the last one, we the first",
    "mail/malformed-multiple-address-header-values.raw": "the same",
    "mail/mime-bad-content-type.raw": "a broken Content-Type of the attachment, which we read as meant",
    "mail/mime-blank-media-name.raw": "a broken Content-Type of the attachment, which we read as meant",
    "msg_38.txt": "boundaries in one another that are missing or the same",
}


def _mails() -> dict[str, bytes]:
    mails = {path.name: path.read_bytes() for path in MAILS}
    for package in CORPORA:
        mails.update(mails_of(package))
    return {name: _crlf(raw) for name, raw in mails.items() if raw.strip()}


def _crlf(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _without_last_line_end(found: Values) -> Values:
    """Whether the line end before a boundary belongs to the text is not the question here."""
    text, html, attached = found
    return text.rstrip("\r\n"), html.rstrip("\r\n"), attached


@pytest.mark.asyncio
async def test_sections_give_what_the_whole_gives(dovecot: DovecotServer) -> None:
    mails = _mails()
    if not mails:
        pytest.skip("no odd mails are at hand")
    names = list(mails)
    user = dovecot.new_user()
    dovecot.fill(user, "INBOX", list(mails.values()))
    async with imapipe.create_pool(dovecot.url(user), password=dovecot.password) as pool:
        found = pool.mailbox("INBOX").search(q.ALL)
        whole = {m.uid: _without_last_line_end(values(m)) async for m in found.fetch("full")}
        text = {m.uid: _without_last_line_end(values(m)) async for m in found.fetch("text")}
    assert len(text) == len(whole) == len(mails)
    differing = {names[uid - 1]: (text[uid], whole[uid]) for uid in text if text[uid] != whole[uid]}
    unexplained = {name: both for name, both in differing.items() if not name.endswith(tuple(DIFFERENT))}
    assert unexplained == {}
