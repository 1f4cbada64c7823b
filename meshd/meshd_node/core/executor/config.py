"""How an executor paces its work: windows to owners, batches to workers, patience with both."""

from dataclasses import dataclass

from meshd_protocol.limits import BATCH_UNITS_MAX, KIB, UNIT_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorConfig:
    """The defaults hold for units from 1 µs to hours, and for 1 to some 100 slots."""

    # What an owner may have here unanswered: expected work for each slot, so that a window of short units is wide
    # and one of long units narrow (256 units of 50 ms on one node, while others idle, doubled a job's time).
    window_ms: int = 40
    window_units_max: int = 4096
    # The largest unit must always fit.
    window_bytes: int = UNIT_BYTES_MAX
    # Above these an owner ignores its window: what it sends more is refused.
    queue_units_max: int = 4 * 4096
    queue_bytes_max: int = 4 * UNIT_BYTES_MAX
    # An owner's wide window is forgotten when it was idle for so long: its next job may be of another sort.
    window_idle_ms: int = 1_000
    # What a worker is given at a time. Two batches are under way: it never waits for us, and a killed one costs little.
    batch_us: int = 3_000
    batch_bytes: int = 512 * KIB
    # Units expected to take longer travel one by one: 0.15 ms of waiting for the next is nothing to them.
    long_us: int = 5_000
    # Workers kept for tenants that are not the last one.
    worker_idle_ms: int = 30_000
    # When there is no room for all, a worker serves at least so long before it makes room for another tenant's.
    turn_ms: int = 200
    # For so long room is kept at first for a worker that needs more than becomes free at once.
    hold_ms: int = 1_000
    # A recalled unit that has run for less is let finish: a new worker costs more than the rest of a short unit.
    recall_grace_ms: int = 100
    # A worker hands units back that wait behind a long one. One that does only that burns our time for nothing.
    hand_backs_max: int = 16
    # Deaths in a row without one answered unit, after which a tenant's units are refused.
    start_failures_max: int = 3

    def __post_init__(self) -> None:
        """Refuse what could stop the executor."""
        if self.window_bytes < UNIT_BYTES_MAX or self.queue_bytes_max < self.window_bytes:
            raise ValueError("executor.window_bytes must hold the largest unit, and queue_bytes_max the window")
        if not BATCH_UNITS_MAX <= self.window_units_max <= self.queue_units_max:
            raise ValueError("executor.window_units_max must be between a batch and queue_units_max")
        if min(self.window_ms, self.batch_us, self.batch_bytes, self.start_failures_max, self.hold_ms) < 1:
            raise ValueError(
                "executor.window_ms, batch_us, batch_bytes, start_failures_max and hold_ms must be at least 1"
            )
