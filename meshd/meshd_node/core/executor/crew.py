"""The workers: whom each serves, what it was given, and who must make room for another submitter."""

from collections.abc import Callable, Collection
from itertools import repeat

from meshd_node.core.executor.backlog import Share, key_of
from meshd_node.core.executor.events import LeasedWork
from meshd_node.core.submitter import Submitter

Given = tuple[Share, LeasedWork]


class Worker:
    """One worker process as the executor knows it. It serves one submitter all its life."""

    __slots__ = (
        "answered", "deadline", "given", "hand_backs", "idle_since", "latest", "latest_units", "long",
        "next_serial", "number", "ready", "running_since", "serves_since", "stalled", "submitter",
    )  # fmt: skip

    def __init__(self, number: int, submitter: Submitter, now: float) -> None:
        """Hire; it is not ready yet."""
        self.number = number
        self.submitter = submitter
        self.ready = False
        self.answered = False
        # By serial and in order: it runs the first.
        self.given: dict[int, Given] = {}
        self.next_serial = 1
        self.latest = 0  # first serial of the batch that it was given last
        self.latest_units = 0  # how many that had
        self.long = False  # what it was given last is expected to be long
        self.hand_backs = 0  # since it answered last
        self.stalled = False  # it handed units back: what it runs is longer than expected
        self.serves_since = now
        self.idle_since = now
        self.running_since = now
        self.deadline = float("inf")

    def note_ready(self, now: float) -> None:
        """It has started. Its turn begins only now: where a start takes longer than a turn, nobody would ever run."""
        self.ready = True
        self.serves_since = now
        self.idle_since = now

    def has_room(self, next_is_long: bool) -> bool:
        """Whether it should be given a batch: always when idle, and when it has begun its last one of short units.

        Behind a single unit it is given nothing: only in batches does a worker watch itself, to hand back what waits.
        """
        if not self.given:
            return self.ready
        if next_is_long or self.long or self.stalled or self.latest_units == 1:
            return False
        return next(iter(self.given)) >= self.latest

    def give(self, share: Share, works: list[LeasedWork], long: bool, now: float) -> list[int]:
        """Note a batch as given; return its serials."""
        first = self.next_serial
        self.next_serial += len(works)
        serials = list(range(first, self.next_serial))
        if not self.given:
            self.running_since = now
        self.given.update(zip(serials, zip(repeat(share), works, strict=False), strict=True))
        self.latest = first
        self.latest_units = len(works)
        self.long = long
        return serials

    def note_answer(self, now: float) -> None:
        """It ended a unit: the next one has begun at about this time, or it is idle."""
        self.answered = True
        self.hand_backs = 0
        self.stalled = False
        self.running_since = now
        self.idle_since = now

    def note_hand_back(self) -> int:
        """It gave units back; return how often it did since it answered last."""
        self.hand_backs += 1
        self.stalled = bool(self.given)
        return self.hand_backs

    def set_deadline(self, grace_s: float) -> None:
        """Work out until when it may run what it runs; `grace_s` if nobody wants that any more."""
        self.deadline = float("inf")
        for share, work in self.given.values():
            if key_of(work) not in share.held:
                self.deadline = self.running_since + grace_s
            elif share.timeout_s:
                self.deadline = self.running_since + share.timeout_s
            return


class Crew:
    """All workers, never more than slots."""

    def __init__(self, slots: int, turn_s: float) -> None:
        """Start with nobody."""
        self._slots = slots
        self._turn_s = turn_s
        self._hired = 0
        self.workers: dict[int, Worker] = {}
        self._of: dict[Submitter, dict[int, Worker]] = {}
        # Its idle workers are kept for ever: most nodes have one submitter for a long time.
        self.last_submitter: Submitter | None = None

    @property
    def free(self) -> int:
        """Slots without a worker."""
        return self._slots - len(self.workers)

    def of(self, submitter: Submitter) -> Collection[Worker]:
        """A submitter's workers."""
        return self._of.get(submitter, {}).values()

    def starting(self, submitter: Submitter) -> int:
        """How many of a submitter's workers are not ready yet."""
        return sum(1 for worker in self.of(submitter) if not worker.ready)

    def hire(self, submitter: Submitter, now: float) -> Worker:
        """Fill a free slot."""
        assert self.free > 0
        self._hired += 1
        worker = Worker(self._hired, submitter, now)
        self.workers[worker.number] = worker
        self._of.setdefault(submitter, {})[worker.number] = worker
        self.last_submitter = submitter
        return worker

    def dismiss(self, worker: Worker) -> list[Given]:
        """Forget a worker; return what it had not answered."""
        del self.workers[worker.number]
        mates = self._of[worker.submitter]
        del mates[worker.number]
        if not mates:
            del self._of[worker.submitter]
        given = list(worker.given.values())
        worker.given.clear()
        return given

    def claimant(
        self, worker: Worker, submitters: Collection[Submitter], waiting: Callable[[Submitter], int], now: float
    ) -> Submitter | None:
        """For whom this worker should make room as soon as it is idle.

        Slots are shared evenly among the nodes that work waits or runs for, and a node's among its users, so that
        nobody gains by inventing users. Where that leaves less than one slot each, they take turns.
        """
        if self.free or not any(submitter != worker.submitter for submitter in submitters):
            return None
        shares = _Shares(self, submitters, self._slots)
        mine = worker.submitter
        turn_is_over = worker.serves_since + self._turn_s <= now
        best: tuple[int, int] | None = None
        chosen = None
        for other in submitters:
            if other == mine or self.starting(other) >= waiting(other):
                continue
            if not (shares.owes(mine, other) or (turn_is_over and shares.may_take_turn(mine, other))):
                continue
            has = (shares.node_has(other), len(self.of(other)))
            if best is None or has < best:
                best, chosen = has, other
        return chosen


class _Shares:
    """Who has how many slots, and how many are due."""

    def __init__(self, crew: Crew, waiting: Collection[Submitter], slots: int) -> None:
        self._crew = crew
        busy = {worker.submitter for worker in crew.workers.values() if worker.given or not worker.ready}
        self._users: dict[bytes, int] = {}
        for submitter in busy.union(waiting):
            self._users[submitter.node] = self._users.get(submitter.node, 0) + 1
        self._node_due = max(1, slots // len(self._users))

    def node_has(self, submitter: Submitter) -> int:
        return sum(1 for worker in self._crew.workers.values() if worker.submitter.node == submitter.node)

    def owes(self, mine: Submitter, other: Submitter) -> bool:
        """Whether `mine` has more than its due and `other` less."""
        if mine.node != other.node:
            return self.node_has(mine) > self._node_due > self.node_has(other)
        user_due = max(1, self._node_due // self._users[mine.node])
        return len(self._crew.of(mine)) > user_due > len(self._crew.of(other))

    def may_take_turn(self, mine: Submitter, other: Submitter) -> bool:
        """Whether `other` has nothing at all: within its node, or its node among nodes."""
        if mine.node == other.node:
            return not self._crew.of(other)
        return not self.node_has(other)
