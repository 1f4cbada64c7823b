"""What the daemon tells the users of its machine: status, peers, jobs, and why; and what they may touch."""

import base64
import json
import os
from collections.abc import Callable
from typing import Final, assert_never

from meshd_node import __version__
from meshd_node.core.membership.effects import Member, MemberState
from meshd_node.core.owner.machine import Owner
from meshd_node.core.owner.summaries import ExecutorSummary, JobSummary
from meshd_node.seams import Seams
from meshd_node.services.execution.environments import EnvironmentRow
from meshd_node.services.jobs.context import JobContext
from meshd_node.services.jobs.reports import Report, Reports, Said
from meshd_node.services.links import Links
from meshd_node.services.lookup.service import Lookup
from meshd_node.services.membership.service import MembershipService
from meshd_node.services.netcheck.service import NetcheckService
from meshd_node.services.traffic import Traffic
from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import JobId, NodeId, to_text
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.messages.local import Answer, Ask, Denial, DenialCode, Question, Welcome
from meshd_protocol.messages.membership import Load
from meshd_protocol.records import Offer

_ROOT_UID: Final = 0
# The newest, at about 600 bytes each: 1.2 MB of JSON.
JOBS_LISTED: Final = 2_000

# Questions whose answers others have to give first.
INQUIRIES: Final = frozenset({Question.LOOKUP, Question.NETCHECK})

Json = dict[str, object]


class Answers:
    """Answers to questions, as the JSON that `--json` prints."""

    def __init__(
        self,
        me: Certified,
        mesh_name: str,
        membership: MembershipService,
        owner: Owner,
        reports: Reports,
        links: Links,
        lookup: Lookup,
        netcheck: NetcheckService,
        traffic: Traffic,
        seams: Seams,
        *,
        isolation: Callable[[], str],
        draining: Callable[[], bool],
        environments: Callable[[], list[EnvironmentRow]],
        charter: Callable[[], Json],
    ) -> None:
        self._me = me
        self._mesh_name = mesh_name
        self._membership = membership
        self._owner = owner
        self._reports = reports
        self._links = links
        self._lookup = lookup
        self._netcheck = netcheck
        self._traffic = traffic
        self._seams = seams
        self._isolation = isolation
        self._draining = draining
        self._environments = environments
        self._charter = charter

    def welcome(self) -> Welcome:
        """The answer to a program's hello."""
        return Welcome(PROTOCOL_VERSION, self._me.node, self._me.mesh, self._name(self._me.node), __version__)

    def why_not_submit(self) -> Denial | None:
        """Why no job is taken from this machine's users; None if one is."""
        if self._draining():
            return Denial(DenialCode.DRAINING, "this daemon is draining and takes no new jobs: submit on another node")
        if Role.SUBMITTER not in self._me.roles:
            return Denial(
                DenialCode.NOT_A_SUBMITTER,
                "this node's certificate has no role submitter: join with a token made by `meshd invite --role "
                "worker,submitter`",
            )
        return None

    def why_not_touch(self, context: JobContext | None, uid: int) -> Denial | None:
        """Why this user may not read or cancel the job; None if they may."""
        if context is None:
            return Denial(DenialCode.NO_SUCH_JOB, "this node has no such job: `meshd jobs` lists what it has")
        if uid not in (context.submitter.uid, _ROOT_UID, os.getuid()):
            return Denial(DenialCode.NOT_YOURS, f"the job belongs to user {context.submitter.uid}")
        return None

    async def inquire(self, ask: Ask) -> Answer | Denial:
        """Answer one of the `INQUIRIES`; each is bounded in time."""
        found: object = await (
            self._lookup.find(ask.text) if ask.question is Question.LOOKUP else self._netcheck.check()
        )
        return found if isinstance(found, Denial) else Answer(json.dumps(found).encode())

    def answer(self, ask: Ask, uid: int) -> Answer | Denial:
        """Answer one question of a local user at once."""
        match ask.question:
            case Question.STATUS:
                found: object = self._status()
            case Question.PEERS:
                found = self._peers()
            case Question.JOBS:
                newest = self._owner.jobs()[-JOBS_LISTED:]
                found = [_job(job, self._seams.monotonic(), self._seams.wall()) for job in newest]
            case Question.JOB | Question.WHY:
                return self._about_job(ask, uid)
            case Question.LOOKUP | Question.NETCHECK:
                raise AssertionError("whoever asks others is asked by `inquire`")
            case _:
                assert_never(ask.question)
        return Answer(json.dumps(found).encode())

    def _about_job(self, ask: Ask, uid: int) -> Answer | Denial:
        job = JobId(ask.job)
        summary = next((each for each in self._owner.jobs() if each.job == job), None)
        if summary is None:
            return Denial(DenialCode.NO_SUCH_JOB, "this node has no such job: `meshd jobs` lists what it has")
        if uid not in (summary.submitter.uid, _ROOT_UID, os.getuid()):
            return Denial(DenialCode.NOT_YOURS, f"the job belongs to user {summary.submitter.uid}"[:REASON_CHARS_MAX])
        now = self._seams.monotonic()
        found = _job(summary, now, self._seams.wall())
        found["why"] = self._owner.why(job, ask.index if ask.index >= 0 else None, now)
        reports = [each for each in self._reports.of(job) if ask.index in (-1, each.unit)]
        found["disagreements"] = [self._disagreement(report) for report in reports]
        return Answer(json.dumps(found).encode())

    def _status(self) -> Json:
        members = self._membership.members()
        alive = [member for member in members if member.state is MemberState.ALIVE]
        operators = {member.certified.operator for member in members}
        own = self._membership.member(self._me.node)
        return {
            "mesh": to_text(self._me.mesh),
            "mesh_name": self._mesh_name,
            "node": to_text(self._me.node),
            "name": self._name(self._me.node),
            "state": "draining" if self._draining() else "ready",
            "peers": sum(member.node != self._me.node for member in alive),
            "version": __version__,
            "operator": self._me.operator,
            "roles": sorted(self._me.roles),
            "voters": "nodes" if len(operators) == 1 else "operators",
            "isolation": self._isolation(),
            "environments": list(map(_environment, self._environments())),
            "cage": None if own is None else _cage(own.offer),
            "charter": self._charter(),
            # Once it is renewed, it is first published.
            "certificate_expires": (self._me if own is None else own.certified).not_after,
            "sent": {
                kind: {"messages": messages, "bytes": size}
                for kind, (messages, size) in self._traffic.by_kind().items()
            },
        }

    def _peers(self) -> list[Json]:
        windows = {each.node: each for each in self._owner.executors()}
        return [self._peer(member, windows.get(member.node)) for member in self._membership.members()]

    def _peer(self, member: Member, window: ExecutorSummary | None) -> Json:
        now = self._seams.monotonic()
        link = self._links.link(member.node)
        offer = member.offer
        load: Load | None = None
        return {
            "node": to_text(member.node),
            "name": member.core.name,
            "state": member.state.value,
            "operator": member.certified.operator,
            "addresses": list(member.core.addresses),
            "roles": sorted(member.certified.roles),
            "cpus": None if offer is None else offer.cpu_milli / 1_000,
            "memory_bytes": None if offer is None else offer.memory_bytes,
            "gpus": []
            if offer is None
            else [{"model": gpu.model, "memory_bytes": gpu.memory_bytes} for gpu in offer.gpus],
            "slots": None if offer is None else offer.slots,
            "load": _fullness(load, offer, window),
            "queued": None if load is None else load.queued,
            "granted": None if window is None else window.window_units,
            "doubt": "" if window is None else window.doubt,
            "rtt_ms": 0.0 if member.node == self._me.node else _milliseconds(link.rtt_s if link else None),
            "since": round(self._seams.wall() - (now - member.since), 3),
            "version": member.core.release,
            "record": [member.version.epoch, member.version.sequence],
            "self": member.node == self._me.node,
        }

    def _disagreement(self, report: Report) -> Json:
        return {
            "unit": report.unit,
            "accepted": None if report.accepted is None else report.accepted.hex(),
            "votes": [
                {"node": to_text(node), "name": self._name(node), "agreed": agreed, "digest": digest.hex()}
                for node, digest, agreed in report.votes
            ],
            # Once each, however many voted for it: the answer is as large as what is kept, and a third more in base64.
            "results": {digest.hex(): _said(said) for digest, said in report.said.items()},
        }

    def _name(self, node: NodeId) -> str:
        member = self._membership.member(node)
        return "" if member is None else member.core.name


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000, 3)


def _fullness(load: Load | None, offer: Offer | None, window: ExecutorSummary | None) -> float | None:
    """How many of a node's workers are busy, by its own word; else how much of what it granted us our units fill."""
    if load is not None and offer is not None:
        return load.running / max(1, offer.slots)
    return None if window is None else window.held_units / max(1, window.window_units)


def _cage(offer: Offer | None) -> Json | None:
    """What this node's cages keep, as it tells everybody; no layers before it is known."""
    if offer is None:
        return None
    return {
        "level": offer.cage.name.lower().replace("_", "-"),
        "layers": [{"name": layer.name, "active": layer.active} for layer in offer.layers],
    }


def _environment(row: EnvironmentRow) -> Json:
    return {
        "digest": row.digest.hex(),
        "packages": row.packages,
        "state": row.state,
        "seconds": round(row.seconds, 1),
    }


def _job(job: JobSummary, now: float, wall: float) -> Json:
    return {
        "id": to_text(job.job),
        "name": job.name,
        "state": job.state,
        "uid": job.submitter.uid,
        "units": job.units,
        "done": job.done,
        "failed": job.failed,
        "cancelled": job.cancelled,
        "waiting": job.waiting,
        "running": job.running,
        "copies": job.copies,
        "shares": {to_text(node): count for node, count in job.shares.items()},
        "outvoted": {to_text(node): count for node, count in job.outvoted.items()},
        "disagreed": job.disagreed,
        "created": round(wall - (now - job.created), 3),
        "ended": None if job.ended is None else round(wall - (now - job.ended), 3),
    }


def _said(said: Said) -> Json:
    return {
        "status": said.status.name.lower(),
        "bytes": said.size,
        "value": None if said.value is None else base64.b64encode(said.value).decode(),
    }
