"""Writes `docs/modules.md`: a line for every module of the package, from its docstring.

python tools/module_list.py > docs/modules.md
"""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
HEAD = """# Modules

A line for every module, in the words with which it introduces itself. Made from the source by
`python tools/module_list.py > docs/modules.md`; a test holds it to that.
"""


def first_paragraph(path: Path) -> str:
    """What a module says of itself first, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def module_list() -> str:
    """The page."""
    lines = [HEAD]
    for package in sorted({path.parent for path in SOURCE.rglob("*.py")}):
        dotted = ".".join(package.relative_to(SOURCE).parts)
        lines.append(f"\n## `{dotted}`\n\n{first_paragraph(package / '__init__.py')}\n")
        modules = sorted(path for path in package.glob("*.py") if path.name != "__init__.py")
        if modules:
            rows = (f"| `{path.stem}` | {first_paragraph(path).replace('|', chr(92) + '|')} |" for path in modules)
            lines.append("\n| Module | What it is |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(lines)


if __name__ == "__main__":
    print(module_list(), end="")
