"""Where each message between nodes goes: the one place that knows which service answers to what."""

from collections.abc import Callable

from meshd_node.net.link import Link
from meshd_node.services.admission import AdmissionService
from meshd_node.services.directory.service import DirectoryService
from meshd_node.services.execution.service import ExecutionService
from meshd_node.services.executors import Executors
from meshd_node.services.jobs.service import JobService
from meshd_node.services.membership.service import MembershipService
from meshd_node.services.netcheck.service import NetcheckService
from meshd_node.services.outflow import Outflow
from meshd_protocol.certificates import Invited
from meshd_protocol.errors import UnexpectedMessage
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId
from meshd_protocol.messages.directory import Contacts, FindNode, FindValue, Store, Stored, Values
from meshd_protocol.messages.membership import (
    BucketDigests,
    Probe,
    ProbeAck,
    ProbeReport,
    ProbeRequest,
    Rumours,
    States,
    StateWants,
    Summary,
)
from meshd_protocol.messages.peer import (
    AttemptsEnded,
    Credit,
    DialBack,
    DialBackReport,
    FunctionData,
    JobOpen,
    LeaseGrant,
    Recall,
    ResultBatch,
    SignGrant,
    SignRefusal,
    SignRequest,
    TrancheOpen,
)


class Router:
    """The transport's handler: passes everything on, then sends what the services answered."""

    def __init__(
        self,
        membership: MembershipService,
        directory: DirectoryService,
        jobs: JobService,
        execution: ExecutionService,
        executors: Executors,
        admission: AdmissionService,
        netcheck: NetcheckService,
        outflow: Outflow,
    ) -> None:
        self._membership = membership
        self._directory = directory
        self._jobs = jobs
        self._execution = execution
        self._executors = executors
        self._admission = admission
        self._netcheck = netcheck
        self._outflow = outflow

    def link_up(self, link: Link) -> None:
        """A session began."""
        self._jobs.link_up(link)
        self._execution.link_up(link)
        self._membership.link_up(link.peer.node, link.address or "")
        self._directory.link_up(link)
        self._executors.link_up(link)
        self._netcheck.link_up(link)
        self._outflow.flush()

    def link_down(self, link: Link, reason: str, refused: bool) -> None:
        """A session ended."""
        self._executors.link_down(link)
        self._execution.link_down(link)
        self._jobs.link_down(link, reason)
        self._admission.link_down(link)
        self._netcheck.link_down(link)
        self._membership.link_down(link.peer.node, refused=refused)
        self._directory.link_down(link)
        self._outflow.flush()

    def dial_failed(self, node: NodeId | None, address: str, reason: str, refused: bool) -> None:
        """A dial ended without a session."""
        self._netcheck.dial_failed(node, address, reason)
        if node is not None:
            self._executors.dial_failed(node)
            self._directory.dial_failed(node)
        self._membership.dial_failed(node, address, refused=refused)
        self._outflow.flush()

    def keeps(self, link: Link) -> bool:
        """Whether units may depend on a session that is silent."""
        node = link.peer.node
        return self._executors.keeps(node) or self._jobs.owner.waits_for(node) or self._execution.serves(node)

    def invited(self, invited: Invited, message: SignRequest, reply: Callable[[Message], None]) -> None:
        """Somebody joins."""
        self._admission.invited(invited, message, reply)
        self._outflow.flush()

    def messages(self, link: Link, batch: list[tuple[Message, int]]) -> None:
        """All messages of one read."""
        for message, stream in batch:
            self._message(link, message, stream)
        self._outflow.flush()

    def _message(self, link: Link, message: Message, stream: int) -> None:
        node = link.peer.node
        match message:
            case LeaseGrant():
                self._execution.lease(node, message)
            case ResultBatch():
                self._jobs.results(link, message)
            case TrancheOpen():
                self._execution.tranche_open(node, message)
            case Credit():
                self._jobs.credit(node, message)
            case AttemptsEnded():
                self._jobs.attempts_ended(node, message)
            case Recall():
                self._execution.recall(node, message)
            case JobOpen():
                self._execution.job_open(node, message)
            case FunctionData():
                self._execution.function_data(node, message)
            case (
                Probe()
                | ProbeAck()
                | ProbeRequest()
                | ProbeReport()
                | Rumours()
                | States()
                | StateWants()
                | Summary()
                | BucketDigests()
            ):
                self._membership.message(node, message)
            case FindNode() | FindValue() | Contacts() | Values() | Store() | Stored():
                self._directory.message(link, message, stream)
            case SignRequest() | SignGrant() | SignRefusal():
                self._admission.message(link, message, stream)
            case DialBack() | DialBackReport():
                self._netcheck.message(link, message, stream)
            case _:
                raise UnexpectedMessage(f"{type(message).__name__} is not for a session that is up")
