"""Names of files that came in a mail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.mime.filename import safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("Übersicht 1.pdf", "Übersicht 1.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("/etc/cron.d/x/", "x"),
        (".bashrc", "bashrc"),
        ("..", "default"),
        ("", "default"),
        ("///", "default"),
        (" . ", "default"),
        ("a\0b\n.txt", "a_b_.txt"),
        ("evil\u202efdp.exe", "evil_fdp.exe"),
        ("con.txt", "_con.txt"),
        ("LPT1", "_LPT1"),
        ("console.txt", "console.txt"),
        ('a<b>:"|?*c', "a_b______c"),
        ("name. ", "name"),
        ("a\udc80.txt", "a_.txt"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name, "default") == safe


def test_long_names_keep_their_ending() -> None:
    safe = safe_name("é" * 500 + ".pdf", "x")
    assert len(safe.encode()) <= 240
    assert safe.endswith("é.pdf")
    assert len(safe_name("a." + "b" * 500, "x")) == 240


@given(st.text(st.characters(), max_size=300))
def test_any_name_is_safe(name: str) -> None:
    safe = safe_name(name, "default")
    assert safe
    assert len(safe.encode()) <= 255
    assert not {"/", "\\", "\0", "\n"} & set(safe)
    assert not safe.startswith(".")
