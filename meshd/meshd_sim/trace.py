"""What happened, line by line, and a hash over it: the same seed gives the same bytes on every machine."""

from collections.abc import Callable
from typing import Final, TextIO

from blake3 import blake3

from meshd_node.core.membership.effects import Member
from meshd_node.core.membership.events import VerifiedClaim, VerifiedRevocation, VerifiedState
from meshd_protocol.ids import NodeId
from meshd_sim.parcels import Parcel

# Lines are hashed in bunches: a call for each costs more than the hashing.
_BUNCH: Final = 1_024


class Trace:
    """Every delivery and every change of a view. Names of nodes, not ids: people read it."""

    def __init__(self, clock: Callable[[], float], name: Callable[[NodeId], str], out: TextIO | None = None) -> None:
        self._clock = clock
        self._name = name
        self._out = out
        self._hash = blake3()
        self._lines: list[str] = []

    def digest(self) -> str:
        """The hash of everything so far."""
        self._flush()
        return self._hash.hexdigest(length=16)

    def delivered(self, source: NodeId, target: NodeId, parcels: list[Parcel]) -> None:
        """A batch arrived. Its bytes are in the hash, its kinds in the line."""
        kinds = " ".join(parcel.name for parcel in parcels)
        self._hash.update(b"".join([parcel.frame for parcel in parcels]))
        self._line(f"{self._name(source)} > {self._name(target)} {kinds}")

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""
        version = state.state.version
        self._line(f"{self._name(node)} publishes {state.state.slot.name} {version.epoch}.{version.sequence}")

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        version = member.version
        seen = f"{self._name(member.node)} {member.state.value} {version.epoch}.{version.sequence}"
        self._line(f"{self._name(node)} sees {seen}")

    def claimed(self, claim: VerifiedClaim) -> None:
        """A node accuses another."""
        said, names = claim.claim, self._name
        self._line(f"{names(NodeId(said.accuser))} claims {names(NodeId(said.accused))} {said.verdict.name}")

    def revoked(self, node: NodeId, revocations: list[VerifiedRevocation]) -> None:
        """A node learned of revocations."""
        ended = " ".join(self._name(NodeId(each.revocation.node)) for each in revocations)
        self._line(f"{self._name(node)} holds revoked {ended}")

    def _line(self, text: str) -> None:
        self._lines.append(f"{self._clock():.6f} {text}\n")
        if len(self._lines) >= _BUNCH:
            self._flush()

    def _flush(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        self._hash.update(text.encode())
        if self._out is not None:
            self._out.write(text)
