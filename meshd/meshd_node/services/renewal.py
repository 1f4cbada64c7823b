"""The renewal service: asks issuers for this node's next certificate, long before the last one ends."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NoReturn, Protocol

import trio

from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.errors import MeshdError
from meshd_node.identity.renewal import renew_due_at, renewed
from meshd_node.log import log
from meshd_node.net.tls import Credentials
from meshd_node.seams import Seams
from meshd_node.services.links import Links
from meshd_protocol.certificates import Certified, Role, read_node_name
from meshd_protocol.errors import RemoteProtocolError
from meshd_protocol.framing import Message
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.issuing import renewal_request
from meshd_protocol.messages.peer import SignGrant, SignRefusal

# A wall clock that is set, or a machine that slept, is noticed within an hour.
_LOOK_S: Final = 3_600.0
# While no issuer grants: again after 5 to 10 minutes, for up to the two thirds of the certificate's life that are left.
_RETRY_S: Final = 600.0
# What an issuer that has a session may take to answer, and what is given to a dial to one that has none.
_ANSWER_S: Final = 30.0
_DIAL_S: Final = 10.0


class Issuers(Protocol):
    """Whoever carries a request to an issuer and its answer back."""

    def renew(self, me: Certified, issuer: NodeId, request: bytes, reply: Callable[[Message], None]) -> None:
        """Ask; `reply` is called once, unless the issuer stays silent."""
        ...


class Mesh(Protocol):
    """Where issuers are found."""

    def members(self) -> list[Member]:
        """Every known member."""
        ...


class Outside(Links, Protocol):
    """What this needs of the transport."""

    def dial(self, node: NodeId, addresses: Sequence[str]) -> None:
        """Try for a session."""
        ...

    def flush(self) -> None:
        """Send what was queued."""
        ...


class Renewal:
    """Renews the certificate at a third of its life, through any issuer that answers."""

    def __init__(
        self,
        credentials: Credentials,
        certified: Certified,
        label: str,
        issuers: Issuers,
        mesh: Mesh,
        outside: Outside,
        take: Callable[[Certified], None],
        seams: Seams,
    ) -> None:
        """`take` stores and uses the new certificate; it raises `MeshdError` if the disk does not let it."""
        self._certified = certified
        self._request = renewal_request(credentials.key, read_node_name(certified.chain[0]), label)
        self._root_key = credentials.root_key
        self._issuers = issuers
        self._mesh = mesh
        self._outside = outside
        self._take = take
        self._seams = seams

    async def run(self) -> NoReturn:
        """Renew whenever it is time, until cancelled."""
        while True:
            left_s = renew_due_at(self._certified) - self._seams.wall()
            if left_s > 0:
                await trio.sleep(min(left_s, _LOOK_S))
            elif not await self._renew():
                await trio.sleep(_RETRY_S * self._seams.rng.uniform(0.5, 1.0))

    async def _renew(self) -> bool:
        for node, addresses in self._candidates():
            answer = await self._ask(node, addresses)
            if isinstance(answer, SignGrant) and self._use(node, answer):
                return True
            if isinstance(answer, SignRefusal):
                log.warning("renewal_refused", issuer=to_text(node), code=answer.code.name, reason=answer.reason)
        log.warning("certificate_not_renewed", ends=self._certified.not_after)
        return False

    def _candidates(self) -> list[tuple[NodeId, list[str]]]:
        """Issuers: this node itself, then those with a session, then the others that live, each in random order."""
        me = self._certified.node
        found = [
            (member.node, list(member.core.addresses))
            for member in self._mesh.members()
            if Role.ISSUER in member.certified.roles and member.state in (MemberState.ALIVE, MemberState.DRAINING)
        ]
        self._seams.rng.shuffle(found)
        return sorted(found, key=lambda each: (each[0] != me, self._outside.link(each[0]) is None))

    async def _ask(self, node: NodeId, addresses: list[str]) -> Message | None:
        if node != self._certified.node and self._outside.link(node) is None:
            self._outside.dial(node, addresses)
            await trio.sleep(_DIAL_S)
        answers: list[Message] = []
        answered = trio.Event()
        self._issuers.renew(self._certified, node, self._request, partial(_answer, answers, answered))
        self._outside.flush()
        with trio.move_on_after(_ANSWER_S):
            await answered.wait()
        return answers[0] if answers else None

    def _use(self, issuer: NodeId, grant: SignGrant) -> bool:
        try:
            certified = renewed(self._certified, self._root_key, grant.certificates, self._seams.wall())
            self._take(certified)
        except (RemoteProtocolError, MeshdError) as error:
            log.warning("renewal_unusable", issuer=to_text(issuer), reason=str(error))
            return False
        self._certified = certified
        log.info("certificate_renewed", issuer=to_text(issuer), ends=certified.not_after)
        return True


def _answer(answers: list[Message], answered: trio.Event, message: Message) -> None:
    answers.append(message)
    answered.set()
