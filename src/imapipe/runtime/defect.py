"""Telling of what should not have raised: defects of our own, and functions of others that we call on the way.

They are called where nobody waits for them, so what they raise must not change what happens next, nor be lost.
"""

from __future__ import annotations

import asyncio
import logging

_log = logging.getLogger(__name__)

# What a function that is called, and not awaited, may raise: CancelledError comes out of a future that it asked.
DEFECTS = (Exception, asyncio.CancelledError)


def tell_defect(what: str, error: BaseException, **context: object) -> None:
    """Tell the event loop, whose handler logs it unless somebody gave it another; without a loop, log it.

    Args:
        what: What failed, as the end of a sentence.
        error: What it raised.
        context: What else the handler may want to know (`asyncio.loop.call_exception_handler`).
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _log.error("imapipe: %s", what, exc_info=error)
        return
    loop.call_exception_handler({"message": f"imapipe: {what}", "exception": error, **context})
