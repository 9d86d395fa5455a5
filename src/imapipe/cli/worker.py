"""`imapipe worker`: do the jobs of a cluster, until SIGTERM or Ctrl-C hands back what is under way."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imapipe.cli.database import the_cluster
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.execute import execute
from imapipe.cli.options import JOB, LIMITS, OUTPUT, OutputOptions
from imapipe.cli.output import write_document, write_note
from imapipe.cli.signals import at_signals

if TYPE_CHECKING:
    from imapipe.contrib import cluster


def worker_command(
    output: OutputOptions,
    jobs: Annotated[
        str,
        typer.Option(
            metavar="MODULE[:NAME]",
            help="The module with the jobs, and the name of its Cluster (cluster unless given).",
            rich_help_panel=JOB,
        ),
    ],
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Tasks at a time.", rich_help_panel=LIMITS)] = 10,
    name: Annotated[
        str | None,
        typer.Option(help="What the worker is called; the machine and the process unless given.", rich_help_panel=JOB),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Answer Prometheus at /metrics.", rich_help_panel=OUTPUT),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen for that.", rich_help_panel=OUTPUT)
    ] = "127.0.0.1",
    no_migrate: Annotated[
        bool, typer.Option("--no-migrate", help="Do not make or change tables.", rich_help_panel=JOB)
    ] = False,
) -> int:
    """Do the jobs of a cluster, until SIGTERM or Ctrl-C; what is under way then is handed back to other workers."""
    work = worker(
        jobs,
        concurrency=concurrency,
        name=name,
        metrics=None if metrics_port is None else (metrics_host, metrics_port),
        migrate=not no_migrate,
        json=output.json,
    )
    return execute(work, debug=output.debug)


async def worker(
    jobs: str, *, concurrency: int, name: str | None, metrics: tuple[str, int] | None, migrate: bool, json: bool
) -> Status:
    """Work until a signal comes.

    Raises:
        Mistake: There is no such module, or no cluster in it.
        DatabaseError: The database cannot be used.
        OSError: The port of the metrics cannot.
    """
    async with _load(jobs) as the_one, contextlib.AsyncExitStack() as opened:
        if migrate:
            await the_one.migrate()
        else:
            await the_one.check()
        one = the_one.worker(concurrency=concurrency, name=name)
        opened.enter_context(at_signals(partial(_end, one, asyncio.current_task())))
        if metrics is not None:
            # With the rest of the extra.
            from imapipe.contrib.cluster import serve_metrics  # noqa: PLC0415

            host, port = metrics
            port = await opened.enter_async_context(serve_metrics(one.metrics, port, host))
            write_note(f"metrics are at http://{host}:{port}/metrics")
        if not json:
            write_note(f"{one.name} works; SIGTERM or Ctrl-C hands back what is under way")
        await one.run()
        done = one.tallies
    if json:
        write_document({"worker": one.name, "tasks": done})
    return Status.COMPLETE


def _end(one: cluster.Worker, task: asyncio.Task[object] | None) -> None:
    """Have a worker end; told a second time, without waiting for what it has in hand."""
    if one.is_stopping and task is not None:
        task.cancel()
    one.stop()


def _load(jobs: str) -> cluster.Cluster:
    """The cluster of a module. Raises Mistake."""
    module_name, _, name = jobs.partition(":")
    name = name or "cluster"
    the_cluster()
    from imapipe.contrib.cluster import Cluster  # noqa: PLC0415 - with the packages of the extra

    # As of `python -m`.
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise Mistake(f"--jobs {jobs}: there is no module {error.name} here") from error
        raise
    except ValueError as error:
        raise Mistake(f"--jobs {jobs}: {error}") from error
    found = getattr(module, name, None)
    if not isinstance(found, Cluster):
        raise Mistake(f"--jobs {jobs}: the module {module_name} has no Cluster of the name {name}")
    return found
