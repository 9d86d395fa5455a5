"""How large a response may be: what the framer does not wait for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a response may be, in bytes.

    Attributes:
        line_bytes: One line; a SEARCH answer of ten million UIDs takes about 80 MB.
        literal_bytes: One literal.
        response_bytes: All lines and literals of one response that are kept in memory; of messages that come in parts
            no more than this either.
        answer_bytes: What is kept of all responses to one command, messages apart, with the objects for it.
        literals: The number of literals in one response.
    """

    line_bytes: int = 128 * 1024 * 1024
    literal_bytes: int = 2 * 1024 * 1024 * 1024
    response_bytes: int = 24 * 1024 * 1024
    answer_bytes: int = 32 * 1024 * 1024
    literals: int = 10_000
