"""What shall go wrong, and when: scripted, so that a test fails the same way each time.

A fault is a value: what happens, plus to which commands. It fires for a command when all of its conditions
hold; all are keyword arguments:

- ``command``: a name (``"UID FETCH"``) or several; None for every command.
- ``connection``: number of the connection, from 1; None for every one.
- ``nth``: only from the n-th command (from 1) on that meets the other conditions, over all connections.
- ``times``: how often at most. With ``nth`` the default is 1, else there is no limit.
- ``when``: a function of the ``CommandRecord``.

Example::

    faults=[
        Delay(0.2, command="LOGIN"),
        CutAfterBytes(1000, command="UID FETCH", nth=2),
        PoisonUids({17}),
    ]

``server.faults`` may be changed while the server runs. Faults that fire for one command act together: so
``NilBodies({2})`` and ``Reply("OK", "Some messages were already expunged", code="EXPUNGEISSUED",
after_response=True)`` are Dovecot's answer for a message that is gone.

The greeting counts as a command of the name ``GREETING``, for faults that name it: ``Stall(command="GREETING")``.
(A client that wants TLS finds silence in the handshake at a server without TLS that stalls its greeting.)
"""

from __future__ import annotations

from .base import Fault, exponential_bytes
from .commands import (
    Act,
    Bandwidth,
    Bye,
    CutAfterBytes,
    CutInput,
    Delay,
    Drip,
    Flood,
    Inject,
    InProgress,
    RefuseCredentials,
    RefuseLogin,
    Reply,
    Rewrite,
    SearchCap,
    Stall,
)
from .connections import CutConnection, RefuseConnection
from .messages import (
    LieAboutLength,
    NilBodies,
    OmitItems,
    OmitUids,
    PoisonUids,
    ReplaceResponses,
    WrongPartial,
)
from .script import Faults, FiredFaults

__all__ = [
    "Act",
    "Bandwidth",
    "Bye",
    "CutAfterBytes",
    "CutConnection",
    "CutInput",
    "Delay",
    "Drip",
    "Fault",
    "Faults",
    "FiredFaults",
    "Flood",
    "InProgress",
    "Inject",
    "LieAboutLength",
    "NilBodies",
    "OmitItems",
    "OmitUids",
    "PoisonUids",
    "RefuseConnection",
    "RefuseCredentials",
    "RefuseLogin",
    "ReplaceResponses",
    "Reply",
    "Rewrite",
    "SearchCap",
    "Stall",
    "WrongPartial",
    "exponential_bytes",
]
