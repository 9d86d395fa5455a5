"""`accounts.toml`: what it may say, where secrets come from, and one sentence for each mistake."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path

import pytest

import imapipe
from imapipe import secret_source
from imapipe.cli.secrets import ask_command
from imapipe.providers import provider_of
from imapipe.secret_source import secret_of_program
from imapipe.testing import Server


def _file(folder: Path, text: str) -> Path:
    path = folder / "accounts.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_accounts_with_all_their_keys(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        [work]
        url = "imaps://ann@example.org@imap.gmail.com"
        password_command = ["pass", "show", "work"]
        mailboxes = ["INBOX", "Lists/*"]
        exclude = ["\\\\Trash"]
        connections = 2
        daily_bytes = 1000000
        proxy = "socks5://127.0.0.1:1080"

        [home]
        url = "imap://ann@imap.example.org"
        password_env = "HOME_PASSWORD"
        """,
    )
    accounts = imapipe.load_accounts(path)
    assert list(accounts) == ["work", "home"]
    work, home = accounts.values()
    assert work.mailboxes == ("INBOX", "Lists/*")
    assert (work.provider.name, work.bytes_per_day, work.connections) == ("Gmail", 1_000_000, 2)
    assert (home.provider.name, home.bytes_per_day, home.exclude) == ("", None, ())


def test_a_provider_is_known_by_its_host() -> None:
    assert provider_of("IMAP.Gmail.com.").bytes_per_day == 2_500_000_000
    assert provider_of("p62-imap.mail.me.com").name == ""
    assert provider_of("imap.mail.me.com").name == "iCloud"
    assert provider_of("notimap.gmail.com").name == ""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "secret",
    [
        'password_env = "IMAPIPE_TEST_SECRET"',
        'password_file = "secret"',
        f"password_command = ['{sys.executable}', '-c', 'print(open(\"secret\").read())']",
    ],
)
async def test_a_pool_with_a_secret_from_each_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    async with Server(5, password="p4ss") as server:
        monkeypatch.setenv("IMAPIPE_TEST_SECRET", "p4ss")
        (tmp_path / "secret").write_text("p4ss\nsecond line\n")
        accounts = imapipe.load_accounts(_file(tmp_path, f'[a]\nurl = "{server.url}"\n{secret}\n'))
        async with accounts["a"].open_pool() as pool:
            assert [entry.name for entry in await pool.mailboxes()] == ["INBOX"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ('password_env = "NOT_THERE_AT_ALL"', r"\[a\]: password_env: the environment has no NOT_THERE_AT_ALL"),
        ('password_file = "not there"', "password_file: not there: No such file"),
        ('password_command = ["not-there-at-all"]', "password_command: not-there-at-all: No such file"),
        ('password_file = "a\\u0000b"', "password_file: .*null"),
        ('password_file = "~nobody-at-all/x"', "there is no such user"),
        ('password_file = "/dev/zero"', "password_file: /dev/zero: it is longer than 65,536 bytes"),
        ('password_command = ["a\\u0000b"]', "password_command: .*null"),
        ('password_command = ["cat", "/dev/zero"]', "password_command: cat: it wrote more than 65,536 bytes"),
        ('password_env = "PATH"\nca_file = "none.pem"', "ca_file: 'none.pem': No such file"),
        ('password_env = "PATH"\nca_file = "a\\u0000b"', "ca_file: .*null"),
        (
            f"password_command = ['{sys.executable}', '-c', 'import sys; print(\"s3cret\"); sys.exit(3)']",
            "ended with status 3 and no secret",
        ),
    ],
)
async def test_a_secret_that_cannot_be_had_is_one_sentence(tmp_path: Path, secret: str, says: str) -> None:
    accounts = imapipe.load_accounts(_file(tmp_path, f'[a]\nurl = "imaps://ann@h"\n{secret}\n'))
    with pytest.raises(imapipe.AccountsError, match=says) as caught:
        async with accounts["a"].open_pool():
            pass
    assert "s3cret" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_program_that_gives_a_secret_gets_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMAPIPE_PASSWORD", "IMAPIPE_TARGET_PASSWORD", "IMAPIPE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("IMAPIPE_OTHER", "kept")
    names = 'import os; print([name for name in os.environ if name.startswith("IMAPIPE_")])'
    assert await secret_of_program([sys.executable, "-c", names]) == "['IMAPIPE_OTHER']"
    assert ask_command(shlex.join([sys.executable, "-c", names]), "--x") == "['IMAPIPE_OTHER']"


@pytest.mark.asyncio
async def test_a_program_that_leaves_another_one_behind_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is left has its pipe still, and would be waited for."""
    monkeypatch.setattr(secret_source, "_COMMAND_SECONDS", 1.0)
    program = "import subprocess, sys; subprocess.Popen(['sleep', '40']).wait()"
    async with asyncio.timeout(30):
        with pytest.raises(imapipe.AccountsError, match=r"it wrote nothing for 1 seconds"):
            await secret_of_program([sys.executable, "-c", program])


def test_the_password_of_a_proxy_is_in_no_repr(tmp_path: Path) -> None:
    text = '[a]\nurl = "imaps://ann@h"\npassword_env = "x"\nproxy = "http://ann:s3cret@proxy.example.org:3128"\n'
    settings = imapipe.load_accounts(_file(tmp_path, text))["a"]
    assert "s3cret" in settings.proxy
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"it has no account; begin one with \[name\]"),
        ("[a", "it is no TOML"),
        ("a = " + "[" * 10_000, "it is nested too deeply"),
        ("#" * 1_100_000, "it is longer than 1,048,576 bytes"),
        ("a = 1", "a stands alone"),
        ('["../a"]\nurl = "imaps://ann@h"', "is no name of an account"),
        ('[a]\nurl = "imaps://ann@h"', r"\[a\]: it does not say where its secret is: give one of password_env"),
        ('[a]\nurl = "imaps://ann@h"\npassword = "x"', "password: it does not belong into a file"),
        ('[a]\npassword_env = "x"', r"\[a\]: url is missing"),
        (
            '[a]\nurl = "imaps://ann@h"\npassword_env = "x"\nproxy = "ftp://u:s3cret@h"',
            "proxy takes the URL of a proxy: use",
        ),
        ('[a]\nurl = "http://h"\npassword_env = "x"', r"\[a\]: url: the URL must begin with"),
        ('[a]\nurl = "imaps://ann@h"\npassword_env = "x"\ntoken_file = "y"', "exclude each other"),
        ('[a]\nurl = "imaps://ann@h"\npassword_env = "x"\ncolour = "y"', "colour is no key of an account"),
        ('[a]\nurl = "imaps://ann@h"\npassword_env = "x"\nconnections = "many"', "connections takes a whole number"),
        ('[a]\nurl = "imaps://ann@h"\npassword_env = "x"\nconnections = true', "connections takes a whole number"),
        ('[a]\nurl = "imaps://ann@h"\npassword_command = "pass show x"', "password_command takes a list of texts"),
        ('[a]\nurl = "imaps://ann@h"\npassword_env = ""', "password_env takes text"),
        ('[a]\nurl = "imaps://ann@h"\npassword_env = "x"\nfolder = "y"', "folder is no key"),
    ],
)
def test_each_mistake_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(imapipe.AccountsError, match=says) as caught:
        imapipe.load_accounts(_file(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(imapipe.AccountsError, match="No such file"):
        imapipe.load_accounts(tmp_path / "none.toml")
