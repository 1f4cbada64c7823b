"""The admission service: answers joiners, relays requests to the issuer that invited them, renews certificates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshd_node.identity.admission import Admission, Relay
from meshd_node.log import log
from meshd_node.net.link import Link
from meshd_node.seams import Seams
from meshd_node.services.links import Links
from meshd_protocol.certificates import Certified, Invited
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.messages.peer import SignGrant, SignRefusal, SignRequest

# Requests on their way to other issuers; the transport bounds how many joiners are served at a time to fewer.
_ASKED_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that another node answers: a joiner's, or this node's own. `lost` is the answer if it goes away."""

    issuer: NodeId
    lost: SignRefusal
    reply: Callable[[Message], None]


class AdmissionService:
    """Lets nodes in. A joiner whose connection ended gets no answer; asking again costs no second use."""

    def __init__(self, admission: Admission, links: Links, seams: Seams) -> None:
        self._admission = admission
        self._links = links
        self._seams = seams
        self._asked: dict[int, _Asked] = {}
        self._streams = 0

    def invited(self, invited: Invited, request: SignRequest, reply: Callable[[Message], None]) -> None:
        """The holder of an invite hands in a request."""
        answer = self._admission.answer(invited, request, self._seams.wall())
        if not isinstance(answer, Relay):
            log.info("joiner_answered", granted=isinstance(answer, SignGrant), operator=invited.operator)
            reply(answer)
            return
        self._ask(answer, reply)

    def message(self, link: Link, message: SignRequest | SignGrant | SignRefusal, stream: int) -> None:
        """A node asks for itself or a joiner, or answers what was relayed to it."""
        if isinstance(message, SignRequest):
            link.send(self._admission.answer_node(link.peer, message, self._seams.wall()), stream)
            return
        asked = self._asked.get(stream)
        # Another node than the one that was asked, or an answer that came twice, is ignored.
        if asked is not None and asked.issuer == link.peer.node:
            del self._asked[stream]
            log.info("issuer_answered", issuer=to_text(asked.issuer), granted=isinstance(message, SignGrant))
            asked.reply(message)

    def link_down(self, link: Link) -> None:
        """The issuers behind this session will not answer any more."""
        gone = [stream for stream, asked in self._asked.items() if asked.issuer == link.peer.node]
        for stream in gone:
            asked = self._asked.pop(stream)
            asked.reply(asked.lost)

    def renew(self, me: Certified, issuer: NodeId, request: bytes, reply: Callable[[Message], None]) -> None:
        """Ask an issuer, which may be this node itself, to renew this node's certificate."""
        if issuer == me.node:
            reply(self._admission.answer_node(me, SignRequest(request), self._seams.wall()))
        else:
            self._ask(Relay(issuer, SignRequest(request)), reply)

    def _ask(self, relay: Relay, reply: Callable[[Message], None]) -> None:
        link = self._links.link(relay.issuer)
        if link is None or len(self._asked) >= _ASKED_MAX:
            reply(relay.unreachable())
            return
        self._streams += 1
        self._asked[self._streams] = _Asked(relay.issuer, relay.unreachable(), reply)
        link.send(relay.request, self._streams)
