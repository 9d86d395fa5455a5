"""Which database the commands for a cluster use, and what it needs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from imapipe.cli.errors import Mistake
from imapipe.cli.options import JOB

if TYPE_CHECKING:
    from imapipe.contrib import cluster

VARIABLE: Final = "IMAPIPE_DATABASE"
_WITH_PASSWORD: Final = re.compile(r"//[^/@]*:[^/@]*@|[?&](ssl)?password=", re.IGNORECASE)

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help=f"postgresql://user@host/name; {VARIABLE} of the environment unless given.",
        rich_help_panel=JOB,
    ),
]


def the_cluster() -> type[cluster.ClusterJobs]:
    """The jobs of a cluster, as a class. Raises Mistake: what it needs is not installed."""
    try:
        # With the packages that it needs, which nothing else here does.
        from imapipe.contrib.cluster import ClusterJobs  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Mistake(str(error)) from error
    return ClusterJobs


def the_jobs(database: str | None) -> cluster.ClusterJobs:
    """The jobs in a database. Raises Mistake: it is no database, or what it needs is not installed."""
    if database is not None and _WITH_PASSWORD.search(database):
        raise Mistake(f"--database shows its password to all users of the machine: set {VARIABLE} instead")
    if database is None and not os.environ.get(VARIABLE):
        raise Mistake(f"no database: name it with --database, or set {VARIABLE}")
    try:
        # Somebody waits at the prompt: a database that is away is told at once.
        return the_cluster()(database, outage_seconds=0.0)
    except ValueError as error:
        raise Mistake(f"{'--database' if database is not None else VARIABLE}: {error}") from error
