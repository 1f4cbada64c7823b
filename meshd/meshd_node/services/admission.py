"""The admission service: answers joiners, relays requests to the issuer that invited them, renews certificates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshd_node.identity.admission import Admission, Relay
from meshd_node.log import log
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.links import Links
from meshd_protocol.certificates import Invited
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRequest

# Requests on their way to other issuers; the transport bounds how many joiners are served at a time to fewer.
_RELAYED_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class _Relayed:
    """A joiner's request that another node answers."""

    issuer: NodeId
    relay: Relay
    reply: Callable[[Message], None]


class AdmissionService:
    """Lets nodes in. A joiner whose connection ended gets no answer; asking again costs no second use."""

    def __init__(self, admission: Admission, links: Links, seams: Seams) -> None:
        self._admission = admission
        self._links = links
        self._seams = seams
        self._relayed: dict[int, _Relayed] = {}
        self._streams = 0

    def invited(self, invited: Invited, request: SignRequest, reply: Callable[[Message], None]) -> None:
        """The holder of an invite hands in a request."""
        answer = self._admission.answer(invited, request, self._seams.wall())
        if not isinstance(answer, Relay):
            log.info("joiner_answered", granted=isinstance(answer, SignGrant), operator=invited.operator)
            reply(answer)
            return
        link = self._links.link(answer.issuer)
        if link is None or len(self._relayed) >= _RELAYED_MAX:
            reply(answer.unreachable())
            return
        self._streams += 1
        self._relayed[self._streams] = _Relayed(answer.issuer, answer, reply)
        link.send(answer.request, self._streams)

    def message(self, link: Link, message: SignRequest | SignGrant | SignRefusal, stream: int) -> None:
        """A node asks for itself or a joiner, or answers what was relayed to it."""
        if isinstance(message, SignRequest):
            link.send(self._admission.answer_node(link.peer, message, self._seams.wall()), stream)
            return
        relayed = self._relayed.get(stream)
        # Another node than the one that was asked, or an answer that came twice, is ignored.
        if relayed is not None and relayed.issuer == link.peer.node:
            del self._relayed[stream]
            log.info("joiner_relayed", issuer=to_text(relayed.issuer), granted=isinstance(message, SignGrant))
            relayed.reply(message)

    def link_down(self, link: Link) -> None:
        """The issuers behind this session will not answer any more."""
        gone = [stream for stream, relayed in self._relayed.items() if relayed.issuer == link.peer.node]
        for stream in gone:
            relayed = self._relayed.pop(stream)
            relayed.reply(relayed.relay.unreachable())
