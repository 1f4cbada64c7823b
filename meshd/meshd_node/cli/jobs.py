"""`meshd jobs`: the jobs that this node owns."""

import click

from meshd_node.cli.daemon import ask
from meshd_node.cli.output import Output
from meshd_node.cli.text import ago, rows_of
from meshd_protocol.messages.local import Question


@click.command("jobs")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """List the jobs submitted on this node, the newest first."""
    return jobs(Output(), as_json=as_json)


def jobs(output: Output, *, as_json: bool) -> int:
    """Ask the daemon and print."""
    found = rows_of(ask(Question.JOBS))
    found.sort(key=lambda job: -job["created"])
    if as_json:
        output.json(found)
        return 0
    columns = ("ID", "NAME", "STATE", "UNITS", "DONE", "FAILED", "CANCELLED", "RUNNING", "WAITING", "STARTED")
    counts = ("units", "done", "failed", "cancelled", "running", "waiting")
    rows = [
        (job["id"], job["name"] or "-", job["state"], *(str(job[count]) for count in counts), ago(job["created"]))
        for job in found
    ]
    output.table(columns, rows)
    return 0
