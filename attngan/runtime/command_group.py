"""What all commands of a command line have in common: arguments that are text which can be written, in quotes."""

import shlex

import typer
from typer.core import TyperGroup

from attngan.errors import InputError, shown
from attngan.runtime import exit_status


class Commands(TyperGroup):
    """Looks at every argument before any command does; `cls` of the apps of `attngan` and of `pipeline.py`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Refuse an argument that no file, page or picture could hold."""
        with exit_status.reported():
            for argument in args:
                check_text(argument)
        return super().parse_args(ctx, args)


def check_quoted(context: typer.Context, *before: str | None) -> None:
    """Refuse what a shell has made of a sentence without quotes: arguments beyond those that a command has.

    Args:
        context: of a command that takes more arguments than it has.
        before: those that it has, the last one the sentence.
    """
    if context.args:
        *places, first = map(str, before)
        sentence = " ".join([first, *context.args])
        quoted = shlex.quote(sentence) if set(sentence) & set('"$`!\\') else f'"{sentence}"'
        typed = " ".join([str(context.info_name), *map(shlex.quote, places), quoted])
        found = f"found {len(context.args) + 1} arguments"
        raise InputError(f"expected one sentence, {found}; put the sentence in quotes: attngan {typed}")


def check_text(argument: str) -> None:
    """Refuse bytes that are no UTF-8, which Python hands on as halves of surrogate pairs, and NUL."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise InputError(f"{shown(argument)}: expected an argument in UTF-8, found other bytes in it.") from None
    if "\0" in argument:
        raise InputError(f"{shown(argument)}: expected an argument of text, found NUL in it.")
