"""The table of extensions in the documentation names what the client looks for and what it was tested against."""

from __future__ import annotations

import imaplib
import re
from typing import TYPE_CHECKING

import pytest
from tests.docs_code import ROOT

from imapipe.testing.extensions import ALL_EXTENSIONS

if TYPE_CHECKING:
    from dovecot_server import DovecotServer

PAGE = ROOT / "docs" / "extensions.md"
# What the embedded server has by other options than those of extensions.
OTHERWISE = {"IMAP4rev1", "IMAP4rev2", "STARTTLS", "AUTH=PLAIN", "AUTH=XOAUTH2", "OAUTHBEARER", "INPROGRESS"}

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the docs are not part of the wheel")


def _rows() -> list[tuple[set[str], str]]:
    """The extensions of each row, and what they were tested against."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else ():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and line.startswith("|") and cells[0] != "Extension" and not cells[0].startswith("-"):
            names = re.sub(r"\(.*?\)", "", cells[0])
            found.append(({name.strip() for name in names.split(",")}, cells[3]))
    return found


def test_what_is_said_to_be_tested_against_our_server_it_offers() -> None:
    rows = _rows()
    assert len(rows) > 30
    unknown = {name for names, against in rows if "own" in against for name in names} - ALL_EXTENSIONS - OTHERWISE
    assert unknown == set()


def test_the_table_has_every_extension_that_the_client_looks_for_or_our_server_offers() -> None:
    named = {name for names, _ in _rows() for name in names}
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/imapipe").rglob("*.py"))
    looked_for = set(re.findall(r'\b(?:offers|require)\("([A-Z0-9=+-]+)"', code))
    assert len(looked_for) > 10
    assert (looked_for | ALL_EXTENSIONS) - named == set()


def test_what_is_said_to_be_tested_against_dovecot_it_offers(dovecot: DovecotServer) -> None:
    with imaplib.IMAP4("127.0.0.1", dovecot.port) as client:
        before = set(client.capabilities)
        client.login(dovecot.new_user(), dovecot.password)
        offered = before | set(client.capability()[1][0].decode().split())
    offered = {name.upper() for name in offered}
    # Of two that are the same thing, one will do; SPECIAL-USE it offers where it is told of a use, as in
    # test_net_against_dovecot.
    offered.add("SPECIAL-USE")
    claimed = [{name.upper() for name in names} for names, against in _rows() if "Dovecot" in against]
    assert [names for names in claimed if not names & offered] == []
