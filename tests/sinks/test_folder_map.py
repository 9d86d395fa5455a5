"""Which mailbox is the place for which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from imapipe.models.mailbox import MailboxEntry
from imapipe.sinks.folder_map import FolderMap, Side, match_folders


def side(
    *names: str, delimiter: str = "/", prefix: str = "", subscribed: Iterable[str] = (), gmail: bool = False
) -> Side:
    r"""Mailboxes as `Sent\Sent`: the name, and behind it what it is for or `\Noselect`."""
    entries = [
        MailboxEntry(name.partition("\\")[0], delimiter, frozenset("\\" + word for word in name.split("\\")[1:]))
        for name in ("INBOX", *names)
    ]
    return Side(entries=entries, delimiter=delimiter, prefix=prefix, subscribed=frozenset(subscribed), is_gmail=gmail)


def names(found: FolderMap) -> dict[str, str]:
    """The places by name, but for INBOX."""
    assert found.folders["INBOX"].name == "INBOX"
    return {name: folder.name for name, folder in found.folders.items() if name != "INBOX"}


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        # By use, whatever the names are.
        (side("Sent\\Sent"), side("Gesendet\\Sent"), {"Sent": "Gesendet"}),
        (side("Sent\\Sent", "Gesendet"), side("Gesendet\\Sent"), {"Sent": "Gesendet", "Gesendet": "Gesendet (2)"}),
        (side("Sent\\Sent", "Old\\Sent"), side(), {"Sent": "Sent", "Old": "Old"}),
        (side("Sent"), side("Gesendet\\Sent"), {"Sent": "Sent"}),
        # Levels, prefix, delimiter.
        (
            side("INBOX.Work", "INBOX.Work.2024", delimiter=".", prefix="INBOX."),
            side(),
            {"INBOX.Work": "Work", "INBOX.Work.2024": "Work/2024"},
        ),
        (
            side("Work/2024", "v1.2", "v1_2", "INBOX/Kept"),
            side(delimiter=".", prefix="INBOX."),
            {
                "Work/2024": "INBOX.Work.2024",
                "v1.2": "INBOX.v1_2",
                "v1_2": "INBOX.v1_2 (2)",
                "INBOX/Kept": "INBOX.INBOX.Kept",
            },
        ),
        (side("a//b", "/", "x\ty"), side(), {"a//b": "a/_/b", "/": "_/_", "x\ty": "x_y"}),
        (side("a/b"), side(delimiter="|"), {"a/b": "a|b"}),
        # Gmail's own mailboxes are below one that is none.
        (
            side("[Gmail]\\Noselect", "[Gmail]/All Mail\\All", "[Gmail]/Sent Mail\\Sent", "Work", gmail=True),
            side("Trash\\Trash"),
            {"[Gmail]/All Mail": "Archive", "[Gmail]/Sent Mail": "Sent Mail", "Work": "Work"},
        ),
        (
            side("[Gmail]\\Noselect", "[Gmail]/All Mail\\All", "[Gmail]/Sent Mail\\Sent", gmail=True),
            side("[G]\\Noselect", "[G]/Alle\\All", "[G]/Gesendet\\Sent", gmail=True),
            {"[Gmail]/All Mail": "[G]/Alle", "[Gmail]/Sent Mail": "[G]/Gesendet"},
        ),
        (side("Sent\\Sent"), side("[G]/Sent\\Sent", gmail=True), {"Sent": "[G]/Sent"}),
    ],
)
def test_places(source: Side, target: Side, expected: dict[str, str]) -> None:
    found = match_folders(source, target)
    assert names(found) == expected
    # And again, when they have been made.
    made = [f"{folder.name}{folder.special_use}" for folder in found.folders.values() if folder.name != "INBOX"]
    there = [each.name + "".join(each.attributes) for each in target.entries if each.name != "INBOX"]
    uses = {each.special_use for each in target.entries}
    new = [name for name in made if name not in there and "\\" + name.partition("\\")[2] not in uses]
    again = side(*there, *new, delimiter=target.delimiter, prefix=target.prefix, gmail=target.is_gmail)
    assert names(match_folders(source, again)) == expected


def test_what_it_is_made_for_and_what_is_subscribed_to() -> None:
    source = side("Sent\\Sent", "Junk\\Junk", "Work", subscribed=["Sent", "Work"])
    found = match_folders(source, side("Work", subscribed=["Work"]))
    assert {name: (folder.special_use, folder.subscribe) for name, folder in found.folders.items()} == {
        "INBOX": ("", False),
        "Sent": ("\\Sent", True),
        "Junk": ("\\Junk", False),
        "Work": ("", False),
    }


def test_mailboxes_of_others_are_left_out() -> None:
    source = replace(side("user/bob", "user/50%", "users"), foreign=["user/", "shared/"])
    # As words, so that none of them speaks of another.
    assert match_folders(source, side()).left_out == ["user/50[%]", "user/bob"]


def test_what_is_said_counts_and_views_are_left_out() -> None:
    source = side("All\\All", "Flagged\\Flagged", "Sent Items", "Sent")
    found = match_folders(source, side("Sent\\Sent"), {"Sent Items": "Sent", "All": "Everything"})
    assert found.left_out == ["Flagged"]
    assert names(found) == {"All": "Everything", "Flagged": "Flagged", "Sent Items": "Sent", "Sent": "Sent (2)"}


def test_a_name_that_may_be_refused_has_another_one() -> None:
    found = match_folders(side("v1.2", "v1*2", "plain", "x/y.z"), side("v1.2"))
    assert {name: folder.plain_name for name, folder in found.folders.items() if folder.plain_name} == {
        "v1*2": "v1_2",
        "x/y.z": "x/y_z",
    }


def test_labels_are_places() -> None:
    source = side("[Gmail]/All Mail\\All", "[Gmail]/Sent Mail\\Sent", "Work", gmail=True)
    found = match_folders(source, side("Gesendet\\Sent"))
    assert found.all_mail == "[Gmail]/All Mail"

    def places(*labels: str) -> list[str]:
        return [folder.name for folder in found.places_of(labels)]

    assert places("Work", "\\Starred", "\\Sent", "\\Inbox") == ["INBOX", "Gesendet", "Work"]
    assert places("\\Important") == places() == ["Archive"]
    assert places("New") == ["New"]
    assert found.place_of("Unknown").name == "Unknown"
