"""What `--help` shows: plain text in which no name of an option is cut, however narrow the terminal.

typer's own tables shorten names (`--target-passwor…` at 80 columns), which nobody can type then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from typer import Typer
from typer.core import TyperCommand, TyperGroup

from imapipe.cli.grouped import grouped
from imapipe.cli.options import ACCOUNT, JOB, LIMITS, OUTPUT

_ARGUMENTS: Final = "Arguments"
_OTHERS: Final = "Options"
_ORDER: Final = (_ARGUMENTS, JOB, ACCOUNT, LIMITS, OUTPUT, _OTHERS)
# What a value is, as versions of typer write it, and as a person says it.
_WORDS: Final = (
    (re.compile(r"<(?:int|float)(?: range)?>|\b(?:INTEGER|FLOAT)(?: RANGE)?\b"), "NUMBER"),
    (re.compile(r"<(?:list\[)?str\]?>"), "TEXT"),
    (re.compile(r"<path>"), "PATH"),
)
# What a value is behind the name of an argument. It is looked for from the first space, so that many take no longer.
_TYPE: Final = re.compile(r"(?<!\s)\s*<[^<>|]*>")


class HelpCommand(TyperCommand):
    """A command whose options are shown in their groups (`rich_help_panel`)."""

    # Newer typers bring click's classes themselves, nowhere public.
    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """The arguments as the documentation writes them: some versions put what is required into braces."""
        return [piece[1:-1] if piece.startswith("{") else piece for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write arguments and options."""
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in _ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                name, text = record
                # An argument has a name that says what it is.
                name = _TYPE.sub("", name) if is_argument else _in_words(name)
                other = _ARGUMENTS if is_argument else _OTHERS
                groups[getattr(parameter, "rich_help_panel", None) or other].append((name, text))
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def _in_words(name: str) -> str:
    for kind, word in _WORDS:
        name = kind.sub(word, name)
    return name


class HelpGroup(TyperGroup):
    """Commands that are told in whole sentences."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write what each command does."""
        with formatter.section("Commands"):
            commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
            formatter.write_dl([(name, each.help or "") for name, each in commands if each is not None])


class Commands(Typer):
    """Commands that show this help; its arguments are those of `typer.Typer`."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(no_args_is_help=True, rich_markup_mode=None, cls=HelpGroup, **settings)

    def named(self, name: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
        """Make a command of a function, whose parameters may be groups of options (`cli.grouped`)."""

        def make(function: Callable[..., int]) -> Callable[..., int]:
            return self.command(name, cls=HelpCommand)(grouped(function))

        return make
