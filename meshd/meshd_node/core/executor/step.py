"""What one event leads to: its time, the effects so far, and the ends to report, gathered by share."""

from meshd_node.core.executor.backlog import Share
from meshd_node.core.executor.effects import Effect, ReportEnds, ReportResults
from meshd_protocol.limits import BATCH_BYTES, BATCH_UNITS_MAX
from meshd_protocol.messages.attempts import AttemptResult


class Step:
    """One call of `Executor.handle`."""

    __slots__ = ("effects", "ends", "now", "results")

    def __init__(self, now: float) -> None:
        """Begin with nothing."""
        self.now = now
        self.effects: list[Effect] = []
        self.results: dict[Share, list[AttemptResult]] = {}
        self.ends: dict[Share, list[AttemptResult]] = {}

    def report(self) -> list[Effect]:
        """All effects: workers get their next units before owners get their answers, for those are signed first."""
        effects = self.effects
        for share, results in self.results.items():
            for batch in _batches(results):
                effects.append(ReportResults(share.account.node, share.job, share.epoch, batch))
        for share, ends in self.ends.items():
            for batch in _batches(ends):
                effects.append(ReportEnds(share.account.node, share.job, share.epoch, batch))
        return effects


def _batches(results: list[AttemptResult]) -> list[list[AttemptResult]]:
    """Cut to what one message may hold; an end larger than that is alone."""
    sizes = [len(result.value) + len(result.detail) for result in results]
    if len(results) <= BATCH_UNITS_MAX and sum(sizes) <= BATCH_BYTES:
        return [results] if results else []
    batches: list[list[AttemptResult]] = []
    room = -1
    for result, size in zip(results, sizes, strict=True):
        if size > room or len(batches[-1]) == BATCH_UNITS_MAX:
            batches.append([])
            room = BATCH_BYTES
        batches[-1].append(result)
        room -= size
    return batches
