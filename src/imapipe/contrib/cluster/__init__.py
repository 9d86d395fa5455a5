"""Jobs past one machine: thousands of accounts on PostgreSQL, with Procrastinate. `pip install "imapipe[cluster]"`.

See `Cluster`; `ClusterJobs` for whoever only looks at jobs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imapipe.contrib.cluster.cluster import Cluster
    from imapipe.contrib.cluster.jobs import ClusterJobs
    from imapipe.contrib.cluster.metrics import serve_metrics
    from imapipe.contrib.cluster.planning import Sizes
    from imapipe.contrib.cluster.report import ClusterReport, MailboxOutcome
    from imapipe.contrib.cluster.task import ClusterJob, ClusterJobState, ClusterTask, TaskState
    from imapipe.contrib.cluster.worker import Pace, Worker

__all__ = [
    "Cluster",
    "ClusterJob",
    "ClusterJobState",
    "ClusterJobs",
    "ClusterReport",
    "ClusterTask",
    "MailboxOutcome",
    "Pace",
    "Sizes",
    "TaskState",
    "Worker",
    "serve_metrics",
]

_HOMES = {
    "cluster": ("Cluster",),
    "jobs": ("ClusterJobs",),
    "metrics": ("serve_metrics",),
    "planning": ("Sizes",),
    "report": ("ClusterReport", "MailboxOutcome"),
    "task": ("ClusterJob", "ClusterJobState", "ClusterTask", "TaskState"),
    "worker": ("Pace", "Worker"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import a public name when it is first asked for: reports are read where the extra is not installed, too."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in {"croniter", "procrastinate", "psycopg"}:
                raise
            advice = "a cluster needs an extra: pip install 'imapipe[cluster]'"
            raise ModuleNotFoundError(advice, name=error.name) from error
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
