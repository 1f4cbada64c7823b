"""Words for people about attempts and votes, cut to what a message carries."""

from typing import Final

from meshd_node.core.owner.unit import Trial, Vote
from meshd_protocol.ids import Digest, NodeId, to_text
from meshd_protocol.limits import TRACEBACK_CHARS_MAX

_ADVICE = (
    ". Each copy gave another result: does the function use random numbers, the time or the order of a set? Seed it"
)


# Of lines that say the same of one node after the other. The mesh may have thousands.
_ALIKE_MAX: Final = 8


def few(lines: list[str], rest: str) -> list[str]:
    """The first of lines that are alike, and how many more there are; `rest` says of what."""
    more = len(lines) - _ALIKE_MAX
    return lines if more <= 1 else [*lines[:_ALIKE_MAX], f"and {more} more {rest}"]


def short(node: NodeId) -> str:
    """A node's id as far as people read it."""
    return to_text(node)[:8]


def failures_reason(trial: Trial) -> str:
    """Every failure of a unit: where and why."""
    count = len(trial.failures)
    tale = "; ".join(f"{short(failure.node)}: {failure.reason}" for failure in trial.failures)
    return f"failed {count} time{'s' if count > 1 else ''} ({tale})"[:TRACEBACK_CHARS_MAX]


def disagreement_reason(quorum: int, trial: Trial) -> str:
    """Who said what, when no quorum agrees."""
    said = f"no {quorum} of {len(trial.votes)} copies agree: {camps(trial.votes)}"[: TRACEBACK_CHARS_MAX - len(_ADVICE)]
    return said + (_ADVICE if len(trial.results) == len(trial.votes) else "")


def camps(votes: list[Vote]) -> str:
    """The votes by what they say."""
    said: dict[Digest, list[str]] = {}
    for vote in votes:
        said.setdefault(vote.digest, []).append(short(vote.node))
    return "; ".join(f"{digest.hex()[:12]} from {', '.join(nodes)}" for digest, nodes in said.items())
