"""Work on a database that is away."""

from __future__ import annotations

import asyncio
import logging

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException

from imapipe.contrib.cluster.connector import PatientConnector
from imapipe.contrib.cluster.desk import Desk
from imapipe.database import Connection, Database
from imapipe.errors import DatabaseError

pytestmark = pytest.mark.asyncio


async def test_a_database_that_is_away_is_told_once_in_a_while_whatever_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("imapipe.contrib.cluster.desk._LONGEST_WAIT_SECONDS", 0.001)
    caplog.set_level(logging.WARNING)
    left = 60

    def connect(_: Database) -> Connection:
        nonlocal left
        left -= 1
        if left:
            raise DatabaseError("it is away", database="jobs", is_transient=True)
        raise DatabaseError("it was restored from before", database="jobs")

    monkeypatch.setattr(Database, "connect", connect)
    desk = Desk(Database("postgresql://127.0.0.1:1/jobs"), outage_seconds=60.0)
    with pytest.raises(DatabaseError, match="restored"):
        await asyncio.gather(*(desk.do(lambda _: None) for _ in range(5)))
    await desk.close()
    assert desk.waits > 50
    assert len(caplog.records) == 1
    assert "waiting for the database" in caplog.text


async def test_a_queue_that_is_away_is_told_once_in_a_while_whatever_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("imapipe.contrib.cluster.connector._PAUSE_SECONDS", 0.001)
    caplog.set_level(logging.WARNING)
    connector = PatientConnector("postgresql://127.0.0.1:1/jobs", outage_seconds=60.0)
    tries = 0

    async def ask() -> int:
        nonlocal tries
        tries += 1
        if tries > 60:
            return tries
        raise ConnectorException from psycopg.OperationalError("the server is away\nand more\n")

    await asyncio.gather(*(connector._patiently(ask) for _ in range(5)))
    assert connector.waits == 60
    assert [record.getMessage() for record in caplog.records] == ["waiting for the database: the server is away"]
