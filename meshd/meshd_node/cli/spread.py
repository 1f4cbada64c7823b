"""Options that take many values, as shells write them: `--each *.wav` is one word of many."""

from typing import Final

import click

_END: Final = "--"


class SpreadCommand(click.Command):
    """A command whose repeatable options take all words up to the next option or `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say the option again before each of its values, which is what click understands."""
        lists = {name for each in self.params if isinstance(each, click.Option) and each.multiple for name in each.opts}
        return super().parse_args(ctx, spread(args, lists))


def spread(args: list[str], lists: set[str]) -> list[str]:
    """`--each a b` becomes `--each a --each b`, up to `--`, after which nothing is ours.

    Raise `UsageError` for one without values: a shell's pattern may mean no file.
    """
    end = args.index(_END) if _END in args else len(args)
    said: list[str] = []
    option, values = "", 0
    for word in [*args[:end], _END]:
        if word.startswith("-") and word != "-":
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
