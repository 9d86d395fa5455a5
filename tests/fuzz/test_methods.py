"""Every public coroutine raises what its docstring says; `nox -s fuzz` calls them in any number of dialogs."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fuzz import methods
from fuzz.methods import Method
from imapipe.errors import CommandNo, ConnectionLost, ProtocolError


def test_what_methods_document_is_found() -> None:
    found = {method.name: set(method.raises) for method in methods.find()}
    assert len(found) > 70
    assert {CommandNo, ConnectionLost, ProtocolError, ValueError} <= found["Connection.rename"]
    assert {CommandNo, ConnectionLost, ProtocolError, ValueError} <= found["Mailbox.status"]
    silent = {name for name, kinds in found.items() if not kinds}
    assert silent == {"Connection.logout", "Pool.close"}


@pytest.mark.no_cover
def test_what_is_not_documented_is_noticed() -> None:
    def run(method: Method) -> list[str]:
        return methods.play([method], range(40, 48))

    (rename,) = [method for method in methods.find() if method.name == "Connection.rename"]
    logging.disable(logging.CRITICAL)
    try:
        assert run(rename._replace(raises=(asyncio.QueueEmpty,)))
        assert not run(rename)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.no_cover
@pytest.mark.slow
def test_methods_raise_what_they_document() -> None:
    logging.disable(logging.CRITICAL)
    try:
        assert not methods.play(methods.find(), range(21, 24))
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("use", "seed"), [("Pipeline.follow by idle", 482197291042)])
def test_what_sessions_have_found(use: str, seed: int) -> None:
    logging.disable(logging.CRITICAL)
    try:
        assert not methods.play([each for each in methods.find() if each.name == use], [seed])
    finally:
        logging.disable(logging.NOTSET)
