r"""What is done with the messages that a search finds, as steps of a pipeline: they are fetched, or changed."""

from __future__ import annotations

from dataclasses import replace

from imapipe.pipeline.batching import AdaptiveBatch
from imapipe.pipeline.builder import PipelineBuilder
from imapipe.pipeline.change_pipeline import ChangePipeline
from imapipe.pipeline.operation.change import ChangeMessages
from imapipe.pipeline.operation.flagging import FLAG_KINDS
from imapipe.pipeline.operation.message_change import (
    MessageChange,
    add_flags,
    change_flags,
    copy_to,
    delete,
    move_to,
    remove_flags,
    set_flags,
)
from imapipe.pipeline.specification import DEFAULT_BATCH

FLAG_BATCH = AdaptiveBatch(
    start=5_000, minimum=500, maximum=50_000, target_seconds=0.5, slow_seconds=5.0, grow=5.0, shrink=0.5
)
"""As many messages a command that changes flags is for, unless said: flags cost most servers next to nothing."""
TRANSFER_BATCH = AdaptiveBatch(
    start=2_000, minimum=100, maximum=10_000, target_seconds=1.0, slow_seconds=10.0, grow=2.5, shrink=0.5
)
"""As many messages another change is for, unless said: a slow server still ends it well within its timeout."""


class ChangeSteps(PipelineBuilder):
    """The steps that make a change of a pipeline; nothing is sent before its `run`."""

    __slots__ = ()

    def add_flags(self, *flags: str) -> ChangePipeline:
        r"""Give the messages flags, such as `\Seen` or `$Work`. Raises ValueError for what cannot be one."""
        return self._change(add_flags(*flags))

    def remove_flags(self, *flags: str) -> ChangePipeline:
        """Take flags away from the messages; raises as `add_flags` does."""
        return self._change(remove_flags(*flags))

    def set_flags(self, *flags: str) -> ChangePipeline:
        """Give the messages these flags instead of all that they have, maybe none; raises as `add_flags` does."""
        return self._change(set_flags(*flags))

    def change_flags(self, *words: str) -> ChangePipeline:
        r"""Give the messages some flags and take others away, such as `+\Seen` and `-$Junk`, as one change.

        Raises:
            ValueError: A word without `+` or `-`, what cannot be a flag, or a flag that is to be given and taken away.
        """
        return self._change(change_flags(*words))

    def move_to(self, mailbox: str) -> ChangePipeline:
        """Move the messages into another mailbox of the account; by COPY where the server has no MOVE."""
        return self._change(move_to(mailbox))

    def copy_to(self, mailbox: str) -> ChangePipeline:
        """Copy the messages into another mailbox of the account."""
        return self._change(copy_to(mailbox))

    def delete(self, *, permanently: bool = False) -> ChangePipeline:
        r"""Move the messages to the mailbox with the use `\Trash`.

        Args:
            permanently: Remove them for good instead, by UID EXPUNGE; without UIDPLUS they are only marked.

        Raises:
            TypeError: `permanently` is neither True nor False.
        """
        return self._change(delete(permanently=permanently))

    def _change(self, change: MessageChange) -> ChangePipeline:
        operation = ChangeMessages(change.kind, change.target, change.flags)
        policy = self._specification.policy
        if policy is DEFAULT_BATCH:
            policy = FLAG_BATCH if operation.kind in FLAG_KINDS else TRANSFER_BATCH
        specification = replace(self._specification, operation=operation, policy=policy)
        return ChangePipeline(specification, self._pool, self._account, self._runs)
