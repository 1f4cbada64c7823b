"""What the owner tells about itself in listings."""

from dataclasses import dataclass

from meshd_node.core.owner.executors import Executor
from meshd_node.core.owner.job import Job
from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import JobId, NodeId


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job's counts. `units` is all of them; `waiting` have no attempt under way; `copies` is attempts so far."""

    job: JobId
    name: str
    submitter: Submitter
    state: str
    units: int
    done: int
    failed: int
    cancelled: int
    waiting: int
    running: int
    copies: int
    created: float
    ended: float | None
    shares: dict[NodeId, int]  # by node: results of its that were accepted, or agreed with what was
    outvoted: dict[NodeId, int]  # by node: results of its that differed from what was accepted
    disagreed: int  # units whose copies differed


@dataclass(frozen=True, slots=True)
class ExecutorSummary:
    """A node's windows and what it holds of them."""

    node: NodeId
    operator: str
    trusted: bool
    accepts: bool
    window_units: int
    window_bytes: int
    held_units: int
    held_bytes: int
    answered: int
    doubt: str  # what it is believed to have said of itself that is not so, for people


def summary_of_job(job: Job) -> JobSummary:
    """Sum a job up."""
    return JobSummary(
        job=job.id,
        name=job.name,
        submitter=job.submitter,
        state=job.state,
        units=job.submitted,
        done=job.done,
        failed=job.failed,
        cancelled=job.cancelled,
        waiting=job.waiting(),
        running=job.running,
        copies=job.copies,
        created=job.created,
        ended=job.ended,
        shares=dict(job.shares),
        outvoted=dict(job.outvoted),
        disagreed=job.disagreed,
    )


def summary_of_executor(executor: Executor) -> ExecutorSummary:
    """Sum a node up."""
    return ExecutorSummary(
        node=executor.node,
        operator=executor.operator,
        trusted=executor.trusted,
        accepts=executor.accepts,
        window_units=executor.window_units,
        window_bytes=executor.window_bytes,
        held_units=executor.held_units,
        held_bytes=executor.held_bytes,
        answered=executor.answered,
        doubt="; ".join(filter(None, (executor.doubt.slow, executor.doubt.no_gpu))),
    )
