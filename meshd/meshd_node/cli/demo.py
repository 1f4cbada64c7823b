"""`meshd demo`: see a mesh work, and catch a liar, on this machine alone."""

import sys
from typing import TextIO

import click

from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.demo.run import run_demo
from meshd_node.demo.screen import Screen, Silent


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
def command(as_json: bool) -> int:
    """Start four daemons here, one of which lies; have them do a real job; show who caught the liar.

    Needs no root and no network, takes some seconds, and leaves nothing behind.
    """
    return demo(sys.stdout, as_json=as_json)


def demo(out: TextIO, *, as_json: bool, files_max: int | None = None) -> int:
    """Run it and show it; fail if one wrong result was accepted. `files_max` is for tests in a hurry."""
    if as_json:
        findings = run_demo(Silent(), files_max=files_max)
        Output(out).json(findings.as_json())
    else:
        screen = Screen(out)
        screen.title()
        findings = run_demo(screen, files_max=files_max)
        screen.findings(findings)
    return Exit.OK if findings.agrees else Exit.FAILED
