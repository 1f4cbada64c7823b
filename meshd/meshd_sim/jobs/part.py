"""The job engine of one node in one life: its owner, its executor, and the way between the two."""

import random
from dataclasses import dataclass, field
from typing import Final

from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.events import Lent
from meshd_node.core.executor.machine import Executor
from meshd_node.core.owner.config import OwnerConfig
from meshd_node.core.owner.events import ExecutorView
from meshd_node.core.owner.machine import Owner
from meshd_protocol.framing import Message
from meshd_protocol.ids import MeshId, NodeId
from meshd_protocol.messages.peer import (
    AttemptsEnded,
    Credit,
    FunctionData,
    JobOpen,
    LeaseGrant,
    Recall,
    ResultBatch,
    TrancheOpen,
)
from meshd_sim.jobs.executor_host import ExecutorHost
from meshd_sim.jobs.habits import Habits
from meshd_sim.jobs.owner_host import OwnerHost
from meshd_sim.jobs.watch import Watch
from meshd_sim.parcels import Parcel
from meshd_sim.process import Process

_TO_OWNERS: Final = (ResultBatch, AttemptsEnded, Credit)
JOB_MESSAGES: Final[tuple[type[Message], ...]] = (*_TO_OWNERS, JobOpen, FunctionData, TrancheOpen, LeaseGrant, Recall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The machines under test, and how patient they are. Tests put broken ones in their place."""

    owner: type[Owner] = Owner
    executor: type[Executor] = Executor
    owner_config: OwnerConfig = field(default_factory=OwnerConfig)
    executor_config: ExecutorConfig = field(default_factory=ExecutorConfig)


class JobPart:
    """A part of a process. Its own executor is reached without a wire, though through the codec as well."""

    def __init__(
        self,
        process: Process,
        mesh: MeshId,
        view: ExecutorView,
        habits: Habits,
        machines: Machines,
        rng: random.Random,
        watch: Watch,
    ) -> None:
        self._process = process
        self._watch = watch
        node = process.node
        watch.owner_began(node)
        watch.executor_began(node, view.offer.slots, view.offer.memory_bytes)
        owner = machines.owner(node, rng, machines.owner_config)
        lent = Lent(view.offer.slots, view.offer.memory_bytes, tuple(view.offer.gpus))
        executor = machines.executor(node, lent, machines.executor_config)
        self.owner = OwnerHost(process, self._send, mesh, owner, watch)
        self.executor = ExecutorHost(process, self._send, executor, habits, rng, watch)
        self._own_view = view

    def start(self) -> None:
        """Let the two parts of this node meet."""
        self.link_up(self._process.node, "")
        self.owner.seen(self._own_view)

    def end(self) -> None:
        """The process is gone."""
        self.executor.end()

    def seen(self, view: ExecutorView) -> None:
        """What this node knows of another one, or of itself, has changed."""
        self.owner.seen(view)

    # --- what the process reports ---------------------------------------------------------------------------------

    def link_up(self, node: NodeId, address: str) -> None:
        """A session began."""
        self.owner.link_up(node)
        self.executor.link_up(node)

    def link_down(self, node: NodeId, *, refused: bool) -> None:
        """A session ended."""
        self.owner.link_down(node, "the session ended")
        self.executor.link_down(node)

    def dial_failed(self, node: NodeId | None, address: str, *, refused: bool) -> None:
        """Whoever dials sees to it."""

    def message(self, sender: NodeId, message: Message, stream: int) -> None:
        """A message of another node, or of this node to itself."""
        if isinstance(message, _TO_OWNERS):
            self.owner.received(sender, message)
        else:
            self.executor.received(sender, message)

    def _send(self, node: NodeId, message: Message) -> None:
        self._watch.sent(self._process.node, node, message)
        if node == self._process.node:
            parcel = Parcel(message, 0)
            self._process.after(0.0, lambda: self.message(node, *parcel.open()))
        else:
            self._process.send(node, message)
