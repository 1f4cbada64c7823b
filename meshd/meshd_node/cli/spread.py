"""Options that take many values, as shells write them: `--each *.wav` is one word of many."""

import os
from typing import Final

import click

from meshd_node.cli.text import printable

_END: Final = "--"


class SpreadCommand(click.Command):
    """A command whose repeatable options take all words up to the next option or `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say the option again before each of its values, which is what click understands."""
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        every = {name for each in options for name in each.opts}
        lists = {name for each in options if each.multiple for name in each.opts}
        try:
            return super().parse_args(ctx, spread(args, lists, every))
        except click.UsageError as error:
            error.ctx = ctx  # so that the hint names this verb's help
            raise


def spread(args: list[str], lists: set[str], options: set[str]) -> list[str]:
    """`--each a b` becomes `--each a --each b`, up to `--`, after which nothing is ours.

    Raise `UsageError` for one without values: a shell's pattern may mean no file. And for a file among them whose name
    is taken for an option: a shell's pattern may mean such a one.
    """
    end = args.index(_END) if _END in args else len(args)
    said: list[str] = []
    option, values = "", 0
    for word in [*args[:end], _END]:
        if word.startswith("-") and word != "-":
            if option and word.partition("=")[0] not in {*options, _END} and os.path.lexists(word):
                pattern = printable("*" + os.path.splitext(word)[1])
                raise click.UsageError(f"{word!r} looks like an option: write ./{pattern} for {pattern}")
            if option and not values:
                raise click.UsageError(f"{option} names no file")
            option, values = (word, 0) if word in lists else ("", 0)
            said += [] if option or word == _END else [word]
        elif option:
            said += [option, word]
            values += 1
        else:
            said.append(word)
    return said + args[end:]
