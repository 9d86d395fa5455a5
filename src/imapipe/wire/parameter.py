"""Parameters of a MIME field: `charset`, `filename` and their like (RFC 2231, RFC 2047, RFC 9051 `body-fld-param`).

Servers hand parameters over as they stand in the mail. A long or non-ASCII value is split over `filename*0*`,
`filename*1` …; most senders put encoded words there instead, against the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from imapipe.wire.charset import decode_charset, find_codec
from imapipe.wire.encoded_word import decode_header

# name, number of the section, whether the value is percent-encoded: `filename*0*`.
_NAME = re.compile(rb"([^*]*)(?:\*(\d{1,4}))?(\*)?")
_EXTENDED = re.compile(rb"([A-Za-z0-9._:+-]*)'[^']*'(.*)", re.DOTALL)


def decode_parameters(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Decode parameters into text by lower-case name; of a name that comes twice the first counts.

    Args:
        pairs: Names and values as they came.
    """
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for raw_name, value in pairs:
        match = _NAME.fullmatch(raw_name) if b"*" in raw_name else None
        if match is None or (match[2] is None and match[3] is None):
            plain.setdefault(_name(raw_name), decode_header(value))
        else:
            kept = sections.setdefault(_name(match[1]), {})
            kept.setdefault(int(match[2] or 0), (value, match[3] is not None))
    for name, kept in sections.items():
        # A sender that writes both forms wrote the plain one for old readers.
        plain[name] = _join([kept[number] for number in sorted(kept)])
    return plain


def _name(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip().lower()


def _join(pieces: list[tuple[bytes, bool]]) -> str:
    """Put the sections of a value together and read them in the charset that the first one names."""
    first, encoded = pieces[0]
    match = _EXTENDED.fullmatch(first) if encoded else None
    if match is None:
        return decode_header(b"".join(unquote_to_bytes(piece) if escaped else piece for piece, escaped in pieces))
    data = unquote_to_bytes(match[2])
    data += b"".join(unquote_to_bytes(piece) if escaped else piece for piece, escaped in pieces[1:])
    return decode_charset(data, find_codec(match[1]))
