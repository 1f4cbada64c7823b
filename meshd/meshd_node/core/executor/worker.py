"""One worker: whom it serves, what it has of the node, what it was given."""

from itertools import repeat

from meshd_node.core.executor.backlog import Share, key_of
from meshd_node.core.executor.events import LeasedWork
from meshd_node.core.executor.room import Holding
from meshd_node.core.tenant import Tenant

Given = tuple[Share, LeasedWork]


class Worker:
    """One worker process as the executor knows it. It serves one tenant all its life."""

    __slots__ = (
        "answered", "deadline", "given", "hand_backs", "holding", "idle_since", "latest", "latest_units", "leaves",
        "long", "next_serial", "number", "ready", "running_since", "serves_since", "stalled", "tenant",
    )  # fmt: skip

    def __init__(self, number: int, tenant: Tenant, holding: Holding, now: float) -> None:
        """Hire; it is not ready yet."""
        self.number = number
        self.tenant = tenant
        self.holding = holding
        self.leaves = False  # it is given nothing more: what it has is not lent any more
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
            else:
                if share.timeout_s:
                    self.deadline = self.running_since + share.timeout_s
                if bound := share.barred:
                    self.deadline = min(self.deadline, bound.until)
            return
