"""What root and the daemon's own user may order over the local socket: see `Commands`. Spec: 11-local.md."""

import json
import os
from collections.abc import Callable
from typing import Final, assert_never

from meshd_node.errors import MeshdError
from meshd_node.services.draining import Draining
from meshd_node.services.meant import Members, ambiguous, id_meant, members_meant, unknown
from meshd_node.services.revocations import RevocationService
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.messages.local import Answer, Denial, DenialCode, Drain, Reload, Revoke

_ROOT_UID: Final = 0


class Commands:
    """Revocations, drains, a charter read anew, for those who may. Synchronous, one small write to the disk at most."""

    def __init__(
        self,
        me: NodeId,
        members: Members,
        revocations: RevocationService,
        draining: Draining,
        reload: Callable[[], str],
    ) -> None:
        """`reload` reads the charter anew and says what is wrong with it."""
        self._me = me
        self._members = members
        self._revocations = revocations
        self._draining = draining
        self._reload = reload

    def obey(self, command: Revoke | Drain | Reload, uid: int) -> Answer | Denial:
        """Do it, or say why not."""
        if uid not in (_ROOT_UID, os.getuid()):
            who = "root and the user that the daemon runs as"
            return _denied(DenialCode.NOT_ALLOWED, f"user {uid} may not {type(command).__name__.lower()}: {who} may")
        match command:
            case Revoke():
                return self._revoke(command)
            case Drain(on):
                return self._drain(on=on)
            case Reload():
                fault = self._reload()
                return _denied(DenialCode.UNUSABLE, fault) if fault else Answer(b"{}")
            case _:
                assert_never(command)

    def _drain(self, *, on: bool) -> Answer | Denial:
        if self._draining.stopping:
            return _denied(DenialCode.DRAINING, "this daemon is stopping")
        if on and not self._draining.on:
            self._draining.begin()
        elif not on:
            self._draining.end()
        return Answer(json.dumps(self._draining.progress()).encode())

    def _revoke(self, command: Revoke) -> Answer | Denial:
        target = self._target(command)
        if isinstance(target, Denial):
            return target
        node, operator = target
        if node == self._me:
            return _denied(DenialCode.UNUSABLE, "this node does not revoke itself: do it on another issuer")
        try:
            record = self._revocations.revoke(node, operator, command.reason)
        except MeshdError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return _denied(DenialCode.NOT_ALLOWED, f"{error}{hint}")
        found = {
            "node": to_text(node),
            "name": self._name(node),
            "operator": operator,
            "until": record.until_ms / 1_000,
            "reason": record.reason,
        }
        return Answer(json.dumps(found).encode())

    def _name(self, node: NodeId) -> str:
        member = self._members.member(node)
        return "" if member is None else member.core.name

    def _target(self, command: Revoke) -> tuple[NodeId, str] | Denial:
        """Who is meant, and the operator in its certificate: a revocation that names another one does nothing."""
        text, operator = command.node, command.operator
        members = members_meant(self._members, text)
        if len(members) > 1:
            return _denied(DenialCode.NOT_FOUND, f"{ambiguous(members, text)}: name one id")
        if members:
            certified = members[0].certified
            if operator not in ("", certified.operator):
                return _denied(DenialCode.UNUSABLE, f"{text} is of operator {certified.operator!r}, not {operator!r}")
            return certified.node, certified.operator
        identifier = id_meant(text)
        if identifier is None:
            return _denied(DenialCode.NOT_FOUND, f"{unknown(text)}; who was gone for long is revoked by its whole id")
        node = NodeId(identifier)
        known = operator or self._revocations.operator_of(node)
        if known is None:
            return _denied(DenialCode.NOT_FOUND, f"nobody here knows {text}: add --operator, whom it belonged to")
        return node, known


def _denied(code: DenialCode, reason: str) -> Denial:
    return Denial(code, reason[:REASON_CHARS_MAX])
