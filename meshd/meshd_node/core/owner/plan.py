"""A job's policy as a rule: how many copies of a unit, how many voters must agree, and whose single word is enough."""

from dataclasses import dataclass
from enum import Enum

from meshd_node.core.owner.unit import Trial
from meshd_protocol.ids import Digest
from meshd_protocol.limits import REPLICAS_MAX
from meshd_protocol.records import Policy


class Trust(Enum):
    """Whose word counts."""

    QUORUM = "a quorum of voters, trusted or not"
    TRUSTED_FIRST = "a trusted node's, or else a quorum's"
    TRUSTED_ONLY = "a trusted node's and no other"


@dataclass(frozen=True, slots=True)
class Plan:
    """`copies` are started at once; on disagreement more follow, up to `votes_max` votes."""

    trust: Trust
    copies: int
    quorum: int
    votes_max: int
    failures_max: int
    pure: bool

    def believes_alone(self, trusted: bool) -> bool:
        """Whether one copy from such a node is a verdict."""
        return self.quorum == 1 if self.trust is Trust.QUORUM else trusted

    def verdict(self, trial: Trial) -> Digest | None:
        """The digest that is accepted: a trusted vote's where that is enough, else one with a quorum of voters."""
        if self.trust is not Trust.QUORUM:
            for vote in trial.votes:
                if vote.trusted:
                    return vote.digest
        believed = self.trust is not Trust.TRUSTED_ONLY and trial.agreed >= self.quorum
        return trial.leader if believed else None

    def hopeless(self, trial: Trial) -> bool:
        """Whether the votes that may still be asked for can not make a quorum any more."""
        return trial.agreed + self.votes_max - len(trial.votes) < self.quorum

    def missing(self, trial: Trial) -> int:
        """How many more attempts should run now."""
        running = len(trial.running)
        if self.trust is Trust.TRUSTED_ONLY:
            return 1 - running
        if self.trust is Trust.TRUSTED_FIRST and any(grant.executor.trusted for grant in trial.running.values()):
            return 0
        wanted = max(self.copies - len(trial.votes), self.quorum - trial.agreed)
        return min(wanted, self.votes_max - len(trial.votes)) - running


def plan_of(policy: Policy, copies_extra: int) -> Plan:
    """Read a policy. A unit that is not pure is never copied, so only a trusted node's or an explicit 1 will do."""
    if policy.replicas == 0 and policy.quorum == 0:
        trust, copies, quorum = Trust.TRUSTED_FIRST, 2, 2
    else:
        quorum = policy.quorum or policy.replicas // 2 + 1
        trust, copies = Trust.QUORUM, max(policy.replicas, quorum)
    if not policy.pure and copies > 1:
        trust, copies, quorum = Trust.TRUSTED_ONLY, 1, 1
    votes_max = 1 if not policy.pure else max(copies, min(copies + copies_extra, REPLICAS_MAX))
    return Plan(trust, copies, quorum, votes_max, policy.failures_max, policy.pure)
