"""Values that a JSON document may hold: what layers and stores keep of their own."""

from __future__ import annotations

from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""A value of a JSON document."""
