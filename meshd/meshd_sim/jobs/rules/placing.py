"""To whom an owner may give what: invariants 6 and 15 as far as they show in a lease."""

from collections.abc import Sequence

from meshd_node.core.owner import effects
from meshd_protocol.ids import NodeId
from meshd_sim.jobs.books import JobBook, Out, OwnerBook, UnitBook
from meshd_sim.jobs.rules.quorums import copies_of
from meshd_sim.jobs.rules.require import require


def check_lease(effect: effects.Effect, book: OwnerBook, now: float) -> None:
    """A lease goes to a node that may have it, and is needed."""
    if not isinstance(effect, effects.Lease):
        return
    node, job = effect.node, book.jobs[effect.job]
    view = book.views.get(node)
    require(view is not None and view.accepts, 6, "a lease to a node that does not accept work, or has no session")
    assert view is not None
    require(node not in book.revoked, 6, "a lease to a node that is known to be revoked")
    require(not job.paused, 15, "a lease of a job whose user does not read")
    voter = view.node if view.trusted else view.operator
    for index in effect.indices:
        _needs_one_more(job, job.units[index], node, voter)
    _fits_the_window(book, node, list(map(len, effect.payloads)))


def _needs_one_more(job: JobBook, unit: UnitBook, node: NodeId, voter: str | NodeId) -> None:
    """Nobody is asked twice, and nobody is asked without need: no policy pays for more copies than differ or fail."""
    where = f"unit {unit.task.index} of job {job.plan.number}"
    require(unit.outcome is None, 15, f"{where} is run after it ended")
    asked = {(out.node, out.voter) for out in unit.out.values()} | {(vote.node, vote.voter) for vote in unit.votes}
    require(node not in {each for each, _ in asked}, 15, f"{where} goes to a node that has it or has answered")
    require(voter not in {each for _, each in asked}, 15, f"{where} goes to a voter that has it or has answered")
    needed = copies_of(job.plan.policy) + len(unit.votes) - unit.agreed()
    spent = len(unit.votes) + len(unit.out)
    require(spent < needed, 15, f"{where} runs {spent + 1} times, {needed} copies were needed")


def check_recalls(effects_of_step: list[effects.Effect], book: OwnerBook) -> None:
    """After a step nobody runs what ended in it: whoever had a copy was told."""
    for effect in effects_of_step:
        if isinstance(effect, effects.Deliver):
            job = book.jobs[effect.job]
            for outcome in effect.outcomes:
                left = len(job.units[outcome.index].out)
                where = f"unit {outcome.index} of job {job.plan.number}"
                require(not left, 15, f"{where} ended, and {left} nodes that run it were not told")


def _fits_the_window(book: OwnerBook, node: NodeId, sizes: Sequence[int]) -> None:
    window, held = book.windows.get(node), _held(book, node)
    require(window is not None, 13, "a lease to a node that granted nothing")
    assert window is not None
    require(len(held) + len(sizes) <= window.units, 13, "more units at a node than its window allows")
    payload_bytes = sum(out.size for out in held) + sum(sizes)
    alone = len(held) + len(sizes) == 1
    require(alone or payload_bytes <= window.payload_bytes, 13, "more bytes at a node than its window allows")


def _held(book: OwnerBook, node: NodeId) -> list[Out]:
    return list(book.held.get(node, {}).values())
