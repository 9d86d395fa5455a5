"""UID COPY (RFC 9051 §6.4.7): copy messages into another mailbox. Which UIDs became which: COPYUID (RFC 4315)."""

from __future__ import annotations

from collections.abc import Iterable

from imapipe.wire.command.encoder import Dialect, Request, sequence_set
from imapipe.wire.response.code import CopyUid
from imapipe.wire.response.response import Response, Status, Tagged
from imapipe.wire.uid_set import UidSet


def uid_copy(uids: UidSet, mailbox: str, dialect: Dialect) -> Request:
    """UID COPY.

    Raises:
        ValueError: An empty set, or CR, LF or NUL in the name.
    """
    return Request("UID COPY", sequence_set(uids), dialect.mailbox(mailbox))


def read_copy_uid(responses: Iterable[Response], tagged: Tagged) -> CopyUid | None:
    """COPYUID, which for MOVE comes before the tagged reply (RFC 6851 §4.3), or None where the server gives none."""
    codes = [response.code for response in responses if isinstance(response, Status)]
    return next((code.copy_uid for code in (tagged.code, *codes) if code is not None and code.copy_uid), None)
