"""`meshd cancel ID`: end a job."""

import click

from meshd_node.cli.daemon import cancel_job
from meshd_node.cli.output import Output


@click.command("cancel")
@click.argument("job_id", metavar="ID")
def command(job_id: str) -> int:
    """Cancel every unit of a job that has not ended. Yours, or anybody's if you are root."""
    return cancel(Output(), job_id)


def cancel(output: Output, job_id: str) -> int:
    """Tell the daemon, and say that it was told."""
    cancel_job(job_id)
    output.note(f"cancelled {job_id}")
    return 0
