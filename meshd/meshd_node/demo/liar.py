"""A worker that lies about counts. Only the demo's liar node names this module: no setting of the daemon leads here.

Everything else about it is a worker's: it is the owner's comparison that catches it, not a clumsy forgery.
"""

from functools import partial
from typing import Final

from meshd_node.exec import worker
from meshd_protocol import values
from meshd_protocol.ids import result_digest
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.messages.worker import WorkUnit

# Who lies always is soon known; who lies now and then is believed in between.
_ONE_IN: Final = 3


class Liar(worker.Worker):
    """Runs units as a worker does, and tells something else about some of them."""

    def _outcome(self, unit: WorkUnit) -> tuple[AttemptStatus, bytes, str]:
        status, value, detail = super()._outcome(unit)
        return status, altered(value) if status is AttemptStatus.RETURNED else value, detail


def altered(value: bytes) -> bytes:
    """For one in three results that are counts, chosen by their digest: a tenth more of what was counted most."""
    counts = values.decode(value)
    if not isinstance(counts, dict) or not counts or not all(type(count) is int for count in counts.values()):
        return value
    if result_digest(AttemptStatus.RETURNED, value)[0] % _ONE_IN:
        return value
    most = max(counts, key=lambda name: (counts[name], str(name)))
    counts[most] += max(1, counts[most] // 10)
    return values.encode(counts)


main = partial(worker.main, kind=Liar)
