"""A name of a file that is safe to use, of a name that came in a mail."""

from __future__ import annotations

import re
from typing import Final

# Reserved on one system or another, control characters, and marks that show a name backwards.
_UNSAFE: Final = re.compile('[\x00-\x1f\x7f-\x9f<>:"|?*\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]')
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|\Z)", re.IGNORECASE)
# What a name may have in bytes nearly everywhere, with room for a suffix such as " (2)".
_MAX_BYTES: Final = 240


def safe_name(name: str, default: str) -> str:
    """The last component of a name, without what some system reserves, at most 240 bytes of UTF-8; never empty.

    Args:
        name: The name as its sender wrote it, a path perhaps.
        default: What is taken where nothing is left.
    """
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _UNSAFE.sub("_", name.encode("utf-8", "replace").decode()).strip().strip(".").strip()
    if _DEVICE.match(name):
        name = f"_{name}"
    if not name.strip("_ ."):
        return default
    data = name.encode()
    if len(data) <= _MAX_BYTES:
        return name
    # The ending says what it is, if it is one.
    stem, dot, ending = name.rpartition(".")
    kept = f"{dot}{ending}".encode() if stem and len(ending) <= 16 else b""
    return data[: _MAX_BYTES - len(kept)].decode("utf-8", "ignore").rstrip() + kept.decode()
