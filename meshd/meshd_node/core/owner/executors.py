"""The nodes that run units for this owner: what they grant, what they hold, and which of them can run what."""

from meshd_node.core.owner.events import ExecutorView
from meshd_node.core.owner.unit import Grant, Voter
from meshd_protocol.ids import JobId, NodeId
from meshd_protocol.records import Needs, Offer, Phase

# A machine's speed where its offer names none: what CPython does on a core of 2020.
LOOPS_PER_S = 10_000_000
# Answers to `fitting` that are kept: jobs ask for few different things, but a user may try to ask for many.
NEEDS_KEPT = 256


class Executor:
    """One node in one session. `held` is all that it has not answered: job, index, lease."""

    __slots__ = (
        "accepts", "answered", "busy_since", "check_at", "held", "held_bytes", "held_units", "loops_per_s", "node",
        "offer", "operator", "rtt_s", "slots", "trusted", "voter", "window_bytes", "window_units",
    )  # fmt: skip

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.operator = ""
        self.trusted = False
        self.accepts = False
        self.offer: Offer | None = None
        self.voter: Voter = ""
        self.slots = 1
        self.loops_per_s = LOOPS_PER_S
        self.rtt_s = 0.0
        self.window_units = 0
        self.window_bytes = 0
        self.held: dict[JobId, dict[int, Grant]] = {}
        self.held_units = 0
        self.held_bytes = 0
        self.answered = 0
        self.busy_since = 0.0
        self.check_at: float | None = None

    def show(self, view: ExecutorView) -> None:
        """Take over what is known of the node."""
        self.operator = view.operator
        self.trusted = view.trusted
        self.accepts = view.accepts
        self.offer = view.offer
        self.voter = view.node if view.trusted else view.operator
        self.slots = max(view.offer.slots, 1)
        self.loops_per_s = view.offer.python_loops_per_s or LOOPS_PER_S
        self.rtt_s = view.rtt_s

    def is_open(self) -> bool:
        """Whether it would take one more small unit."""
        return (
            self.accepts
            and self.held_units < self.window_units
            and (self.held_bytes < self.window_bytes or self.held_units == 0)
        )

    def takes(self, size: int) -> bool:
        """Whether an open node's window in bytes has room for a unit; one that holds nothing takes any."""
        return self.held_units == 0 or self.held_bytes + size <= self.window_bytes

    def hold(self, job: JobId, indices: list[int], size: int, grant: Grant, now: float) -> None:
        """Count a lease."""
        if self.held_units == 0:
            self.busy_since = now
        self.held.setdefault(job, {}).update(dict.fromkeys(indices, grant))
        self.held_units += len(indices)
        self.held_bytes += size

    def drop(self, job: JobId, index: int, size: int) -> None:
        """Count one unit as not held any more."""
        del self.held[job][index]
        self.held_units -= 1
        self.held_bytes -= size
        self.clear(job)

    def clear(self, job: JobId) -> None:
        """Keep no table for a job that the node holds nothing of."""
        if not self.held.get(job, True):
            del self.held[job]


class Executors:
    """The table of them. `version` rises whenever other nodes than before may be fit for a job."""

    def __init__(self) -> None:
        self._all: dict[NodeId, Executor] = {}
        self._fitting: dict[Needs, list[Executor]] = {}
        self.open: dict[NodeId, Executor] = {}  # a dict, so that the order of iteration repeats with the seed
        self.version = 0

    def get(self, node: NodeId) -> Executor | None:
        """The node, if a session with it is known."""
        return self._all.get(node)

    def all(self) -> list[Executor]:
        """Every node with a session."""
        return list(self._all.values())

    def show(self, view: ExecutorView) -> None:
        """Learn of a node or of a change to it."""
        executor = self._executor(view.node)
        before = (executor.accepts, executor.trusted, executor.operator, executor.offer)
        executor.show(view)
        if before != (view.accepts, view.trusted, view.operator, view.offer):
            self._changed()
        self.reopen(executor)

    def grant(self, node: NodeId, units: int, payload_bytes: int) -> None:
        """Take over a node's windows; they may come before anything else is known of it."""
        executor = self._executor(node)
        if (executor.window_units > 0) != (units > 0):
            self._changed()
        executor.window_units, executor.window_bytes = units, payload_bytes
        self.reopen(executor)

    def lose(self, node: NodeId) -> Executor | None:
        """Forget a node; what it held is the caller's to settle."""
        executor = self._all.pop(node, None)
        if executor is not None:
            executor.accepts = False
            self.open.pop(node, None)
            self._changed()
        return executor

    def reopen(self, executor: Executor) -> None:
        """Note whether a node can be given work, after its windows or what it holds changed."""
        if executor.is_open():
            self.open[executor.node] = executor
        else:
            self.open.pop(executor.node, None)

    def fitting(self, needs: Needs) -> list[Executor]:
        """The nodes that could run units with these needs, busy or not."""
        fitting = self._fitting.get(needs)
        if fitting is None:
            if len(self._fitting) >= NEEDS_KEPT:
                self._fitting.clear()
            fitting = self._fitting[needs] = [each for each in self._all.values() if fits(each, needs)]
        return fitting

    def _executor(self, node: NodeId) -> Executor:
        return self._all.setdefault(node, Executor(node))

    def _changed(self) -> None:
        self.version += 1
        self._fitting.clear()


def fits(executor: Executor, needs: Needs) -> bool:
    """Whether a node accepts work and offers what a unit needs."""
    return executor.accepts and executor.offer is not None and not lacks(executor.offer, needs)


def lacks(offer: Offer, needs: Needs) -> str:
    """What an offer has too little of, for people; "" if nothing."""
    if offer.phase is not Phase.ALIVE:
        return "it drains"
    if offer.slots < 1:
        return "it lends no slots"
    if offer.cpu_milli < needs.cpu_milli:
        return f"needs {needs.cpu_milli / 1000:g} cpus, it has {offer.cpu_milli / 1000:g}"
    if offer.memory_bytes < needs.memory_bytes:
        return f"needs {needs.memory_bytes >> 20} MiB of memory, it has {offer.memory_bytes >> 20}"
    if len(offer.gpus) < needs.gpus:
        return f"needs {needs.gpus} GPUs, it has {len(offer.gpus)}"
    if needs.python and needs.python not in offer.pythons:
        return f"needs Python {needs.python}, it has {', '.join(offer.pythons) or 'none'}"
    return ""
