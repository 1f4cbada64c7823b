"""Whom a worker serves, and what it is: work of one submitter that asks for the same is one tenant's."""

from typing import NamedTuple

from meshd_node.core.submitter import Submitter
from meshd_protocol.ids import Digest
from meshd_protocol.records import Needs, Runtime


class Harness(NamedTuple):
    """What a worker is made with. 0 bytes leave a bound to the node; `gpu_memory_bytes` is of each GPU.

    With `own_process` each unit has a process of its own in it, and a crash is that unit's alone.
    """

    runtime: Runtime = Runtime.PYTHON
    environment: bytes = b""
    memory_bytes: int = 0
    scratch_bytes: int = 0
    cpu_milli: int = 1_000
    gpus: int = 0
    gpu_memory_bytes: int = 0
    own_process: bool = False

    @property
    def slots(self) -> int:
        """How many slots a worker takes: one for each CPU that is begun."""
        return slots_for(self.cpu_milli)


class Tenant(NamedTuple):
    """Workers and cages go by this; fairness goes by the submitter, so that nobody gains by asking for many things."""

    submitter: Submitter
    harness: Harness = Harness()


def slots_for(cpu_milli: int) -> int:
    """How many slots so much CPU takes."""
    return -(-cpu_milli // 1_000)


def environment_of(needs: Needs) -> tuple[Digest, ...]:
    """The digest of the lock that work asks for, if it asks for one: it is shipped with the functions."""
    return (Digest(needs.environment),) if needs.environment else ()


def tenant_of(submitter: Submitter, needs: Needs) -> Tenant:
    """The tenant that a submitter is with work of these needs."""
    return Tenant(
        submitter,
        Harness(
            needs.runtime,
            needs.environment,
            needs.memory_bytes,
            needs.scratch_bytes,
            needs.cpu_milli,
            needs.gpus,
            needs.gpu_memory_bytes,
            # A command has a process of its own, and a module an instance, in any worker.
            needs.own_process and needs.runtime is Runtime.PYTHON,
        ),
    )
