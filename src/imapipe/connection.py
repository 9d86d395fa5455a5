"""What a leased connection takes and gives: `async with pool.acquire() as connection`.

A job needs none of this. It is for single commands beside jobs, through the methods of `Connection`.
"""

from __future__ import annotations

from imapipe.models.news import News
from imapipe.net.command import Command, FetchCommand
from imapipe.net.connection import Connection
from imapipe.net.options import PlaneOptions
from imapipe.net.pool.leased_connection import Lease
from imapipe.net.session import SelectedMailbox
from imapipe.wire.command.append import NewMessage
from imapipe.wire.command.search import SearchAnswer
from imapipe.wire.command.store import FlagChange
from imapipe.wire.literal_argument import Body
from imapipe.wire.response.code import AppendUid, Code, CopyUid, InProgress, MessageLimit
from imapipe.wire.response.literal import SpooledLiteral
from imapipe.wire.response.mailbox import Namespace, NamespacePrefix
from imapipe.wire.response.quota import Quota, QuotaUse
from imapipe.wire.response.response import Tagged

__all__ = [
    "AppendUid",
    "Body",
    "Code",
    "Command",
    "Connection",
    "CopyUid",
    "FetchCommand",
    "FlagChange",
    "InProgress",
    "Lease",
    "MessageLimit",
    "Namespace",
    "NamespacePrefix",
    "NewMessage",
    "News",
    "PlaneOptions",
    "Quota",
    "QuotaUse",
    "SearchAnswer",
    "SelectedMailbox",
    "SpooledLiteral",
    "Tagged",
]
