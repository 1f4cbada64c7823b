"""The lookup service: what this node knows by itself, then what the directory knows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from meshd_node.core.membership.effects import Member
from meshd_node.core.owner.machine import Owner
from meshd_node.seams import Seams
from meshd_node.services.directory.open_jobs import LOOK_S
from meshd_node.services.lookup.directory import Directory, Search
from meshd_node.services.lookup.entries import Json, of_member, of_own_job, of_record
from meshd_node.services.meant import Members, ambiguous, id_meant, members_meant, unknown
from meshd_protocol.ids import NodeId, to_text
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.messages.local import Denial, DenialCode
from meshd_protocol.records import DirectoryKind

# The directory bounds its searches; this is for one that does not end.
PATIENCE_S: Final = 15.0


class Lookup:
    """Answers `meshd lookup`. A mesh without a directory is answered by this node alone."""

    def __init__(self, me: NodeId, members: Members, owner: Owner, directory: Directory | None, seams: Seams) -> None:
        self._me = me
        self._members = members
        self._owner = owner
        self._directory = directory
        self._seams = seams

    async def find(self, text: str) -> Json | Denial:
        """All that is known under this name, id, or beginning of an id."""
        members = members_meant(self._members, text)
        if len(members) > 1:
            return _denied(f"{ambiguous(members, text)}: look for one id")
        identifier = members[0].node if members else id_meant(text)
        if identifier is None:
            return _denied(f"{unknown(text)}: `meshd peers` lists names and ids")
        begun = self._seams.monotonic()
        searches = await self._search(identifier, is_node=bool(members))
        took_s = self._seams.monotonic() - begun
        records = [of_record(record, self._name) for search in searches for record in search.records]
        found = [*map(self._member, members), *self._own_job(identifier), *(each for each in records if each)]
        if not found:
            asked = sum(search.asked for search in searches)
            where = f"neither this node nor the directory, in {asked} questions"
            return _denied(f"nobody knows {text}: {where} (of a job it is told after {2 * LOOK_S:.0f} s at most)")
        return {"asked": text, "found": found, "directory": self._cost(searches, took_s)}

    # --- here ---------------------------------------------------------------------------------------------------

    def _member(self, member: Member) -> Json:
        return of_member(member, self._seams.wall() - (self._seams.monotonic() - member.since))

    def _own_job(self, identifier: bytes) -> list[Json]:
        owned = any(job.job == identifier for job in self._owner.jobs())
        return [of_own_job(identifier, self._me, self._name(self._me))] if owned else []

    def _name(self, node: NodeId) -> str:
        member = self._members.member(node)
        return "" if member is None else member.core.name

    # --- in the directory ---------------------------------------------------------------------------------------

    async def _search(self, identifier: bytes, *, is_node: bool) -> list[Search]:
        """An id does not say of what it is: unless a member has it, look for all that it could be."""
        directory = self._directory
        if directory is None:
            return []
        questions: list[Callable[[Callable[[Search], None]], None]] = [
            partial(directory.find_contact, NodeId(identifier))
        ]
        if not is_node:
            questions += [
                partial(directory.find_records, kind, identifier)
                for kind in (DirectoryKind.JOB, DirectoryKind.PROVIDER)
            ]
        found: list[Search] = []
        with trio.move_on_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for question in questions:
                    nursery.start_soon(_ended, question, found)
        return found

    def _cost(self, searches: Sequence[Search], took_s: float) -> Json | None:
        """What the searches cost, and who had something. None: there is no directory."""
        if self._directory is None:
            return None
        answered = dict.fromkeys(node for search in searches for node in search.answered_by)
        return {
            "ms": round(took_s * 1_000, 3),
            "hops": max((search.hops for search in searches), default=0),
            "asked": sum(search.asked for search in searches),
            "answered_by": [{"node": to_text(node), "name": self._name(node)} for node in answered],
        }


async def _ended(question: Callable[[Callable[[Search], None]], None], found: list[Search]) -> None:
    """Begin a search and wait for its end."""
    ended = trio.Event()

    def done(search: Search) -> None:
        found.append(search)
        ended.set()

    question(done)
    await ended.wait()


def _denied(reason: str) -> Denial:
    return Denial(DenialCode.NOT_FOUND, reason[:REASON_CHARS_MAX])
