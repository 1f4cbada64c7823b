"""The nodes that run units for this owner: what they grant, what they hold, and which of them can run what."""

from meshd_node.core.owner.doubt import Doubt
from meshd_node.core.owner.events import ExecutorView
from meshd_node.core.owner.terms import Terms, lacks
from meshd_node.core.owner.unit import Grant, Voter
from meshd_protocol.ids import JobId, NodeId
from meshd_protocol.records import Offer

# A machine's speed where its offer names none: what CPython does on a core of 2020.
LOOPS_PER_S = 10_000_000
# Answers to `fitting` that are kept: jobs ask for few different things, but a user may try to ask for many.
NEEDS_KEPT = 256
# A session that ends and begins again clears nobody.
DOUBTS_KEPT = 1_024


class Executor:
    """One node in one session. `held` is all that it has not answered: job, index, lease."""

    __slots__ = (
        "accepts", "answered", "busy_since", "check_at", "doubt", "held", "held_bytes", "held_units", "loops_per_s",
        "node", "offer", "operator", "rtt_s", "slots", "trusted", "voter", "window_bytes", "window_units",
    )  # fmt: skip

    def __init__(self, node: NodeId, doubt: Doubt) -> None:
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
        self.doubt = doubt

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
        self._fitting: dict[Terms, list[Executor]] = {}
        self._doubts: dict[NodeId, Doubt] = {}  # of those without a session
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
            if executor.doubt:
                self._doubts[node] = executor.doubt
                if len(self._doubts) > DOUBTS_KEPT:
                    del self._doubts[next(iter(self._doubts))]
            self._changed()
        return executor

    def reopen(self, executor: Executor) -> None:
        """Note whether a node can be given work, after its windows or what it holds changed."""
        if executor.is_open():
            self.open[executor.node] = executor
        else:
            self.open.pop(executor.node, None)

    def doubted(self, node: NodeId, no_gpu: str) -> None:
        """Take over what a look at a node's GPUs showed: why it gets none of the work that needs one, or ""."""
        executor = self._all.get(node)
        if executor is not None and executor.doubt.no_gpu != no_gpu:
            executor.doubt.no_gpu = no_gpu
            self._changed()

    def fitting(self, terms: Terms) -> list[Executor]:
        """The nodes that could run units on these terms, busy or not."""
        fitting = self._fitting.get(terms)
        if fitting is None:
            if len(self._fitting) >= NEEDS_KEPT:
                self._fitting.clear()
            fitting = self._fitting[terms] = [each for each in self._all.values() if fits(each, terms)]
        return fitting

    def only(self, node: NodeId, terms: Terms) -> list[Executor]:
        """One node, if its offer does: what is doubted of it is what a job about it may be for."""
        executor = self._all.get(node)
        if executor is None or not executor.accepts or executor.offer is None:
            return []
        return [] if lacks(executor.offer, terms, trusted=executor.trusted) else [executor]

    def _executor(self, node: NodeId) -> Executor:
        executor = self._all.get(node)
        if executor is None:
            executor = self._all[node] = Executor(node, self._doubts.pop(node, Doubt()))
        return executor

    def _changed(self) -> None:
        self.version += 1
        self._fitting.clear()


def fits(executor: Executor, terms: Terms) -> bool:
    """Whether a node accepts work and offers what a job asks for."""
    return executor.accepts and executor.offer is not None and not why_not(executor, terms)


def why_not(executor: Executor, terms: Terms) -> str:
    """Why a node runs nothing of a job, for people; "" if it does."""
    if not executor.accepts or executor.offer is None:
        return "it takes no work"
    lack = lacks(executor.offer, terms, trusted=executor.trusted)
    if not lack and terms.needs.gpus and executor.doubt.no_gpu:
        return executor.doubt.no_gpu
    return lack
