"""What can be wrong with a request to a service, as exceptions with the HTTP status that each stands for."""

from __future__ import annotations

from typing import ClassVar

from imapipe.errors import ImapipeError


class ServiceError(ImapipeError):
    """A request that cannot be answered as it was made.

    Attributes:
        status: The HTTP status that says so.
    """

    status: ClassVar[int] = 500


class UnknownAccount(ServiceError, LookupError):
    """The application has no account of this name."""

    status = 404

    def __init__(self, account: str) -> None:
        self.account = account
        super().__init__(f"there is no account {account!r:.200}")


class UnknownJob(ServiceError, LookupError):
    """There is no job of this id, or no more."""

    status = 404

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id!r:.200}; jobs that ended long ago are forgotten")


class WrongParameters(ServiceError, ValueError):
    """A job was asked for that is not registered, or with parameters that it does not take."""

    status = 422


class TooManyJobs(ServiceError):
    """So many jobs wait already that no further one is taken."""

    status = 429

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting} jobs wait already; try again when some have ended")


class JobNotEnded(ServiceError):
    """The result was asked for of a job that goes on."""

    status = 409

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the job {job_id} has not ended; its events tell how far it is")


class NotServing(ServiceError):
    """The service has not begun, or is ending."""

    status = 503

    def __init__(self) -> None:
        super().__init__("the service is not running; try again when it has started")


class JobFolderError(ServiceError):
    """What is kept of jobs cannot be read or written; nothing is begun that could not be gone on with.

    Attributes:
        path: The file or folder.
        reason: What is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")
