"""Whatever stands in a public signature (methods, operators, attributes) can be imported from a public module."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import types
import typing
from collections.abc import Iterator

import pytest
from tests.test_public_snapshot import MODULES

# Handed out by something else: nobody calls these to make one.
HANDED_OUT = {
    "imapipe.AccountPipeline",
    "imapipe.Attachment",
    "imapipe.BatchStream",
    "imapipe.ChangePipeline",
    "imapipe.ChangePlan",
    "imapipe.ChangeStream",
    "imapipe.Changes",
    "imapipe.Connection",
    "imapipe.Follow",
    "imapipe.FollowStream",
    "imapipe.Lease",
    "imapipe.Mailbox",
    "imapipe.MailboxGroup",
    "imapipe.Message",
    "imapipe.Pipeline",
    "imapipe.Pool",
    "imapipe.Stream",
    "imapipe.connection.Command",
    "imapipe.connection.Connection",
    "imapipe.connection.FetchCommand",
    "imapipe.connection.Lease",
    "imapipe.contrib.cluster.Worker",
    "imapipe.contrib.jobs.Job",
    "imapipe.contrib.jobs.Subscription",
    "imapipe.middleware.CheckpointLayer",
    "imapipe.middleware.RetryLayer",
    "imapipe.store.JsonCheckpointHolding",
    "imapipe.testing.Session",
    "imapipe.testing.StoredMessage",
}
# Between the classes of imapipe, though without an underscore: the data plane makes messages and drives commands, and
# the parts of the testing server know each other.
BETWEEN_OURSELVES = {
    "Command.of",
    "Command.receive",
    "FetchCommand.of",
    "FetchCommand.receive",
    "Message.from_items",
    "Server.sessions",
    "Target.connections",
}


def public_names(module: str) -> list[str]:
    found = importlib.import_module(module)
    if hasattr(found, "__all__"):
        return sorted(found.__all__)
    return sorted(name for name, value in vars(found).items() if getattr(value, "__module__", "") == module)


PUBLIC = {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module in (*MODULES, "imapipe.errors")
    for name in public_names(module)
}


class Foreign:
    """Stands for a class of others that a module imports for type checkers only."""

    def __class_getitem__(cls, _: object) -> type[Foreign]:
        return cls


def evaluated(annotation: str, module: str) -> object:
    """What an annotation means in its module. What that imports for type checkers only is imported, if it is ours."""
    names = dict(vars(sys.modules[module]))
    while True:
        try:
            return eval(annotation, names)
        except NameError as error:
            absent = str(error.name)
        home = home_in_imapipe(module, absent)
        names[absent] = getattr(importlib.import_module(home), absent) if home else Foreign


def home_in_imapipe(module: str, name: str) -> str:
    """The module of imapipe that a module imports a name from; "" where it comes from elsewhere."""
    source = inspect.getsource(sys.modules[module])
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    package = str(sys.modules[module].__package__)
    homes = [
        importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        for node in imports
        for alias in node.names
        if alias.name == name
    ]
    return next((home for home in homes if home.startswith("imapipe")), "")


def classes(annotation: object, module: str) -> Iterator[type]:
    """The classes that an annotation names, however deep."""
    left, seen = [annotation], set[str]()
    while left:
        found = left.pop()
        if isinstance(found, typing.ForwardRef):
            found = found.__forward_arg__
        if isinstance(found, str):
            # An alias may name itself.
            if found not in seen:
                seen.add(found)
                left.append(evaluated(found, module))
        elif isinstance(found, typing.TypeVar):
            left += [found.__bound__, *found.__constraints__]
        elif isinstance(found, list | tuple):
            left += found
        elif (origin := typing.get_origin(found)) is not None:
            left += [] if origin is typing.Literal else [origin, *typing.get_args(found)]
        elif isinstance(found, type):
            yield found


def annotated(name: str, value: object) -> Iterator[tuple[str, object, str]]:
    """Where each annotation of a public name stands, what it is, and in which module it means something."""
    if isinstance(value, types.FunctionType):
        for annotation in inspect.get_annotations(value).values():
            yield name, annotation, value.__module__
    if not isinstance(value, type) or issubclass(value, Exception):
        return
    for owner in value.__mro__:
        if not owner.__module__.startswith("imapipe"):
            continue
        for field, annotation in inspect.get_annotations(owner).items():
            if not field.startswith("_"):
                yield f"{name}.{field}", annotation, owner.__module__
        for member, found in vars(owner).items():
            is_hidden = member.startswith("_") and not member.endswith("__")
            between = f"{value.__name__}.{member}" in BETWEEN_OURSELVES
            if is_hidden or between or (member in {"__init__", "__new__"} and name in HANDED_OUT):
                continue
            function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
            if isinstance(function, types.FunctionType) and function.__module__.startswith("imapipe"):
                for annotation in inspect.get_annotations(function).values():
                    yield f"{name}.{member}", annotation, function.__module__


def hidden(name: str, public: dict[str, object]) -> set[str]:
    """The classes of ours in a public signature that are in no public module."""
    known = {id(value) for value in public.values()}
    return {
        f"{found.__module__}.{found.__qualname__} in {where}"
        for where, annotation, module in annotated(name, PUBLIC[name])
        for found in classes(annotation, module)
        if found.__module__.startswith("imapipe") and id(found) not in known
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_what_stands_in_a_public_signature_is_public(name: str) -> None:
    assert hidden(name, PUBLIC) == set()


@pytest.mark.parametrize(
    ("gone", "name", "where"),
    [
        ("Mailbox", "imapipe.Pool", "imapipe.mailbox.Mailbox in imapipe.Pool.mailbox"),
        ("SearchKey", "imapipe.Mailbox", "imapipe.wire.search_key.SearchKey in imapipe.Mailbox.search"),
        (
            "Distribution",
            "imapipe.RunReport",
            "imapipe.models.distribution.Distribution in imapipe.RunReport.batch_sizes",
        ),
    ],
)
def test_a_class_that_is_not_public_would_be_seen(gone: str, name: str, where: str) -> None:
    rest = {each: value for each, value in PUBLIC.items() if each.rpartition(".")[2] != gone}
    assert where in hidden(name, rest)
