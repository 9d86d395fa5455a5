"""What layers want to remember about an account, kept beside the checkpoints of its mailboxes.

The notes are shared by all mailboxes and jobs of the account in one store, and outlive a checkpoint that is deleted or
begun anew. With a file, a value survives the death of the process from the moment `put` returns; a store on a network
writes it as soon as it writes changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from imapipe.models.json_value import JSON


class AccountNotes:
    """Values by name, as they were when they were read, and as this run changes them.

    Attributes:
        path: Where they are kept, for messages.
    """

    __slots__ = ("_put", "_values", "path")

    def __init__(self, values: Mapping[str, JSON], put: Callable[[str, JSON], None], path: str = "") -> None:
        self._values = dict(values)
        self._put = put
        self.path = path

    def get(self, name: str) -> JSON:
        """The value of a name, None where there is none."""
        return self._values.get(name)

    def put(self, name: str, value: JSON) -> None:
        """Give a name a value. Takes microseconds.

        Raises:
            CheckpointError: It could not be kept.
        """
        self._put(name, value)
        self._values[name] = value
