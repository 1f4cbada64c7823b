"""Leases that arrived before a function that they call: they wait here, within the bounds of an owner's queue."""

from collections import defaultdict

from meshd_node.core.executor.config import ExecutorConfig
from meshd_protocol.errors import NotAllowed
from meshd_protocol.ids import JobId
from meshd_protocol.messages.peer import LeaseGrant


class Parking:
    """One owner's waiting leases, bounded as its queue is: an owner that keeps its credit is far below.

    A lease that lists more functions than it has units counts as so many units: 16,384 places of 200 bytes are 3 MiB
    beside the payloads.
    """

    def __init__(self, config: ExecutorConfig) -> None:
        self._config = config
        self._leases: defaultdict[JobId, list[LeaseGrant]] = defaultdict(list)
        self._units = 0
        self._payload_bytes = 0

    def park(self, lease: LeaseGrant) -> None:
        """Let it wait; raise `NotAllowed` beyond the bounds."""
        units = self._units + _units_of(lease)
        payload_bytes = self._payload_bytes + _bytes_of(lease)
        if units > self._config.queue_units_max or payload_bytes > self._config.queue_bytes_max:
            raise NotAllowed(
                f"{units} units with {payload_bytes} bytes would wait for their functions: keep to the credit"
            )
        self._units, self._payload_bytes = units, payload_bytes
        self._leases[lease.job].append(lease)

    def take(self, job: JobId) -> list[LeaseGrant]:
        """All that waits of this job; it does not wait any more."""
        leases = self._leases.pop(job, [])
        self._units -= sum(map(_units_of, leases))
        self._payload_bytes -= sum(map(_bytes_of, leases))
        return leases


def _units_of(lease: LeaseGrant) -> int:
    return max(len(lease.units), len(lease.functions))


def _bytes_of(lease: LeaseGrant) -> int:
    return sum(len(unit.payload) for unit in lease.units)
