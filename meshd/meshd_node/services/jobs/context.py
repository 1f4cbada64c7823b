"""What the shell keeps of a job beside the machine's tables: the signed bytes, the functions, who listens."""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Protocol

from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import Digest, JobId
from meshd_protocol.messages.local import Outcome
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
    """The signed tranches of a job, each until its last unit has ended."""

    def __init__(self) -> None:
        self._signed: dict[int, Signed] = {}
        self._firsts: list[int] = []
        self._open: list[int] = []
        self._bytes: list[int] = []
        self._units = 0

    def put(self, sequence: int, first: int, payload_sizes: list[int], signed: Signed) -> None:
        """Tranches come in sequence, without gaps in their units."""
        assert sequence == len(self._firsts), "tranches are numbered in their order"
        self._signed[sequence] = signed
        self._firsts.append(first)
        self._open.append(len(payload_sizes))
        self._units = first + len(payload_sizes)
        self._bytes.append(sum(payload_sizes))

    def __getitem__(self, sequence: int) -> Signed:
        """A tranche some of whose units have not ended."""
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
                del self._signed[sequence]
                freed += self._bytes[sequence]
        return freed


@dataclass(slots=True)
class JobContext:
    """One job of a local user. `retained_bytes` are results that wait for somebody to attach."""

    job: JobId
    manifest: Signed
    submitter: Submitter
    detached: bool
    timeout_ms: int
    listener: Listener | None
    functions: dict[Digest, bytes] = field(default_factory=dict)
    tranches: TrancheShelf = field(default_factory=TrancheShelf)
    units: int = 0
    retained_bytes: int = 0
    finished: tuple[str, str] | None = None
