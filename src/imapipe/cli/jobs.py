"""`imapipe jobs`: the jobs of a cluster: which there are, what became of them; done again, or ended."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from imapipe.cli.database import DatabaseOption, the_jobs
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.execute import execute
from imapipe.cli.help import Commands
from imapipe.cli.options import JOB, OutputOptions
from imapipe.cli.output import write_document, write_json, write_result, write_table

if TYPE_CHECKING:
    from imapipe.contrib import cluster

_STATES: Final = ("waiting", "running", "cancelling", "complete", "partial", "failed", "cancelled")

JobId = Annotated[int, typer.Argument(metavar="ID", min=1, help="Its number; `imapipe jobs list` tells it.")]

jobs_app = Commands(
    name="jobs",
    help="The jobs of a cluster: list them, look at one, have it end or done again.",
)


@jobs_app.named("list")
def _list(
    output: OutputOptions,
    database: DatabaseOption = None,
    state: Annotated[str | None, typer.Option(help=f"Only those: {', '.join(_STATES)}.", rich_help_panel=JOB)] = None,
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only those of this account.", rich_help_panel=JOB)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.", rich_help_panel=JOB)] = 50,
) -> int:
    """List jobs, the newest first."""
    work = list_jobs(database, state=state, account=account, limit=limit, json=output.json)
    return execute(work, debug=output.debug)


@jobs_app.named("show")
def _show(job_id: JobId, output: OutputOptions, database: DatabaseOption = None) -> int:
    """Show a job: how it stands, its tasks, its report."""
    return execute(show_job(database, job_id, json=output.json), debug=output.debug)


@jobs_app.named("retry")
def _retry(job_id: JobId, output: OutputOptions, database: DatabaseOption = None) -> int:
    """Have what is not complete done again; what is done stays done. What waits is tried at once."""
    return execute(retry_job(database, job_id, json=output.json), debug=output.debug)


@jobs_app.named("cancel")
def _cancel(job_id: JobId, output: OutputOptions, database: DatabaseOption = None) -> int:
    """Have a job end; what is done is in its checkpoints."""
    return execute(cancel_job(database, job_id, json=output.json), debug=output.debug)


async def list_jobs(database: str | None, *, state: str | None, account: str | None, limit: int, json: bool) -> Status:
    """List the jobs of a database. Raises Mistake, DatabaseError."""
    if state is not None and state not in _STATES:
        raise Mistake(f"--state {state}: use one of {', '.join(_STATES)}")
    async with the_jobs(database) as jobs:
        await jobs.check()
        found = await jobs.list(state=state, account=account, limit=limit)
    if json:
        write_document({"jobs": [job.to_dict() for job in found]})
    else:
        write_table(_table("id", "state", "account", "job", "mailboxes", "tasks", "asked for"), map(_row, found))
    return Status.COMPLETE


async def show_job(database: str | None, job_id: int, *, json: bool) -> Status:
    """Show a job of a database. Raises Mistake, UnknownJob, DatabaseError."""
    async with the_jobs(database) as jobs:
        await jobs.check()
        job, tasks = await jobs.get(job_id), await jobs.tasks(job_id)
    if json:
        write_document({"job": job.to_dict(), "tasks": [task.to_dict() for task in tasks]})
        return Status.COMPLETE
    write_table(_table("id", "state", "account", "job", "mailboxes", "tasks", "asked for"), [_row(job)])
    columns = ("task", "state", "mailboxes", "tries", "losses", "worker", "error")
    write_result("")
    write_table(_table(*columns), map(_task_row, tasks))
    if job.report is not None:
        write_result(f"\n{job.report.table()}")
    return Status.COMPLETE


async def retry_job(database: str | None, job_id: int, *, json: bool) -> Status:
    """Have a job done again. Raises Mistake, UnknownJob, DatabaseError."""
    async with the_jobs(database) as jobs:
        await jobs.check()
        before = await jobs.get(job_id)
        if before.state == "cancelling":
            raise Mistake(f"the job {job_id} is cancelling: wait until it has ended")
        if before.state == "complete":
            raise Mistake(f"the job {job_id} is complete: nothing of it is left to be done again")
        _tell(await jobs.retry(job_id), json=json)
    return Status.COMPLETE


async def cancel_job(database: str | None, job_id: int, *, json: bool) -> Status:
    """Have a job end. Raises Mistake, UnknownJob, DatabaseError."""
    async with the_jobs(database) as jobs:
        await jobs.check()
        before = await jobs.get(job_id)
        if before.is_ended:
            raise Mistake(f"the job {job_id} is {before.state}: it has ended already")
        _tell(await jobs.cancel(job_id), json=json)
    return Status.COMPLETE


def _tell(job: cluster.ClusterJob, *, json: bool) -> None:
    if json:
        write_json(job.to_json())
    else:
        write_result(f"the job {job.id} is {job.state}")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        is_number = heading in {"id", "task", "tries", "losses"}
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    return table


def _row(job: cluster.ClusterJob) -> tuple[str, ...]:
    tasks = ", ".join(f"{count:,} {state}" for state, count in job.tasks.items())
    return str(job.id), job.state, job.account, job.job, " ".join(job.mailboxes), tasks, _time(job.created_at)


def _task_row(task: cluster.ClusterTask) -> tuple[str, ...]:
    first, *others = task.mailboxes or ("(plan)",)
    named = f"{first} and {len(others):,} more" if others else first
    error = f"{task.error.type}: {task.error.text}" if task.error is not None else ""
    return str(task.id), task.state, named, str(task.tries), str(task.losses), task.worker or "", error


def _time(moment: datetime) -> str:
    return moment.astimezone().isoformat(" ", "seconds")
