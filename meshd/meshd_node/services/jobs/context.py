"""What the shell keeps of a job beside the machine's tables: the signed bytes, the functions, who listens."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Tenant
from meshd_protocol.ids import Digest, JobId
from meshd_protocol.messages.local import Outcome
from meshd_protocol.records import Tranche
from meshd_protocol.signing import Signed


class Listener(Protocol):
    """Whoever waits for a job's outcomes: a program on the local socket."""

    def deliver(self, job: JobId, outcomes: list[Outcome]) -> None:
        """These units ended."""
        ...

    def finished(self, job: JobId, state: str, reason: str) -> None:
        """Nothing more will come."""
        ...


class TrancheShelf:
    """The tranches of a job, each until its last unit has ended. `sign` signs one; it is called once for each.

    Signing takes longer than all else that a single unit waits for on its way to a worker of this node, and nobody but
    other nodes asks for it. So a tranche is signed when it is first sent away, and never if all its units end here.
    """

    def __init__(self, sign: Callable[[Tranche], Signed]) -> None:
        self._sign = sign
        self._unsigned: dict[int, Callable[[], Tranche]] = {}
        self._signed: dict[int, Signed] = {}
        self._firsts: list[int] = []
        self._open: list[int] = []
        self._bytes: list[int] = []
        self._units = 0

    def put(self, sequence: int, first: int, payload_sizes: list[int], make: Callable[[], Tranche]) -> None:
        """Tranches come in sequence, without gaps in their units. `make` hashes the units, which takes time as well."""
        assert sequence == len(self._firsts), "tranches are numbered in their order"
        self._unsigned[sequence] = make
        self._firsts.append(first)
        self._open.append(len(payload_sizes))
        self._units = first + len(payload_sizes)
        self._bytes.append(sum(payload_sizes))

    def __getitem__(self, sequence: int) -> Signed:
        """A tranche some of whose units have not ended, signed now if it was not yet."""
        make = self._unsigned.pop(sequence, None)
        if make is not None:
            self._signed[sequence] = self._sign(make())
        return self._signed[sequence]

    def size(self, sequence: int) -> int:
        """How many units a tranche has."""
        following = self._firsts[sequence + 1] if sequence + 1 < len(self._firsts) else self._units
        return following - self._firsts[sequence]

    def __len__(self) -> int:
        """Tranches so far, ended ones too: the number of the next."""
        return len(self._firsts)

    def ended(self, outcomes: list[Outcome]) -> int:
        """Forget the tranches that have no open unit any more; return how many bytes of arguments they had."""
        firsts, counts = self._firsts, self._open
        start = end = sequence = -1
        freed = 0
        for outcome in outcomes:
            index = outcome.index
            if not start <= index < end:
                sequence = bisect_right(firsts, index) - 1
                start = firsts[sequence]
                end = firsts[sequence + 1] if sequence + 1 < len(firsts) else index + 1
            counts[sequence] -= 1
            if not counts[sequence]:
                self._signed.pop(sequence, None)
                self._unsigned.pop(sequence, None)
                freed += self._bytes[sequence]
        return freed

    def clear(self) -> int:
        """The job is over: forget what is left, units that came too late; return how many bytes of arguments it had."""
        left = sum(self._bytes[sequence] for sequence in (*self._signed, *self._unsigned))
        self._signed.clear()
        self._unsigned.clear()
        return left


@dataclass(slots=True)
class JobContext:
    """One job of a local user. `retained_bytes` are results that wait for somebody to attach."""

    job: JobId
    manifest: Signed
    tenant: Tenant
    environment: tuple[Digest, ...]
    detached: bool
    timeout_ms: int
    listener: Listener | None
    tranches: TrancheShelf
    functions: dict[Digest, bytes] = field(default_factory=dict)
    units: int = 0
    retained_bytes: int = 0
    finished: tuple[str, str] | None = None

    @property
    def lacks_environment(self) -> bool:
        """Whether its units need a lock that its program has not sent."""
        return any(digest not in self.functions for digest in self.environment)

    @property
    def submitter(self) -> Submitter:
        """Whose job it is."""
        return self.tenant.submitter
