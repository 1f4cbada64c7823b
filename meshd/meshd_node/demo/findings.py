"""What the demo found out, as values: shown to people by `screen`, to programs as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from meshd_sdk.disagreements import Disagreement


@dataclass(frozen=True, slots=True)
class Lie:
    """One result of the liar that was outvoted: where it differed most from what was accepted, and by whom."""

    file: str
    identifier: str
    claimed: int
    accepted: int
    outvoted_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What one node contributed: results that were accepted or agreed with it, and results that were outvoted."""

    name: str
    node: str
    liar: bool
    accepted: int
    outvoted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The whole demo. `wrong` are files whose accepted counts differ from those counted here."""

    python: str
    files: int
    source_bytes: int
    top: list[tuple[str, int]]
    recounted: list[tuple[str, int]]
    wrong: int
    shares: list[Share]
    lie: Lie | None
    job_s: float
    total_s: float

    @property
    def agrees(self) -> bool:
        """Whether everything that the mesh said is right."""
        return self.wrong == 0 and self.top == self.recounted

    @property
    def lies(self) -> int:
        """How many results of the liar were outvoted."""
        return sum(share.outvoted for share in self.shares if share.liar)

    @property
    def results(self) -> int:
        """How many results nodes sent."""
        return sum(share.accepted + share.outvoted for share in self.shares)

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return {
            "python": self.python,
            "files": self.files,
            "source_bytes": self.source_bytes,
            "top": [{"identifier": name, "count": count} for name, count in self.top],
            "recount_agrees": self.agrees,
            "wrong_accepted": self.wrong,
            "lies_outvoted": self.lies,
            "lie": None if self.lie is None else asdict(self.lie),
            "nodes": [asdict(share) for share in self.shares],
            "results": self.results,
            "job_s": round(self.job_s, 3),
            "total_s": round(self.total_s, 3),
            "files_per_s": round(self.files / self.job_s, 1),
        }


def plainest_lie(disagreements: Sequence[Disagreement], files: Sequence[str], liar: str) -> Lie | None:
    """Of the liar's outvoted results the one that is the furthest off; None if there is none."""
    lies = [
        lie
        for disagreement in disagreements
        for vote in disagreement.outvoted
        if vote.name == liar and (lie := _lie(disagreement, vote.value, files)) is not None
    ]
    return max(lies, key=lambda lie: abs(lie.claimed - lie.accepted), default=None)


def _lie(disagreement: Disagreement, claimed: object, files: Sequence[str]) -> Lie | None:
    accepted = disagreement.accepted
    if not isinstance(claimed, dict) or not isinstance(accepted, dict):
        return None
    names = (name for name in claimed.keys() | accepted.keys() if claimed.get(name, 0) != accepted.get(name, 0))
    name = max(names, key=lambda name: (abs(claimed.get(name, 0) - accepted.get(name, 0)), str(name)))
    honest = tuple(vote.name for vote in disagreement.votes if vote.agreed)
    return Lie(files[disagreement.unit], str(name), claimed.get(name, 0), accepted.get(name, 0), honest)
