"""`imapipe doctor`: what an account and its server are, what a job can expect of them, and what looks wrong."""

from __future__ import annotations

from typing import Annotated

import typer

import imapipe
from imapipe.cli.account import AccountOptions
from imapipe.cli.errors import Status
from imapipe.cli.execute import execute
from imapipe.cli.lookup import Autodiscover, with_server
from imapipe.cli.options import JOB, OutputOptions
from imapipe.cli.output import write_report

# One for what is asked, and one for the sample.
_CONNECTIONS = 2


def doctor_command(
    account: AccountOptions,
    output: OutputOptions,
    autodiscover: Autodiscover = False,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=3600.0, help="How long it may take.", rich_help_panel=JOB)
    ] = 60.0,
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="Fetch no messages to see how fast that is.", rich_help_panel=JOB)
    ] = False,
) -> int:
    """Look at an account and its server: what they offer, how fast they are, what looks wrong. Nothing is changed."""
    work = doctor(account, autodiscover=autodiscover, seconds=seconds, with_sample=not no_sample, json=output.json)
    return execute(work, debug=output.debug)


async def doctor(
    account: AccountOptions, *, autodiscover: bool, seconds: float, with_sample: bool, json: bool
) -> Status:
    """Examine the account.

    Raises:
        Mistake, InvalidURL: Before anything is sent.
        ImapipeError: It cannot be reached at all.
    """
    account = await with_server(account, autodiscover=autodiscover)
    async with account.open_pool(_CONNECTIONS) as pool:
        if with_sample:
            examination = await imapipe.doctor.examine(pool, seconds=seconds)
        else:
            examination = await imapipe.doctor.examine(pool, seconds=seconds, sample_bytes=0)
    return write_report(examination, json=json)
