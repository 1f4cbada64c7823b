"""Who is told of everything that the job engine does in a world. Nobody who is told may change anything."""

from typing import Protocol

from meshd_node.core.executor import effects as executor_effects
from meshd_node.core.executor import events as executor_events
from meshd_node.core.owner import effects as owner_effects
from meshd_node.core.owner import events as owner_events
from meshd_protocol.framing import Message
from meshd_protocol.ids import JobId, NodeId
from meshd_sim.jobs.plans import JobPlan
from meshd_sim.jobs.workers import Witness


class Watch(Witness, Protocol):
    """Told after each step of a machine, before anything that it asked for happens."""

    def owner_began(self, node: NodeId) -> None:
        """An owner starts with nothing; whatever it owned before has ended with its process."""
        ...

    def job_opened(self, node: NodeId, job: JobId, plan: JobPlan) -> None:
        """An owner is about to accept a job."""
        ...

    def owner_stepped(
        self, node: NodeId, event: owner_events.Event, effects: list[owner_effects.Effect], now: float
    ) -> None:
        """An owner's machine handled an event."""
        ...

    def executor_began(self, node: NodeId, slots: int, memory_bytes: int) -> None:
        """An executor starts with nothing."""
        ...

    def executor_stepped(
        self, node: NodeId, event: executor_events.Event, effects: list[executor_effects.Effect], now: float
    ) -> None:
        """An executor's machine handled an event."""
        ...

    def sent(self, sender: NodeId, receiver: NodeId, message: Message) -> None:
        """A message of the job engine is on its way, if there is a session."""
        ...
