"""The script `meshd`: finds the verb, turns every error into one line and an exit code."""

import gc
import importlib
import os
import sys
from typing import Final

import click

from meshd_node import __version__
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import ReaderGone
from meshd_node.errors import MeshdError

# In the order in which one needs them, with what `meshd --help` says of each: asking the modules would load the daemon.
_VERBS: Final = {
    "demo": "Show what meshd does: four daemons on this machine, one of which lies.",
    "init": "Found a mesh, with this machine as its first node and issuer.",
    "invite": "Print a token that lets another machine in.",
    "join": "Join a mesh with a token made by `meshd invite`.",
    "up": "Run this machine's node in the foreground.",
    "status": "Show this node: its mesh, its state, its certificate.",
    "peers": "List the members of the mesh; --watch shows what becomes of them.",
    "lookup": "Find a node, a job or a blob, wherever in the mesh it is.",
    "netcheck": "Say what of this node others can reach, how clocks differ, and what to mend.",
    "doctor": "Say what keeps work apart from this machine, what is missing, and how to get it.",
    "charter": "Say what this machine lends: to whom, when, how much, and what of it holds now.",
    "reload": "Have this node read its charter again, now.",
    "install": "Have systemd run this machine's node.",
    "uninstall": "Take this machine's node out of systemd's hands.",
    "drain": "Have this node finish what runs and take nothing new.",
    "revoke": "Take a node's place in the mesh away, for good.",
    "run": "Run a command on the mesh, or one for each of many files.",
    "jobs": "List the jobs submitted on this node.",
    "job": "Show one job in full, and why it stands where it stands.",
    "cancel": "Cancel every unit of a job that has not ended.",
}


class _Verbs(click.Group):
    """Loads a verb's module when the verb is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415  # 10 ms of a daemon's start, for those who mistype

            near = difflib.get_close_matches(args[0], _VERBS, 1)
            raise click.UsageError(
                f"there is no verb {args[0]!r}" + (f", did you mean {near[0]!r}?" if near else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(f"meshd_node.cli.{cmd_name}").command
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="meshd")
def _meshd() -> None:
    """Pool the machines you own, run Python on them, and trust the answer.

    Begin with `meshd demo`. A mesh of your own: `meshd init` and `meshd up` on the first machine, `meshd invite` there,
    and `meshd join TOKEN` and `meshd up` on every other one.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one verb and leave with its exit code."""
    # Importing makes objects by the ten thousand and no garbage: looking for some took a sixth of a daemon's start.
    gc.disable()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one verb; return its exit code. Errors are one line on standard error, with what to do next."""
    try:
        code = _meshd.main(arguments, prog_name="meshd", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return Exit.USAGE
    except click.ClickException as error:
        _complain(error.format_message(), _help_for(error))
        return Exit.USAGE
    except click.Abort:
        return Exit.INTERRUPTED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except MeshdError as error:
        _complain(str(error), error.hint)
        return error.exit_code
    except ReaderGone:
        # Python would complain about the pipe once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return Exit.OK if code is None else int(code)


def _help_for(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"see {context.command_path if context else 'meshd'} --help"


def _complain(text: str, hint: str) -> None:
    click.echo(f"meshd: {text}" + (f" ({hint})" if hint else ""), err=True)
