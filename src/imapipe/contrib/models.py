"""The documents of imapipe as pydantic models: what FastAPI tells of them in OpenAPI, and the published JSON schemas.

Nothing is declared twice: a model is made from the class of the document, its annotations and its docstring.

Invariant: a model takes exactly what `to_dict` of its class gives.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model
from pydantic.json_schema import models_json_schema

import imapipe
from imapipe import events
from imapipe.contrib.cluster.report import ClusterReport, MailboxOutcome
from imapipe.contrib.cluster.task import ClusterJob, ClusterTask
from imapipe.contrib.job import EndData, JobError, JobStatus, StateData
from imapipe.contrib.job_events import LostData
from imapipe.contrib.job_watch import FailuresData, NewsData, WaitsData
from imapipe.contrib.service import ServiceHealth
from imapipe.models.document import Document


class _Exactly(BaseModel):
    """The base of every model: nothing beside what it names."""

    model_config = ConfigDict(extra="forbid")


class ToldError(_Exactly):
    """What went wrong."""

    type: str = Field(description="The name of the exception.")
    text: str = Field(description="What it says.")


class ToldNote(_Exactly):
    """What of the server's answers was passed over."""

    kind: str
    detail: str
    count: int


class ToldFailure(_Exactly):
    """Why one message failed."""

    reason: str = Field(description="A short stable word: the name of an exception class, `no-data`, `malformed` …")
    detail: str = Field(description="One sentence for people.")
    excerpt: str = Field("", description="The beginning of a malformed response.")


class ToldSample(_Exactly):
    """One of the messages that a change is for."""

    uid: int
    date: str | None = Field(description="As ISO 8601.")
    sender: str | None = Field(alias="from")
    subject: str


class ToldCursor(_Exactly):
    """How far a mailbox had come; what the server did not tell is left out."""

    uidnext: int | None = None
    highest_uid: int | None = None
    highestmodseq: int | None = None
    mailboxid: str | None = None
    exists: int | None = None


# What a value is in JSON, where it is told otherwise than by its fields.
_TOLD: Final[Mapping[object, object]] = {
    imapipe.Cursor: ToldCursor,
    imapipe.Failure: ToldFailure,
    imapipe.Message: ToldSample,
    imapipe.UidSet: str,
    Exception: ToldError,
    bytes: str,
}
EVENT_DATA: Final[Mapping[str, type[Document]]] = {
    "state": StateData,
    "progress": imapipe.ProgressSnapshot,
    "failures": FailuresData,
    "waits": WaitsData,
    "news": NewsData,
    "end": EndData,
    "lost": LostData,
}
"""What an event of a job holds, by its kind."""

_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.+?)(?=^    \w+: |^\S|\Z)", re.MULTILINE | re.DOTALL)


_made: Final[dict[type[Document], type[BaseModel]]] = {}


def model_of(document: type[Document]) -> type[BaseModel]:
    """The model of a class of documents: its fields and derived values, with what its docstring says of them."""
    model = _made.get(document)
    if model is None:
        told = dict(_fields(document))
        model = create_model(document.__name__, __base__=_Exactly, __doc__=_summary(document), **told)  # type: ignore[call-overload]
        _made[document] = model
    return model


def json_schemas() -> dict[str, JsonValue]:
    """The published schemas: one JSON schema, with a definition for each document."""
    models = [(model_of(document), "serialization") for document in documents()]
    _, schema = models_json_schema(models, title="imapipe", description="Reports, plans, snapshots and events as JSON.")  # type: ignore[arg-type]
    return schema


def documents() -> Sequence[type[Document]]:
    """The classes of all documents that are public: reports, plans, snapshots, events, jobs."""
    public = [getattr(imapipe, name) for name in imapipe.__all__]
    found = {each for each in public if isinstance(each, type) and issubclass(each, Document)}
    found |= {
        *typing.get_args(events.Event),
        *EVENT_DATA.values(),
        JobStatus,
        JobError,
        ServiceHealth,
        ClusterJob,
        ClusterTask,
        ClusterReport,
        MailboxOutcome,
        imapipe.doctor.Examination,
    }
    return sorted(found - {imapipe.Cursor, imapipe.Failure}, key=lambda each: each.__name__)


def _fields(document: type[Document]) -> Iterator[tuple[str, tuple[object, object]]]:
    hints = typing.get_type_hints(document)
    said = _attributes(document)
    for field in fields(document):  # type: ignore[arg-type]  # every class of documents is a dataclass
        name = document.told_as.get(field.name, field.name)
        yield name, (_told(hints[field.name]), Field(description=said.get(field.name)))
    for name in document.derived:
        function = getattr(document, name).fget
        hint = typing.get_type_hints(function)["return"]
        yield name, (_told(hint), Field(description=(inspect.getdoc(function) or "").partition("\n")[0]))


def _told(hint: object) -> object:
    """The type in JSON of what is annotated so."""
    if hint in _TOLD:
        return _TOLD[hint]
    if isinstance(hint, type) and issubclass(hint, Document):
        return model_of(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType} and any(typing.get_origin(each) is dict for each in arguments):
        return JsonValue
    if origin is dict:
        return dict[str, JsonValue]
    if origin in {typing.Union, types.UnionType}:
        return typing.Union[tuple(_told(each) for each in arguments)]  # noqa: UP007 - of any number
    if origin is None or origin is Literal:
        return hint
    if issubclass(origin, Mapping):
        if arguments[0] is imapipe.Note:
            return list[ToldNote]
        return dict[str, _told(arguments[1])]  # type: ignore[misc]
    if issubclass(origin, Set | Sequence):
        return list[_told(arguments[0])]  # type: ignore[misc]
    raise TypeError(f"nobody has said how {hint} is told")


def _summary(document: type[Document]) -> str:
    return (inspect.getdoc(document) or "").partition("\n\n")[0]


def _attributes(document: type[Document]) -> dict[str, str]:
    """What the docstring says of each attribute."""
    _, _, section = (inspect.getdoc(document) or "").partition("Attributes:\n")
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(section)}
