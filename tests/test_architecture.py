"""The page on the architecture says what the import rules say, and names what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "imapipe"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_the_table_of_layers_is_that_of_the_import_rules() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    told = [
        re.findall(r"`imapipe\.(\w+)`", row.split("|")[1]) for row in PAGE.splitlines() if row.startswith("| `imapipe.")
    ]
    assert [sorted(names) for names in told] == [sorted(layer.replace(" ", "").split("|")) for layer in layers]


def test_what_is_named_is_there() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    names = set(re.findall(r"`([a-z_]+(?:\.\w+)+)`", prose)) - {"pyproject.toml", "http.client", "aioimaplib.IMAP4"}
    assert len(names) > 50
    assert [name for name in sorted(names) if not is_there(name)] == []


def test_nobody_but_net_reaches_through_a_connection_to_its_data_plane() -> None:
    reaching = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        if re.search(r"\b(?:connection|lease)\.plane\b", path.read_text("utf-8"))
    ]
    assert [path for path in reaching if not path.startswith("net/")] == []
    assert reaching, "the words that are looked for are none any more"


def is_there(name: str) -> bool:
    """Whether a module of this name exists, in the package or its pipeline, and has what is named behind it."""
    parts = name.removeprefix("imapipe.").split(".")
    for place in (SOURCE, SOURCE / "pipeline", SOURCE / "contrib" / "cluster"):
        for count in range(len(parts), 0, -1):
            path = place.joinpath(*parts[:count])
            module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if module.is_file():
                text, rest = module.read_text("utf-8"), parts[count:]
                return all(re.search(rf"\b{each}\b", text) for each in rest)
    return False
