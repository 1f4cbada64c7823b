"""Jobs on nodes that know each other by their real memberships: both machines in one process, as in the daemon."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.membership.events import VerifiedClaim, VerifiedRevocation, VerifiedState
from meshd_node.core.owner.events import ExecutorView
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Offer, Phase
from meshd_sim.disks import Damage
from meshd_sim.faults import DATAGRAM_FAULTS, DRIFT_MAX, Fault, Faults, draw
from meshd_sim.jobs.faults import JobFault, draw_kinds
from meshd_sim.jobs.habits import Habits, draw_habits
from meshd_sim.jobs.part import JOB_MESSAGES, JobPart
from meshd_sim.jobs.plans import JobPlan, draw_plan
from meshd_sim.jobs.witness import JobWitness
from meshd_sim.jobs.world import JobOptions
from meshd_sim.membership import MembershipHost
from meshd_sim.process import Process
from meshd_sim.world import Node, World

# Long enough for suspicions, redials, leases and time limits, one after the other.
_DEADLINE_S: Final = 900.0
_LOOK_S: Final = 30.0
# All sessions of a new mesh have begun by then.
_SETTLING_S: Final = 10.0
# Nobody mends these here: who lies about membership, or answers no work, goes on.
_LEFT_OUT: Final = DATAGRAM_FAULTS | {Fault.LIES, Fault.DISK}
_LAB: Final = 2
_JOB_FAULTS: Final = frozenset({JobFault.LIARS, JobFault.COLLUDERS, JobFault.CHEATS, JobFault.DYING_WORKERS})


class JobMesh(World):
    """A world of memberships whose nodes own and run jobs as well."""

    def __init__(self, seed: int, options: JobOptions) -> None:
        super().__init__(seed)
        self.watches.append(self)
        self.furnish = self._furnish
        self.witness = JobWitness(lambda: self.engine.now, self._is_honest)
        self.parts: dict[NodeId, JobPart] = {}
        self._machines = options.machines
        self._habits: dict[NodeId, Habits] = {}
        self._rng = self.engine.stream("jobs")
        self._kinds = draw_kinds(self._rng, options.faults & _JOB_FAULTS)

    def submit(self, plan: JobPlan) -> None:
        """A user submits to one of the nodes that run, are honest, and were there from the beginning."""
        lab = [node for node in self.honest() if self._operator(node.node) == "lab" and node.node in self.parts]
        if lab:
            node = lab[plan.number % len(lab)]
            assert node.process is not None, "it runs"
            node.process.enter(partial(self.parts[node.node].owner.begin, plan))

    def add(self, seeds: Sequence[str] = (), *, drift: float = 0.0) -> Node:
        """A new machine; the first ones are of one operator, whose users submit, and others of one each."""
        node = super().add(seeds, drift=drift)
        self.notary.certified(node.node, "lab" if node.number < _LAB else f"op{node.number}")
        return node

    # --- lives ----------------------------------------------------------------------------------------------------

    def crash(self, node: Node, *, damage: Damage = Damage.KEPT, machine: bool = False) -> None:
        """End the process, and what it owned with it."""
        super().crash(node, damage=damage, machine=machine)
        self.parts.pop(node.node).end()
        self.witness.owner_ended(node.node)
        self.witness.executor_ended(node.node)

    def _furnish(self, node: Node, process: Process) -> None:
        own = self._operator(node.node) == "lab"
        habits = self._habits.setdefault(node.node, draw_habits(self._rng, self._kinds, trusted=own))
        rng = self.engine.stream(f"jobs/{node.number}/{node.lives}")
        view = self._view(node.node, node.node, self.offer(), accepts=True)
        part = self.parts[node.node] = JobPart(
            process, self.keyring.mesh, view, habits, self._machines, rng, self.witness
        )
        process.add(part, JOB_MESSAGES)
        assert node.host is not None, "membership comes first"
        process.add(_Introduction(self, node.node, node.host), ())
        process.enter(part.start)

    # --- what memberships say -------------------------------------------------------------------------------------

    def published(self, node: NodeId, state: VerifiedState) -> None:
        """A node said something of itself."""

    def claimed(self, claim: VerifiedClaim) -> None:
        """A node accuses another."""

    def changed(self, node: NodeId, member: Member) -> None:
        """A node sees a member differently."""
        part = self.parts.get(node)
        if part is not None and member.offer is not None:
            alive = member.state is MemberState.ALIVE and member.offer.phase is Phase.ALIVE
            part.seen(self._view(member.node, node, member.offer, accepts=alive))

    def revoked(self, node: NodeId, revocations: list[VerifiedRevocation]) -> None:
        """A node learned of revocations."""
        for each in revocations:
            ended = NodeId(each.revocation.node)
            self.witness.revoked(node, ended)
            if ended != node and node in self.parts:
                self.parts[node].owner.revoked(ended)

    def _view(self, node: NodeId, viewer: NodeId, offer: Offer, *, accepts: bool) -> ExecutorView:
        operator = self._operator(node)
        return ExecutorView(node, operator, operator == self._operator(viewer), accepts, offer, 0.01)

    def _operator(self, node: NodeId) -> str:
        return self.notary.certified(node).operator

    def _is_honest(self, node: NodeId) -> bool:
        return self._habits[node].honest


class _Introduction:
    """A part that tells the job engine of a node when a session with it begins."""

    def __init__(self, mesh: JobMesh, node: NodeId, host: MembershipHost) -> None:
        self._mesh = mesh
        self._node = node
        self._host = host

    def link_up(self, node: NodeId, address: str) -> None:
        """A session began."""
        member = self._host.machine.member(node)
        if member is not None:
            self._mesh.changed(self._node, member)

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """The job engine hears of it by itself."""

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """Whoever dials sees to it."""

    def message(self, sender: NodeId, message: Message, stream: int) -> None:
        """It answers to none."""


def run_mesh(seed: int, options: JobOptions) -> Counter[str]:
    """Let jobs run on a mesh in which much goes wrong; return what was seen; raise `Broken` if the engine does.

    Silence is not looked at: memberships open sessions whenever they like, and each begins with a credit.
    """
    mesh = JobMesh(seed, options)
    rng = mesh.engine.stream("plans")
    swarm = draw(rng, frozenset(Fault) - _LEFT_OUT if options.faults else frozenset())
    mesh.found(options.nodes, drift=DRIFT_MAX if Fault.DRIFT in swarm.kinds else 0.0)
    mesh.run(_SETTLING_S)
    for number in range(options.jobs):
        plan = draw_plan(number, rng, within_s=options.trouble_s)
        mesh.engine.after(plan.opens_at, mesh.submit, plan)
    faults = Faults(mesh, swarm)
    faults.begin()
    mesh.run(options.trouble_s)
    faults.end()
    _run_to_the_end(mesh)
    mesh.witness.check_end(mesh.now)
    return mesh.witness.seen


def _run_to_the_end(mesh: JobMesh) -> None:
    deadline = mesh.now + _DEADLINE_S
    while mesh.now < deadline:
        mesh.run(_LOOK_S)
        if all(job.state for job in mesh.witness.jobs):
            return
