r"""What is done with the messages that a search finds, as steps of a pipeline: they are fetched, or changed."""

from __future__ import annotations

from dataclasses import replace

from imapipe.pipeline.batching import FixedBatch
from imapipe.pipeline.builder import PipelineBuilder
from imapipe.pipeline.change_pipeline import ChangePipeline
from imapipe.pipeline.operation.change import TRASH, ChangeMessages
from imapipe.pipeline.specification import DEFAULT_BATCH
from imapipe.wire.command.encoder import flag_list

CHANGE_BATCH = FixedBatch(500)
"""As many messages a command of a change is for, unless said."""


class ChangeSteps(PipelineBuilder):
    """The steps that make a change of a pipeline; nothing is sent before its `run`."""

    __slots__ = ()

    def add_flags(self, *flags: str) -> ChangePipeline:
        r"""Give the messages flags, such as `\Seen` or `$Work`. Raises ValueError for what cannot be one."""
        return self._change("add", flags=flags)

    def remove_flags(self, *flags: str) -> ChangePipeline:
        """Take flags away from the messages; raises as `add_flags` does."""
        return self._change("remove", flags=flags)

    def set_flags(self, *flags: str) -> ChangePipeline:
        """Give the messages these flags instead of all that they have, maybe none; raises as `add_flags` does."""
        return self._change("set", flags=flags)

    def move_to(self, mailbox: str) -> ChangePipeline:
        """Move the messages into another mailbox of the account; by COPY where the server has no MOVE."""
        return self._change("move", _name(mailbox))

    def copy_to(self, mailbox: str) -> ChangePipeline:
        """Copy the messages into another mailbox of the account."""
        return self._change("copy", _name(mailbox))

    def delete(self, *, permanently: bool = False) -> ChangePipeline:
        r"""Move the messages to the mailbox with the use `\Trash`.

        Args:
            permanently: Remove them for good instead, by UID EXPUNGE; without UIDPLUS they are only marked.
        """
        return self._change("delete") if permanently else self._change("move", TRASH)

    def _change(self, kind: str, target: str = "", flags: tuple[str, ...] = ()) -> ChangePipeline:
        flag_list(flags)
        if kind in ("add", "remove") and not flags:
            raise ValueError("name at least one flag")
        policy = CHANGE_BATCH if self._specification.policy is DEFAULT_BATCH else self._specification.policy
        operation = ChangeMessages(kind, target, tuple(dict.fromkeys(flags)))
        specification = replace(self._specification, operation=operation, policy=policy)
        return ChangePipeline(specification, self._pool, self._account, self._runs)


def _name(mailbox: str) -> str:
    if not isinstance(mailbox, str):
        raise TypeError(f"a mailbox is named by a text, not by {mailbox!r}")
    if not mailbox or any(character in mailbox for character in "\r\n\0"):
        raise ValueError(f"{mailbox!r} cannot be the name of a mailbox")
    return "INBOX" if mailbox.upper() == "INBOX" else mailbox
