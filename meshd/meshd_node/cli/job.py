"""`meshd job ID`: one job, and why it stands where it stands."""

from typing import Any, Final

import click

from meshd_node.cli.daemon import ask
from meshd_node.cli.disagreements import lines_of
from meshd_node.cli.output import Output
from meshd_node.cli.text import ago, table_of
from meshd_protocol.messages.local import Question

# Units whose differing results are shown to people.
_SHOWN: Final = 8


@click.command("job")
@click.argument("job_id", metavar="ID")
@click.option("--unit", type=click.IntRange(min=0), help="Say why this unit waits, or why its result is believed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(job_id: str, unit: int | None, as_json: bool) -> int:
    """Show one job in full."""
    return job(Output(), job_id, unit, as_json=as_json)


def job(output: Output, job_id: str, unit: int | None, *, as_json: bool) -> int:
    """Ask the daemon and print."""
    question = Question.JOB if unit is None else Question.WHY
    found = table_of(ask(question, job_id, -1 if unit is None else unit))
    if as_json:
        output.json(found)
        return 0
    output.line(f"job       {found['id']}  {found['name']}")
    output.line(f"state     {found['state']}, begun {ago(found['created'])} ago, user {found['uid']}")
    output.line(
        f"units     {found['units']}: {found['done']} done, {found['failed']} failed, {found['cancelled']} cancelled, "
        f"{found['running']} running, {found['waiting']} waiting"
    )
    output.line(f"copies    {found['copies']}")
    for reason in found["why"]:
        output.line(f"why       {reason}")
    _print_disagreements(output, found)
    return 0


def _print_disagreements(output: Output, found: dict[str, Any]) -> None:
    """Which copies differed, the latest units only: the JSON has all that are kept."""
    latest = found["disagreements"][-_SHOWN:]
    if not latest:
        return
    output.line(f"differed  copies of {found['disagreed']} of {found['units']} units; the latest:")
    for told in latest:
        for line in lines_of(told):
            output.line(f"          {line}")
