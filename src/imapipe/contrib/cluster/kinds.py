"""The kinds of jobs that a cluster knows, and what may be asked for of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from imapipe.account.selection import check_words
from imapipe.contrib.cluster.part import JobKind
from imapipe.contrib.cluster.planning import JobRequest
from imapipe.contrib.errors import WrongParameters
from imapipe.models.argument import check_whole
from imapipe.models.json_value import JSON

_OWN: Final = ("pool", "account", "job", "mailboxes", "exclude", "shards", "priority", "at", "origin")


class JobKinds(dict[str, JobKind]):
    """Kinds of jobs by their name."""

    def register(self, kind: JobKind) -> None:
        """Add one.

        Raises:
            ValueError: There is one of this name, or it takes a parameter that `Cluster.defer` has.
        """
        if kind.name in self:
            raise ValueError(f"there is a job {kind.name!r} already")
        properties = kind.function.parameters["properties"]
        for name in properties if isinstance(properties, dict) else ():
            if name in _OWN:
                raise ValueError(f"the job {kind.name!r} cannot take a parameter {name!r}: defer() has one")
        self[kind.name] = kind

    def request(
        self,
        account: str,
        job: str,
        mailboxes: str | Sequence[str],
        exclude: Iterable[str],
        shards: int,
        parameters: Mapping[str, JSON],
    ) -> JobRequest:
        """What a user asks for, as it is kept.

        Raises:
            WrongParameters: There is no job of this name, or it does not take these parameters.
            TypeError, ValueError: What cannot be the name of a mailbox, or a number of shards.
        """
        kind = self.get(job)
        if kind is None:
            known = ", ".join(sorted(self)) or "none"
            raise WrongParameters(f"there is no job {job!r}; there are: {known}")
        kind.check(parameters)
        check_whole("shards", shards)
        if shards < 1:
            raise ValueError(f"shards must be 1 or more, not {shards}")
        words = (mailboxes,) if isinstance(mailboxes, str) else mailboxes
        return JobRequest(
            account=account,
            job=job,
            mailboxes=check_words("mailboxes=", words) or ("*",),
            exclude=check_words("exclude=", exclude),
            shards=shards,
            parameters=dict(parameters),
        )
