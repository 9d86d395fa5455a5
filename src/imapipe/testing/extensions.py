"""Which extensions the server offers: names, profiles of known servers, the capability line."""

from __future__ import annotations

from collections.abc import Iterable

ALL_EXTENSIONS: frozenset[str] = frozenset(
    {
        "APPENDLIMIT", "BINARY", "CHILDREN", "COMPRESS=DEFLATE", "CONDSTORE", "CREATE-SPECIAL-USE", "ENABLE",
        "ESEARCH", "ID", "IDLE", "LIST-EXTENDED", "LIST-STATUS", "LITERAL+", "LITERAL-", "MESSAGELIMIT", "MOVE",
        "MULTIAPPEND", "NAMESPACE", "NOTIFY", "OBJECTID", "PARTIAL", "PREVIEW", "QRESYNC", "QUOTA", "SASL-IR",
        "SAVEDATE", "SEARCHRES", "SPECIAL-USE", "STATUS=SIZE", "UIDBATCHES", "UIDONLY", "UIDPLUS", "UNSELECT",
        "UTF8=ACCEPT", "WITHIN", "X-GM-EXT-1",
    }
)  # fmt: skip
"""Every extension the server knows. ``AUTH=`` mechanisms and STARTTLS are switched by other options."""

_MODERN = ALL_EXTENSIONS - {"APPENDLIMIT", "LITERAL-", "MESSAGELIMIT", "QUOTA", "UIDONLY", "X-GM-EXT-1"}

PROFILES: dict[str, frozenset[str]] = {
    "modern": _MODERN,
    "plain": frozenset(),
    "exchange": frozenset(
        {"CHILDREN", "ID", "IDLE", "LITERAL+", "MOVE", "NAMESPACE", "SASL-IR", "UIDPLUS", "UNSELECT"}
    ),
    "gmail": frozenset(
        {
            "CHILDREN", "COMPRESS=DEFLATE", "CONDSTORE", "ENABLE", "ESEARCH", "ID", "IDLE", "LIST-EXTENDED",
            "LIST-STATUS", "LITERAL-", "MOVE", "NAMESPACE", "SASL-IR", "SPECIAL-USE", "UIDPLUS", "UNSELECT",
            "UTF8=ACCEPT", "X-GM-EXT-1",
        }
    ),
    "dovecot": _MODERN - {"COMPRESS=DEFLATE", "OBJECTID", "PARTIAL", "UIDBATCHES", "UTF8=ACCEPT"},
    "yahoo": frozenset(
        {
            "CHILDREN", "CONDSTORE", "ENABLE", "ESEARCH", "ID", "LIST-STATUS", "LITERAL+", "MESSAGELIMIT", "MOVE",
            "NAMESPACE", "OBJECTID", "PARTIAL", "SASL-IR", "SPECIAL-USE", "UIDONLY", "UIDPLUS", "UNSELECT",
        }
    ),
    "everything": ALL_EXTENSIONS - {"LITERAL-", "MESSAGELIMIT"},
}  # fmt: skip
"""Sets of extensions by name: ``modern`` is the default, ``plain`` bare RFC 3501, the others after real servers."""


def choose_extensions(
    extensions: str | Iterable[str], add: Iterable[str] = (), remove: Iterable[str] = ()
) -> frozenset[str]:
    """A profile's name or a set of names, with some added and some removed.

    Raises:
        ValueError: A name is unknown.
    """
    if isinstance(extensions, str):
        if extensions not in PROFILES:
            raise ValueError(f"unknown profile {extensions!r}; there are {', '.join(sorted(PROFILES))}")
        chosen = set(PROFILES[extensions])
    else:
        chosen = {name.upper() for name in extensions}
    chosen |= {name.upper() for name in add}
    unknown = chosen - ALL_EXTENSIONS
    if unknown:
        raise ValueError(f"unknown extensions: {', '.join(sorted(unknown))}")
    chosen -= {name.upper() for name in remove}
    if "QRESYNC" in chosen:
        chosen |= {"CONDSTORE", "ENABLE"}
    return frozenset(chosen)


def capability_names(
    extensions: frozenset[str],
    *,
    logged_in: bool,
    starttls: bool,
    login_disabled: bool,
    mechanisms: Iterable[str],
    message_limit: int | None,
    append_limit: int | None,
) -> list[str]:
    """The words of a CAPABILITY response.

    Before login only what serves a login is shown, as most servers do, so that a client that does not ask
    again afterwards misses the rest.
    """
    names = ["IMAP4rev1"]
    early = {"SASL-IR", "ID", "ENABLE", "IDLE", "LITERAL+", "LITERAL-"}
    shown = extensions if logged_in else extensions & early
    for name in sorted(shown):
        if name == "MESSAGELIMIT":
            if message_limit is not None:
                names.append(f"MESSAGELIMIT={message_limit}")
        elif name == "APPENDLIMIT":
            names.append(name if append_limit is None else f"APPENDLIMIT={append_limit}")
        elif name == "QUOTA":
            names += [name, "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE"]
        else:
            names.append(name)
    if not logged_in:
        if starttls:
            names.append("STARTTLS")
        if login_disabled:
            names.append("LOGINDISABLED")
        else:
            names += [f"AUTH={mechanism}" for mechanism in mechanisms]
    return names
