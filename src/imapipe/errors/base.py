"""The root of all exceptions: it can be pickled, with all its attributes."""

from __future__ import annotations


class ImapipeError(Exception):
    """The root of everything imapipe raises on purpose. Every one can be pickled, with its attributes."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception itself would call the class with the text as its arguments.
        arguments = OSError.__reduce__(self)[1] if isinstance(self, OSError) else self.args
        return _made_again, (type(self), arguments), self.__dict__


def _made_again(kind: type[ImapipeError], arguments: tuple[object, ...]) -> ImapipeError:
    """An error of a class with these arguments, without its own `__init__`."""
    error = kind.__new__(kind, *arguments)
    if isinstance(error, OSError):
        OSError.__init__(error, *arguments)
    else:
        error.args = arguments
    return error
