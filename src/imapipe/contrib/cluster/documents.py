"""What the database keeps as JSON: what was asked for, what became of parts, errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import orjson

from imapipe.contrib.cluster.planning import JobRequest, Planned
from imapipe.contrib.cluster.report import MailboxOutcome
from imapipe.contrib.job import told
from imapipe.models.json_value import JSON


def text_of(document: object) -> str:
    """A document as it is kept."""
    return orjson.dumps(document).decode()


def document_from(text: str | None) -> JSON:
    """Read what `text_of` gave; None for nothing."""
    document: JSON = None if text is None else orjson.loads(text)
    return document


def request_text(request: JobRequest) -> str:
    """What was asked for of an account and a job, which are kept beside it."""
    return text_of(
        {
            "mailboxes": [*request.mailboxes],
            "exclude": [*request.exclude],
            "shards": request.shards,
            "parameters": dict(request.parameters),
        }
    )


def request_from(account: str, job: str, text: str) -> JobRequest:
    """Read what `request_text` gave."""
    document = orjson.loads(text)
    return JobRequest(
        account=account,
        job=job,
        mailboxes=tuple(document["mailboxes"]),
        exclude=tuple(document["exclude"]),
        shards=document["shards"],
        parameters=document["parameters"],
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What looking at the mailboxes of a job has found, besides its tasks.

    Attributes:
        unchanged: Mailboxes in which nothing changed.
        errors: What is wrong with those that cannot be worked on, as JSON.
        unaccounted: Messages that a search for all did not find, by the mailboxes that are worked on in parts.
        renumbered: Mailboxes whose numbers changed between the look and the work, and whether they were looked at
            again: that is done once, when all else of the job is over.
    """

    unchanged: tuple[str, ...] = ()
    errors: Mapping[str, JSON] = field(default_factory=dict)
    unaccounted: Mapping[str, int] = field(default_factory=dict)
    renumbered: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str | None) -> Found:
        """Read what `text` gave; None for nothing."""
        known = {} if text is None else orjson.loads(text)
        known["unchanged"] = tuple(known.get("unchanged", ()))
        return cls(**known)

    @property
    def text(self) -> str:
        """As it is kept."""
        return text_of({name: getattr(self, name) for name in ("unchanged", "errors", "unaccounted", "renumbered")})

    def with_plan(self, plan: Planned, mailboxes: Collection[str]) -> Found:
        """With what a look has found: at all mailboxes, or at these once more."""
        kept = {name: count for name, count in self.unaccounted.items() if name not in mailboxes}
        return replace(
            self,
            unchanged=(*self.unchanged, *plan.unchanged),
            errors={**self.errors, **{name: told(error).to_dict() for name, error in plan.errors.items()}},
            unaccounted={**kept, **plan.unaccounted},
        )


def outcomes_text(outcomes: Mapping[str, MailboxOutcome]) -> str | None:
    """The outcomes of the parts of a task, by their key."""
    return text_of({key: outcome.to_dict() for key, outcome in outcomes.items()}) if outcomes else None


def outcomes_from(text: str | None) -> dict[str, MailboxOutcome]:
    """Read what `outcomes_text` gave."""
    document = document_from(text)
    if not isinstance(document, dict):
        return {}
    return {key: MailboxOutcome.from_dict(each) for key, each in document.items() if isinstance(each, dict)}


def error_text(error: BaseException | None) -> str | None:
    """An error, or none."""
    return None if error is None else text_of(told(error).to_dict())
