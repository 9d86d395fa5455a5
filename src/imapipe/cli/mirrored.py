"""Mirroring at the prompt: what `imapipe export` and `imapipe backup` do with `--mirror`, behind their job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import orjson
import typer

import imapipe
from imapipe.cli.errors import AsMistake, Mistake, as_options, explain
from imapipe.cli.options import JOB
from imapipe.cli.terminal import printable

Report = imapipe.RunReport | imapipe.AccountReport
MirrorReport = imapipe.MirrorReport | imapipe.AccountMirrorReport


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorOptions:
    """Whether to follow flags and deletions, and how far."""

    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="Bring flags up to date as well; see --max-deletions.", rich_help_panel=JOB),
    ] = False
    max_deletions: Annotated[
        str | None,
        typer.Option(
            metavar="N|P%",
            help="With --mirror: remove what is gone, but of no mailbox more than this; nothing unless given.",
            rich_help_panel=JOB,
        ),
    ] = None

    def check(self, named: Mapping[str, object], all_kinds: Mapping[str, object]) -> None:
        """Look whether it can be done.

        Args:
            named: The kinds of places that were named, and what writes there.
            all_kinds: All that there are.

        Raises:
            Mistake: A kind of place that cannot follow flags and deletions, or a bound that is none.
        """
        if not self.mirror:
            if self.max_deletions is not None:
                raise Mistake("--max-deletions bounds what --mirror removes: add --mirror, or leave it out")
            return
        for kind, sink in named.items():
            if not hasattr(sink, "open_mirror"):
                mirrors = ", ".join(kind for kind, sink in all_kinds.items() if hasattr(sink, "open_mirror"))
                raise Mistake(f"--mirror does not go with {kind}: use one of {mirrors}")
        with AsMistake():
            imapipe.DeletionBound.parse(self.max_deletions)


def document_of(report: Report, mirrored: MirrorReport | None) -> object:
    """What is told machines of a job, and of the mirroring behind it."""
    if mirrored is None:
        return orjson.Fragment(report.to_json())
    return {**orjson.loads(report.to_json()), "mirror": orjson.Fragment(mirrored.to_json())}


def text_of(mirrored: MirrorReport) -> str:
    """What is told people of it."""
    if isinstance(mirrored, imapipe.AccountMirrorReport):
        return as_options(mirrored.table())
    kept = f"; {mirrored.kept:,} that are gone were kept" if mirrored.kept else ""
    return f"mirrored: {mirrored.flags_changed:,} with other flags, {mirrored.removed:,} removed{kept}"


def is_complete(mirrored: MirrorReport | None) -> bool:
    """Whether nothing was refused; a single mailbox raises where it is."""
    return not isinstance(mirrored, imapipe.AccountMirrorReport) or mirrored.complete


def refused(mirrored: MirrorReport | None) -> str:
    """One sentence on what was refused, "" where nothing was."""
    if not isinstance(mirrored, imapipe.AccountMirrorReport) or mirrored.complete:
        return ""
    name, error = next(iter(mirrored.errors.items()))
    more = len(mirrored.errors) - 1
    others = f" ({more:,} more mailboxes were not mirrored)" if more else ""
    return f"{printable(name)}: {explain(error, mailbox=name)[0]}{others}"
