"""Jobs that are asked for by the clock. Procrastinate sees to it that each time comes once, however many workers run.

Invariant: a time that comes while the job of an earlier one still waits to begin asks for nothing: jobs do not pile up.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from croniter import croniter

Accounts: TypeAlias = Iterable[str] | Callable[[], Iterable[str] | Awaitable[Iterable[str]]]
"""Names of accounts, or what gives them each time; may be async."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is asked for, and for whom.

    Attributes:
        name: Names it.
        cron: When: minute, hour, day, month, day of the week (UTC); a sixth field is for seconds.
        job: The name of the job.
        accounts: For which accounts.
        options: What else `Cluster.defer` is called with.
    """

    name: str
    cron: str
    job: str
    accounts: Accounts
    options: Mapping[str, object]

    def __post_init__(self) -> None:
        if not croniter.is_valid(self.cron):
            raise ValueError(f"{self.cron!r} is no time of cron, such as '30 3 * * *'")

    async def who(self) -> list[str]:
        """The accounts of this time. Raises what the function of them raises."""
        accounts = self.accounts
        if not callable(accounts):
            return [*accounts]
        given = accounts()
        return [*(await given if inspect.isawaitable(given) else given)]
