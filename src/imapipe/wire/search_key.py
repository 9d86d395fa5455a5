"""Search keys as values (RFC 9051 §6.4.4), combined with `&`, `|` and `~`.

Everything is checked when a key is made, so a key can always be sent.

Invariants of a `SearchKey`: `_tokens` is one complete program in prefix order (see `wire.search_program`), in which
no operand of AND is an AND, none of OR an OR, and none of NOT a NOT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final, NoReturn

from imapipe.wire.search_program import (
    Operation,
    Operator,
    SearchProgram,
    Tokens,
    build_program,
    describe_program,
)
from imapipe.wire.search_term import Term

_REPR_CHARACTERS: Final = 200
_NOT: Final = Operator(Operation.NOT, 1)


class SearchKey:
    """A condition on messages: immutable, hashable, combined with `&`, `|` and `~`.

    Make one with the constants and functions of `imapipe.search`, or with `parse`.
    """

    __slots__ = ("_tokens",)

    _tokens: Tokens

    def __init__(self, term: Term) -> None:
        """Wrap one term, made by `make_term`."""
        object.__setattr__(self, "_tokens", (term,))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a search key cannot be changed: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a search key cannot be changed: {name}")

    def __reduce__(self) -> tuple[object, ...]:
        return _of, (self._tokens,)

    def __eq__(self, other: object) -> bool:
        return self._tokens == other._tokens if isinstance(other, SearchKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._tokens)

    def __repr__(self) -> str:
        text = self.describe()
        return f"<SearchKey {text if len(text) <= _REPR_CHARACTERS else text[:_REPR_CHARACTERS] + '…'}>"

    def __bool__(self) -> NoReturn:
        """Refuse `and`, `or` and `not`: they would silently drop one of two keys."""
        raise TypeError("combine search keys with &, | and ~ (Python's and, or, not cannot do it)")

    def __and__(self, other: SearchKey) -> SearchKey:
        if not isinstance(other, SearchKey):
            return NotImplemented
        return combine(Operation.AND, (self, other))

    def __or__(self, other: SearchKey) -> SearchKey:
        if not isinstance(other, SearchKey):
            return NotImplemented
        return combine(Operation.OR, (self, other))

    def __invert__(self) -> SearchKey:
        return _of(self._tokens[1:] if self._tokens[0] == _NOT else (_NOT, *self._tokens))

    def program(self, *, today: date, literal_plus: bool = False, utf8: bool = False) -> SearchProgram:
        """Write the search as it is sent today.

        Text that is not ASCII goes as a literal with `CHARSET UTF-8`, long text as a literal.

        Args:
            today: The day from which relative dates count.
            literal_plus: Whether the server takes `{n+}` (LITERAL+ or LITERAL-, RFC 7888).
            utf8: Whether UTF8=ACCEPT or IMAP4rev2 is enabled: text then goes in quotes, and CHARSET must not be
                sent (RFC 6855 §3).
        """
        return build_program(self._tokens, today=today, literal_plus=literal_plus, utf8=utf8)

    def describe(self) -> str:
        """Write the search as one line that is always the same: relative dates stay relative (`SINCE 30d`)."""
        return describe_program(self._tokens)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The single keys in it, in order, without how they are combined."""
        return tuple(token for token in self._tokens if isinstance(token, Term))

    def replaced(self, keys: Mapping[Term, SearchKey]) -> SearchKey:
        """The same with other keys in the place of some of its single ones."""
        operands: list[SearchKey] = []
        # What stands behind an operator is complete when it is reached from behind.
        for token in reversed(self._tokens):
            if isinstance(token, Term):
                operands.append(keys[token] if token in keys else SearchKey(token))
                continue
            mine = [operands.pop() for _ in range(token.arity)]
            operands.append(~mine[0] if token.operation is Operation.NOT else combine(token.operation, mine))
        return operands.pop()

    @property
    def uses_flags(self) -> bool:
        """Whether a change of flags or labels can change the result. Of `raw` text that must be assumed."""
        return any(term.uses_flags for term in self.terms)

    @property
    def uses_modseq(self) -> bool:
        """Whether MODSEQ is in it: the response then ends with the highest mod-sequence (RFC 7162 §3.1.5)."""
        return any(term.uses_modseq for term in self.terms)

    @property
    def uses_sequence(self) -> bool:
        """Whether it names messages by their place in the mailbox, as `raw` text can."""
        return any(term.uses_sequence for term in self.terms)

    @property
    def uses_clock(self) -> bool:
        """Whether the result changes with time alone: relative dates, OLDER and YOUNGER."""
        return any(term.uses_clock for term in self.terms)

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities without which the server does not understand it."""
        return frozenset(term.needs for term in self.terms if term.needs)


def _of(tokens: Tokens) -> SearchKey:
    """Wrap a program that satisfies the invariants."""
    key = SearchKey.__new__(SearchKey)
    object.__setattr__(key, "_tokens", tokens)
    return key


def combine(operation: Operation, keys: Iterable[SearchKey]) -> SearchKey:
    """Put two or more keys under one operator, the operands of equal operators beside each other."""
    tokens: list[Term | Operator] = []
    arity = 0
    for key in keys:
        first = key._tokens[0]
        if isinstance(first, Operator) and first.operation is operation:
            arity += first.arity
            tokens.extend(key._tokens[1:])
        else:
            arity += 1
            tokens.extend(key._tokens)
    return _of((Operator(operation, arity), *tokens))
