"""What ends with the block of `async with` that it is used in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class EndsWithBlock(ABC):
    """An async context manager that is ended with its block; what the block raises counts, not what ending raises."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        except Exception:
            # The body's own exception says more than what came of ending it early.
            if error is None:
                raise

    @abstractmethod
    async def aclose(self) -> None:
        """End it."""
